//! A process that can open nothing any more. A test of its own: the limit is that of the process.

use std::fs::File;

use bulkhead_memory::{Faults, Kernel};
use rustix::process::{Resource, getrlimit, setrlimit};

#[test]
fn memory_is_seen_also_when_no_file_can_be_opened() {
    let kernel = Kernel::here();
    let mut faults = Faults::default();
    let before = kernel.read(&mut faults);
    assert_eq!(faults.take_new(), []);
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = Some(256);
    setrlimit(Resource::Nofile, limit).unwrap();
    let held: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    assert!(held.len() < 256 && File::open("/proc/meminfo").is_err());
    let after = kernel.read(&mut faults);
    assert_eq!(faults.take_new(), []);
    let known = |reading: bulkhead_memory::Reading| {
        [
            reading.rss_bytes,
            reading.oom_kills,
            reading.group_oom_kills,
            reading.limit.map(|limit| limit.bytes),
            reading.available_bytes,
        ]
        .map(|figure| figure.is_some())
    };
    assert_eq!(known(before), known(after));
    assert!(after.rss_bytes > Some(0));
}
