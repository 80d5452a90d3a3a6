//! The seam between an agent's task and the engine that runs its guest.
//!
//! ```text
//!   Engine::load ──▶ Component::instantiate ──▶ Instance ── start, handle, ... ──▶ Call
//!                                                  ▲                                │
//!                                                  └────── CallEnd::Returned ───────┤
//!                                                          CallEnd::Ended(exit) ◀───┘
//! ```
//!
//! Each call consumes the instance and gives it back only when the guest returned. Trait objects, so that nothing
//! above the seam is generic: a call allocates two small boxes more for it, and its store costs as much as before.
//! `engine/wasm.rs` implements it with the runtime, the tests of the actor with a script.

mod wasm;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bulkhead_runtime::{
    AgentFailure, CallLimits, InstanceContext, LoadError, PendingDump, ShutdownReason, StartInfo,
    Symbolizing, TrappedStore,
};
use bulkhead_source::SourceCode;
use bulkhead_tasks::BucketRules;
use bulkhead_types::{Digest, Exception, Exit, Frames, Message, Outcome};
use futures_util::future::BoxFuture;
use tokio::runtime::Handle;

/// What an engine was built for. It does not change.
#[derive(Debug, Clone)]
pub struct EngineFacts {
    /// Live agents that fit.
    pub max_agents: usize,
    /// Largest memory of one agent, in bytes.
    pub max_agent_memory_bytes: u64,
    /// How long a start waits for its component.
    pub compile_limit: Duration,
    /// What an agent may burn before its task leaves the fast lane.
    pub bucket: BucketRules,
    /// Where tasks run that are not to hold up any other.
    pub slow_lane: Handle,
}

/// Loads components.
pub trait Engine: Send + Sync + 'static {
    /// What it was built for.
    fn facts(&self) -> EngineFacts;

    /// Where the next agent's task runs: on one thread of the fast lane after the other.
    fn fast_lane(&self) -> Handle;

    /// Loads what an agent is made from. Dropping the future gives up.
    fn load(
        self: Arc<Self>,
        name: Arc<str>,
        code: Code,
    ) -> BoxFuture<'static, Result<Arc<dyn Component>, LoadError>>;

    /// Since when the component in `path` is compiled. `None` when it is not.
    fn compiling_since(&self, path: &Path) -> Option<Instant>;

    /// Bytes that processes may take now that compile components, all together.
    fn compiling_bytes(&self) -> u64;

    /// Writes the core dump of a crash. `None`: core dumps are off.
    fn keep_core(&self, store: TrappedStore, crash_id: &str) -> Option<PendingDump>;
}

/// Where that is what an agent is made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Code {
    /// The file of its component.
    pub component: PathBuf,
    /// The source code that the component runs, if it is a runner.
    pub source: Option<SourceCode>,
}

impl From<PathBuf> for Code {
    fn from(component: PathBuf) -> Self {
        Self { component, source: None }
    }
}

/// Exceptions with the places of their sources, to come. `None`: it could not be done.
pub type Mapping = BoxFuture<'static, Option<Vec<Exception>>>;

/// A component that is loaded, with the source code for it.
pub trait Component: Send + Sync {
    /// Of its file.
    fn digest(&self) -> Digest;

    /// Of its source code, if it is a runner's.
    fn source_digest(&self) -> Option<Digest>;

    /// Of all that an agent is made from: changes with either.
    fn code_digest(&self) -> Digest {
        match self.source_digest() {
            Some(source) => Digest::of_both(self.digest(), source),
            None => self.digest(),
        }
    }

    /// Whether it is a stock program, which runs from its start to its end and has no turns.
    fn is_program(&self) -> bool;

    /// Memory that an instance has from the beginning, in bytes.
    fn initial_memory_bytes(&self) -> u64;

    /// Makes a store and an instance in it.
    fn instantiate(
        &self,
        instance_context: Arc<InstanceContext>,
        limits: CallLimits,
    ) -> BoxCall<()>;

    /// A chain of causes with the places and names of the sources that its code was made from. `None`: its code was not made
    /// from others.
    fn mapped_to_sources(&self, exceptions: &[Exception]) -> Option<Mapping>;

    /// Finds files and lines for frames of it. `None`: the engine has no frames.
    fn symbolize(&self, frames: &Frames) -> Option<Symbolizing>;
}

/// A live instance. It is gone when it is dropped.
pub trait Instance: Send {
    /// Whether it is a stock component, which has [`Instance::run`] and nothing else.
    fn is_command(&self) -> bool;

    /// Calls the guest's `start`.
    fn start(self: Box<Self>, info: StartInfo, limits: CallLimits) -> BoxCall<()>;

    /// Calls the guest's `handle`: a turn.
    fn handle(self: Box<Self>, message: &Message, limits: CallLimits) -> BoxCall<Outcome>;

    /// Calls the guest's `snapshot`.
    fn snapshot(self: Box<Self>, limits: CallLimits) -> BoxCall<SnapshotBytes>;

    /// Calls the guest's `restore`.
    fn restore(self: Box<Self>, snapshot: Vec<u8>, limits: CallLimits) -> BoxCall<()>;

    /// Calls the guest's `shutdown`.
    fn shutdown(self: Box<Self>, reason: ShutdownReason, limits: CallLimits) -> BoxCall<()>;

    /// Runs a stock component from its start to its end.
    fn run(self: Box<Self>, limits: CallLimits) -> BoxCall<()>;
}

/// A call under way. Dropping it drops the instance.
pub trait Call<T>: Future<Output = CallEnd<T>> + Send + Unpin {
    /// Gives the call a grace: it ends as `killed` after `time`, or as before if that is sooner. Poll it again
    /// afterwards.
    fn end_within(&mut self, time: Duration);

    /// Ends the call as soon as possible. Poll it again afterwards.
    fn kill(&self);
}

/// How a call ended.
pub enum CallEnd<T> {
    /// The guest returned, and can be called again.
    Returned(BoxInstance, Result<T, AgentFailure>),
    /// The instance is gone. Its store is there for a core dump when its role asks for one.
    Ended(Exit, Option<Box<TrappedStore>>),
}

/// An [`Instance`] of any engine.
pub type BoxInstance = Box<dyn Instance>;

/// A [`Call`] of any engine.
pub type BoxCall<T> = Box<dyn Call<T>>;

/// What a guest returned from `snapshot`. It counts as the agent's until this is dropped.
pub type SnapshotBytes = Box<dyn AsRef<[u8]> + Send + Sync>;
