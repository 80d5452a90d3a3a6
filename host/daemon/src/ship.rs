//! State that travels: restored before anything is opened, and shipped until the end.

use std::path::Path;
use std::sync::Arc;

use bulkhead_log::SharedSink;
use bulkhead_ship::{
    ArchiveError, ArchiveNotice, Archives, Carrier, Notice, Opened, Outbox, Restored, Ship,
    ShipError,
};
use bulkhead_store::{Database, database};
use bulkhead_types::event::{
    ShipAvailable, ShipFailed, ShipRestored, WorkspaceArrived, WorkspaceNotShipped,
    WorkspaceShipped,
};
use bulkhead_types::time::millis;
use bulkhead_types::{AgentId, Event};

use crate::config::Settings;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::signals::Signals;

/// Restores what is newer than this disk. An outer `None`: a signal came first; an inner one: nothing is shipped.
pub async fn restore(
    settings: &Settings,
    unusable: Option<&str>,
    signals: &mut Signals,
) -> Result<Option<Option<Opened>>, Failure> {
    let dir = database::Config::in_state_dir(&settings.state_dir).dir;
    let Some(dir) = dir.filter(|_| !settings.without_store) else { return Ok(Some(None)) };
    let (Some(ship), Some(epoch)) = (&settings.ship, bulkhead_fence::epoch()) else {
        // What this run commits is in no log: a later one that ships must not take this disk for one that is shipped.
        return match bulkhead_ship::forget(&dir) {
            Err(error) if unusable.is_none() => {
                Err(Failure::cannot_run("cannot remove shipped.json", &error))
            }
            _ => Ok(Some(None)),
        };
    };
    let failed = |why: &str| {
        let to = &ship.to;
        Failure::new(
            Exit::CannotRun,
            format!("cannot take over the state of the town from {to}: {why}"),
        )
    };
    if let Some(why) = unusable {
        return Err(failed(why));
    }
    // There is no log yet, and the lease is held meanwhile.
    let tried_again = |error: &ShipError| {
        let (to, patience) = (&ship.to, ship.restore);
        let text = format!(
            "cannot read the state of the town from {to}: {error}; retrying for up to {patience:?} (ship.restore_ms)"
        );
        eprintln!("bulkhead: {}", bulkhead_printable::lines(&text));
    };
    tokio::select! {
        _ = signals.next() => Ok(None),
        opened = bulkhead_ship::open(ship.clone(), epoch, &dir, tried_again) => match opened {
            Ok(opened) => Ok(Some(Some(opened))),
            Err(error) => Err(failed(&error.to_string())),
        },
    }
}

/// Ships workspaces, where the configuration says so.
pub fn archives(
    opened: Option<&mut Opened>,
    folder: &Path,
    sink: SharedSink,
) -> Result<Option<(Archives, Carrier)>, Failure> {
    let notify = move |agent: &AgentId, notice| sink.record(event(agent.clone(), notice));
    let begun = match opened {
        Some(opened) => opened.archives(folder, notify),
        None => Ok(None),
    };
    let begun = begun.map_err(|error| Failure::cannot_run("cannot ship workspaces", &error))?;
    if begun.is_none()
        && let Err(error) = bulkhead_ship::go_on_without_archives(folder)
    {
        // Older archives may be taken for newer when workspaces are shipped again.
        tracing::warn!(%error, "cannot record that workspaces are used without being shipped");
    }
    Ok(begun)
}

fn event(agent_id: AgentId, notice: ArchiveNotice) -> Event {
    match notice {
        ArchiveNotice::Shipped(shipped) => Event::WorkspaceShipped(WorkspaceShipped {
            agent_id,
            bytes: shipped.bytes,
            packed_bytes: shipped.packed_bytes,
            entries: shipped.entries,
            skipped: shipped.skipped,
            duration_ms: millis(shipped.took),
        }),
        ArchiveNotice::NotShipped(error) => {
            let (bytes, limit_bytes) = match &error {
                ArchiveError::TooLarge { bytes, limits, .. } => (Some(*bytes), Some(limits.bytes)),
                _ => (None, None),
            };
            Event::WorkspaceNotShipped(WorkspaceNotShipped {
                agent_id,
                code: error.code().to_owned(),
                message: error.to_string(),
                bytes,
                limit_bytes,
            })
        }
        ArchiveNotice::Arrived(arrived) => Event::WorkspaceArrived(WorkspaceArrived {
            agent_id,
            bytes: arrived.bytes,
            entries: arrived.entries,
            duration_ms: millis(arrived.took),
            kept_as: arrived.kept_as.map(|path| path.display().to_string()),
        }),
    }
}

/// Ships what is committed, and says what was restored.
pub fn begin(opened: Opened, database: &Arc<Database>, sink: SharedSink) -> Result<Ship, Failure> {
    let from = opened.place();
    let event = |state, (segments, bytes, duration_ms), complete, kept_as| {
        Event::ShipRestored(ShipRestored {
            from,
            state,
            segments,
            bytes,
            duration_ms,
            complete,
            kept_as,
        })
    };
    sink.record(match &opened.restored {
        Restored::Nothing => event("nothing", (0, 0, 0), true, None),
        Restored::Kept => event("disk", (0, 0, 0), true, None),
        Restored::From { segments, bytes, took, ended, set_aside } => {
            let kept_as = set_aside.as_ref().map(|path| path.display().to_string());
            event("shipped", (*segments, *bytes, millis(*took)), *ended, kept_as)
        }
    });
    let database = Arc::downgrade(database);
    let copy = move |outbox: &Outbox| match database.upgrade() {
        Some(database) => database.copy(|| outbox.is_copied()),
        None => Ok(None),
    };
    let notify = move |notice| match notice {
        Notice::Failing { error } => {
            sink.record(Event::ShipFailed(ShipFailed { message: error.to_string() }))
        }
        Notice::Shipping { down } => {
            sink.record(Event::ShipAvailable(ShipAvailable { down_ms: millis(down) }))
        }
        Notice::Untidy { error } => tracing::warn!(%error, "what was shipped is not put in order"),
        Notice::Tidy => tracing::info!("what was shipped is in order again"),
        // The init process says the rest.
        Notice::Fenced { .. } => bulkhead_fence::close(),
    };
    opened
        .begin(Box::new(copy), notify)
        .map_err(|error| Failure::cannot_run("cannot ship the state of the town", &error))
}
