//! What a record in the black box costs, and a mark of work at hand, in this process.

use std::time::{Duration, Instant};

use bulkhead_blackbox as blackbox;
use bulkhead_blackbox::{BlackBox, Geometry, Kind, Run, Work};

use crate::samples::Samples;

/// Appends of the measurement.
pub const APPENDS: usize = 1_000_000;

/// Reading the clock costs as much as an append, so it is read once for so many.
const BATCH: usize = 100;

/// The mean of each batch of appends, with a payload of 100 bytes.
pub fn appends() -> Samples {
    let dir = tempfile::tempdir().expect("a directory");
    let blackbox = open(dir.path());
    let payload = [b'x'; 100];
    each(|| {
        blackbox.append(Kind::AgentExit, &payload);
    })
}

/// The mean of each batch of turns that begin and end.
pub fn turns() -> Samples {
    let dir = tempfile::tempdir().expect("a directory");
    let in_flight = open(dir.path()).in_flight();
    let work = Work {
        agent_id: "an-agent".into(),
        incarnation: 7,
        phase: "handle".into(),
        message_id: Some("msg-01234567-1234".into()),
    };
    each(|| drop(in_flight.begin(&work)))
}

fn open(dir: &std::path::Path) -> BlackBox {
    blackbox::open(dir, &Run::default(), Geometry::default()).blackbox.expect("a black box")
}

/// Many in a row, the mean of each batch.
fn each(once: impl Fn()) -> Samples {
    let mut samples = Samples::new();
    let warm_up = APPENDS / BATCH / 10;
    for batch in 0..APPENDS / BATCH + warm_up {
        let began = Instant::now();
        (0..BATCH).for_each(|_| once());
        let each = began.elapsed() / BATCH as u32;
        if batch >= warm_up {
            samples.add(Duration::max(each, Duration::from_nanos(1)));
        }
    }
    samples
}
