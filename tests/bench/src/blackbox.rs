//! What a record in the black box costs, in this process.

use std::time::{Duration, Instant};

use bulkhead_store::blackbox::{self, Geometry, Kind, Run};

use crate::samples::Samples;

/// Appends of the measurement.
pub const APPENDS: usize = 1_000_000;

/// Reading the clock costs as much as an append, so it is read once for so many.
const BATCH: usize = 100;

/// The mean of each batch of appends, with a payload of 100 bytes.
pub fn appends() -> Samples {
    let dir = tempfile::tempdir().expect("a directory");
    let opened = blackbox::open(dir.path(), &Run::default(), Geometry::default());
    let blackbox = opened.blackbox.expect("a black box");
    let payload = [b'x'; 100];
    let mut samples = Samples::new();
    let warm_up = APPENDS / BATCH / 10;
    for batch in 0..APPENDS / BATCH + warm_up {
        let began = Instant::now();
        for _ in 0..BATCH {
            blackbox.append(Kind::AgentExit, &payload);
        }
        let each = began.elapsed() / BATCH as u32;
        if batch >= warm_up {
            samples.add(Duration::max(each, Duration::from_nanos(1)));
        }
    }
    samples
}
