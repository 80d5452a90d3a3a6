//! Sentences about state that travels.

use bulkhead_types::Event;
use bulkhead_types::event::{ShipAvailable, ShipFailed, ShipRestored};

use super::{Sentence, Who, ms, quoted};
use crate::words::counted;

pub(super) fn of(event: &Event) -> Option<Sentence<'_>> {
    let said = |text: String| Sentence::new(Who::Host, text);
    let sentence = match event {
        Event::ShipRestored(ShipRestored {
            from,
            state,
            segments,
            duration_ms,
            complete,
            kept_as,
            ..
        }) => match *state {
            "shipped" => {
                let segments = counted(*segments as usize, "segment");
                let lost = match complete {
                    true => "",
                    false => "; what its last run did not ship is lost",
                };
                let aside = kept_as.as_ref().map_or_else(String::new, |path| {
                    format!("; the database of this disk is kept as {}", quoted(path))
                });
                said(format!(
                    "restored its state from {segments} of {from} in {}{lost}{aside}",
                    ms(*duration_ms)
                ))
            }
            "disk" => said(format!("goes on with the state of its disk, and ships it to {from}"))
                .detail_if(true),
            _ => said(format!("ships its state to {from}")).detail_if(true),
        },
        Event::ShipFailed(ShipFailed { message }) => {
            said(format!("cannot ship its state: {}", quoted(message)))
        }
        Event::ShipAvailable(ShipAvailable { down_ms }) => {
            said(format!("ships its state again, after {}", ms(*down_ms)))
        }
        _ => return None,
    };
    Some(sentence)
}
