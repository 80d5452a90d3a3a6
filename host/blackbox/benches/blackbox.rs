//! A record in the black box, by its size.

use bulkhead_blackbox as blackbox;
use bulkhead_blackbox::{Geometry, Kind, Run};
use divan::{Bencher, black_box};

fn main() {
    divan::main();
}

#[divan::bench(args = [10, 100, 1000])]
fn append(bencher: Bencher<'_, '_>, bytes: usize) {
    let dir = tempfile::tempdir().expect("a directory");
    let opened = blackbox::open(dir.path(), &Run::default(), Geometry::default());
    let blackbox = opened.blackbox.expect("a black box");
    let payload = vec![b'x'; bytes];
    bencher.bench_local(|| blackbox.append(Kind::AgentExit, black_box(&payload)));
}
