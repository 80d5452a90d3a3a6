//! A guest in this process, without the rest of the host: the runtime as `host/agent` uses it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bulkhead_log::SharedSink;
use bulkhead_runtime::{
    CallEnd, CoreDumpRules, Loaded, Runtime, RuntimeConfig, Symbolization, TrappedStore,
};
use bulkhead_types::{AgentSpec, Exit, Message, Outcome, Sender};
use engine_fixture::{Nobody, instance_context, limits, spec, started};

/// A runtime, and a directory that goes with it.
pub struct Rig {
    pub runtime: Runtime,
    pub dir: tempfile::TempDir,
    tokio: tokio::runtime::Runtime,
}

impl Rig {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("make a directory");
        let config = RuntimeConfig {
            max_agents: 2,
            lane_threads: 1,
            core_dumps: Some(CoreDumpRules::in_dir(dir.path().join("cores"))),
            ..RuntimeConfig::default()
        };
        let runtime =
            Runtime::new(&config, Arc::new(Nobody::default()) as SharedSink).expect("a runtime");
        let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build();
        Self { runtime, dir, tokio: tokio.expect("start tokio") }
    }

    /// Loads what is in `path`.
    pub fn load(&self, path: &Path) -> Arc<Loaded> {
        self.runtime.load_blocking(&"guest".into(), path).expect("load the component")
    }

    /// A copy of a component that the test may change.
    pub fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, bytes).expect("write a component");
        path
    }

    /// Where core dumps go.
    pub fn cores(&self) -> PathBuf {
        self.dir.path().join("cores")
    }

    /// The exit that a message leads to.
    pub fn ends_by(&self, loaded: &Arc<Loaded>, body: &str) -> Exit {
        match self.handle(loaded, body, false) {
            CallEnd::Ended(exit, _) => exit,
            CallEnd::Returned(..) => panic!("it keeps running after {body}"),
        }
    }

    /// The same, with what is left of an agent that wants core dumps.
    pub fn remains(&self, loaded: &Arc<Loaded>, body: &str) -> (Exit, TrappedStore) {
        match self.handle(loaded, body, true) {
            CallEnd::Ended(exit, Some(remains)) => (exit, *remains),
            _ => panic!("{body} leaves nothing"),
        }
    }

    /// What is left of such an agent, if anything is.
    pub fn try_remains(&self, loaded: &Arc<Loaded>, body: &str) -> Option<Box<TrappedStore>> {
        match self.handle(loaded, body, true) {
            CallEnd::Ended(_, remains) => remains,
            CallEnd::Returned(..) => None,
        }
    }

    fn handle(&self, loaded: &Arc<Loaded>, body: &str, core_dump: bool) -> CallEnd<Outcome> {
        let message = Message::new("m-1", Sender::Operator, body);
        let spec = AgentSpec { core_dump, ..spec("guest") };
        self.tokio.block_on(async {
            let incarnation = started(&self.runtime, loaded, instance_context(spec)).await;
            incarnation.handle(&message, limits()).await
        })
    }

    /// Files and lines of an exit.
    pub fn symbolize(&self, loaded: &Loaded, exit: &Exit) -> Arc<Symbolization> {
        let Loaded { digest, path, .. } = loaded;
        self.runtime.symbolizer().symbolize(*digest, path, &exit.frames).wait()
    }
}
