//! The engine that runs guests as WASI components: [`bulkhead_runtime`].

use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bulkhead_runtime::{
    CallLimits, Incarnation, InstanceContext, LoadError, Loaded, PendingDump, Runtime,
    ShutdownReason, Snapshot, StartInfo, Symbolizing, TrappedStore,
};
use bulkhead_source::Source;
use bulkhead_types::{Digest, Exception, Frames, Message, Outcome};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::runtime::Handle;

use super::{
    BoxCall, Call, CallEnd, Code, Component, Engine, EngineFacts, Instance, Mapping, SnapshotBytes,
};

/// A component, and the runtime that makes instances of it.
struct WasmComponent {
    runtime: Arc<Runtime>,
    loaded: Arc<Loaded>,
    source: Option<Arc<Source>>,
}

/// A call of the runtime whose result is another type here.
struct WasmCall<T: Send + 'static, U> {
    call: bulkhead_runtime::Call<T>,
    map: fn(T) -> U,
}

struct WasmSnapshot(Snapshot);

impl AsRef<[u8]> for WasmSnapshot {
    fn as_ref(&self) -> &[u8] {
        self.0.bytes()
    }
}

impl Engine for Runtime {
    fn facts(&self) -> EngineFacts {
        let capacity = self.capacity();
        EngineFacts {
            max_agents: capacity.max_agents,
            max_agent_memory_bytes: capacity.max_agent_memory_bytes,
            compile_limit: self.compile_limit(),
            bucket: self.bucket(),
            slow_lane: self.slow_lane().clone(),
        }
    }

    fn fast_lane(&self) -> Handle {
        Runtime::fast_lane(self).clone()
    }

    fn load(
        self: Arc<Self>,
        name: Arc<str>,
        code: Code,
    ) -> BoxFuture<'static, Result<Arc<dyn Component>, LoadError>> {
        let load = async move {
            let loaded = Runtime::load(&self, &name, &code.component).await?;
            let source = match code.source {
                Some(source) => Some(self.source(source).await?),
                None => None,
            };
            Ok(Arc::new(WasmComponent { runtime: self, loaded, source }) as Arc<dyn Component>)
        };
        load.boxed()
    }

    fn compiling_since(&self, path: &Path) -> Option<Instant> {
        Runtime::compiling_since(self, path)
    }

    fn compiling_bytes(&self) -> u64 {
        Runtime::compiling_bytes(self)
    }

    fn keep_core(&self, store: TrappedStore, crash_id: &str) -> Option<PendingDump> {
        Some(self.core_dumps()?.keep(store, crash_id))
    }
}

impl Component for WasmComponent {
    fn digest(&self) -> Digest {
        self.loaded.digest
    }

    fn source_digest(&self) -> Option<Digest> {
        self.source.as_ref().map(|source| source.digest())
    }

    fn is_program(&self) -> bool {
        self.loaded.is_program()
    }

    fn initial_memory_bytes(&self) -> u64 {
        self.loaded.initial_memory_bytes
    }

    fn instantiate(
        &self,
        instance_context: Arc<InstanceContext>,
        limits: CallLimits,
    ) -> BoxCall<()> {
        same(self.runtime.instantiate(&self.loaded, self.source.clone(), instance_context, limits))
    }

    fn mapped_to_sources(&self, exceptions: &[Exception]) -> Option<Mapping> {
        let source = self.source.as_ref().filter(|source| source.has_source_maps())?;
        let (runtime, source) = (Arc::clone(&self.runtime), Arc::clone(source));
        let exceptions = exceptions.to_vec();
        Some(async move { runtime.mapped_to_sources(source, exceptions).await }.boxed())
    }

    fn symbolize(&self, frames: &Frames) -> Option<Symbolizing> {
        let Loaded { digest, path, .. } = &*self.loaded;
        Some(self.runtime.symbolizer().symbolize(*digest, path, frames))
    }
}

impl Instance for Incarnation {
    fn is_command(&self) -> bool {
        Incarnation::is_command(self)
    }

    fn start(self: Box<Self>, info: StartInfo, limits: CallLimits) -> BoxCall<()> {
        same(Incarnation::start(*self, info, limits))
    }

    fn handle(self: Box<Self>, message: &Message, limits: CallLimits) -> BoxCall<Outcome> {
        same(Incarnation::handle(*self, message, limits))
    }

    fn snapshot(self: Box<Self>, limits: CallLimits) -> BoxCall<SnapshotBytes> {
        let call = Incarnation::snapshot(*self, limits);
        Box::new(WasmCall { call, map: |snapshot| Box::new(WasmSnapshot(snapshot)) as _ })
    }

    fn restore(self: Box<Self>, snapshot: Vec<u8>, limits: CallLimits) -> BoxCall<()> {
        same(Incarnation::restore(*self, snapshot, limits))
    }

    fn shutdown(self: Box<Self>, reason: ShutdownReason, limits: CallLimits) -> BoxCall<()> {
        same(Incarnation::shutdown(*self, reason, limits))
    }

    fn run(self: Box<Self>, limits: CallLimits) -> BoxCall<()> {
        same(Incarnation::run(*self, limits))
    }
}

fn same<T: Send + 'static>(call: bulkhead_runtime::Call<T>) -> BoxCall<T> {
    Box::new(WasmCall { call, map: |result: T| result })
}

impl<T: Send + 'static, U> Future for WasmCall<T, U> {
    type Output = CallEnd<U>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<CallEnd<U>> {
        let Self { call, map } = self.get_mut();
        Pin::new(call).poll(cx).map(|end| match end {
            bulkhead_runtime::CallEnd::Returned(instance, result) => {
                CallEnd::Returned(Box::new(instance), result.map(*map))
            }
            bulkhead_runtime::CallEnd::Ended(exit, remains) => CallEnd::Ended(exit, remains),
        })
    }
}

impl<T: Send + 'static, U> Call<U> for WasmCall<T, U> {
    fn end_within(&mut self, time: Duration) {
        self.call.end_within(time);
    }

    fn kill(&self) {
        self.call.kill();
    }
}
