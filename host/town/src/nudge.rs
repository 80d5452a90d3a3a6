//! A nudge that the town offers.

use bulkhead_api::NudgeRequest;
use bulkhead_api::nudge::{MAX_NAME_BYTES, MAX_NUDGE_BYTES};
use serde::Deserialize;

#[derive(Deserialize)]
pub(crate) struct Nudge {
    pub(crate) nudge_id: String,
    message: String,
    #[serde(default)]
    source: Option<String>,
}

impl Nudge {
    /// What the agent gets of it, within the bounds that nudges have on every way. One whose id is too long could
    /// not be reported as delivered.
    pub(crate) fn request(self) -> Result<NudgeRequest, String> {
        let Self { nudge_id, mut message, source } = self;
        if nudge_id.is_empty() || nudge_id.len() > MAX_NAME_BYTES {
            let length = nudge_id.len();
            return Err(format!("its id has {length} bytes, 1 to {MAX_NAME_BYTES} are taken"));
        }
        let mut source = source.unwrap_or_else(|| "town".to_owned());
        message.truncate(message.floor_char_boundary(MAX_NUDGE_BYTES));
        source.truncate(source.floor_char_boundary(MAX_NAME_BYTES));
        // What was truncated gives its room back.
        message.shrink_to_fit();
        source.shrink_to_fit();
        Ok(NudgeRequest { message, source, nudge_id: Some(nudge_id) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nudge_of_the_town_has_the_bounds_of_any_other() {
        let nudge = |id: usize, message: usize, source: usize| {
            let text = |bytes: usize| "\u{e4}".repeat(bytes / 2);
            let source = Some(text(source));
            Nudge { nudge_id: "i".repeat(id), message: text(message), source }.request()
        };
        let large = nudge(128, 1 << 20, 1 << 20).unwrap();
        assert_eq!((large.message.len(), large.source.len()), (MAX_NUDGE_BYTES, MAX_NAME_BYTES));
        assert!(large.message.capacity() < 2 * MAX_NUDGE_BYTES);
        assert!(nudge(129, 2, 2).unwrap_err().contains("129") && nudge(0, 2, 2).is_err());
    }
}
