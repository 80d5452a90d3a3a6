//! Files that are closed by other threads than the guest's.

use std::sync::mpsc::{SyncSender, sync_channel};

use tokio::runtime::{Builder, Runtime};
use wasmtime_wasi::p2::bindings::filesystem::preopens::Host as _;

use super::*;
use crate::descriptors::Descriptors;
use crate::lanes::blocking;
use crate::port::fake::FakePort;

/// A guest whose one thread that may block is busy until the test lets go of it.
struct Guest {
    state: State,
    root: Resource<Descriptor>,
    descriptors: Arc<Descriptors>,
    runtime: Runtime,
    let_go: SyncSender<()>,
    _dir: tempfile::TempDir,
}

impl Guest {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let descriptors = Descriptors::new(100);
        let (spec, workspace) = (crate::tests::spec(), Some(dir.path().to_owned()));
        let mut state = crate::state::fake::state(
            spec,
            FakePort::default(),
            workspace,
            Arc::clone(&descriptors),
        );
        let root = state.filesystem().get_directories().unwrap().remove(0).0;
        let runtime = Builder::new_current_thread().max_blocking_threads(1).build().unwrap();
        let (let_go, wait) = sync_channel(0);
        runtime.spawn_blocking(move || wait.recv());
        Self { state, root, descriptors, runtime, let_go, _dir: dir }
    }

    fn files(&mut self) -> Files<'_> {
        Files(&mut self.state)
    }

    fn open(&mut self, name: &str) -> Resource<Descriptor> {
        let (root, name) = (same(&self.root), name.to_owned());
        let flags = DescriptorFlags::READ | DescriptorFlags::WRITE;
        let how = OpenFlags::CREATE;
        blocking(|| self.files().open(root, PathFlags::empty(), name, how, flags)).unwrap()
    }

    /// As a guest does in a call.
    fn drop(&mut self, fd: Resource<Descriptor>) {
        let runtime = self.runtime.handle().clone();
        let _inside = runtime.enter();
        HostDescriptor::drop(&mut self.files(), fd).unwrap();
    }

    /// The guest's call is over, and it has no other. Yields how many descriptors count as taken before and after the
    /// threads did what was left.
    fn idle(self) -> (usize, usize) {
        self.state.give_back_descriptors();
        let before = self.descriptors.taken();
        self.let_go.send(()).unwrap();
        // Behind everything else.
        self.runtime.block_on(self.runtime.spawn_blocking(|| {})).unwrap();
        (before, self.descriptors.taken())
    }
}

#[test]
fn what_an_idle_guest_has_closed_is_free_when_its_thread_has_closed_it() {
    let mut guest = Guest::new();
    let (one, _two) = (guest.open("one"), guest.open("two"));
    assert_eq!(guest.descriptors.taken(), 2);
    guest.drop(one);
    assert_eq!(guest.idle(), (2, 1));
}

#[test]
fn what_streams_of_an_idle_guest_had_open_is_free_when_their_threads_are_done() {
    let mut guest = Guest::new();
    let (one, two) = (guest.open("one"), guest.open("two"));
    let reader = guest.files().read_via_stream(same(&one), 0).unwrap();
    let writer = guest.files().append_via_stream(same(&two)).unwrap();
    let runtime = guest.runtime.handle().clone();
    {
        let _inside = runtime.enter();
        let table = guest.state.filesystem().table;
        assert!(table.get_mut(&reader).unwrap().read(10).unwrap().is_empty());
        let writer = table.get_mut(&writer).unwrap();
        writer.check_write().unwrap();
        writer.write("text".into()).unwrap();
    }
    guest.drop(one);
    guest.drop(two);
    let table = guest.state.filesystem().table;
    drop((table.delete(reader).unwrap(), table.delete(writer).unwrap()));
    assert_eq!(guest.idle(), (2, 0));
}

#[test]
fn what_is_open_at_the_end_of_a_guest_is_free_when_it_is_closed() {
    let mut guest = Guest::new();
    guest.open("one");
    let Guest { state, descriptors, runtime, let_go, .. } = guest;
    {
        let _inside = runtime.enter();
        drop(state);
    }
    assert_eq!(descriptors.taken(), 1);
    let_go.send(()).unwrap();
    runtime.block_on(runtime.spawn_blocking(|| {})).unwrap();
    assert_eq!(descriptors.taken(), 0);
}
