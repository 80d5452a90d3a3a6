//! `wasi:http/types.[method]incoming-body.stream`, before that of `wasmtime-wasi-http`.
//!
//! The resource table does not show which of its streams read a file and which a response. The latter are
//! counted here, because what they hold is held by their requests, and one that was read to its end holds
//! nothing, however long the guest keeps its handle.

use bytes::Bytes;
use wasmtime::component::{Linker, Resource};
use wasmtime_wasi::p2::{DynInputStream, InputStream, Pollable, StreamResult};
use wasmtime_wasi_http::WasiHttpView;
use wasmtime_wasi_http::p2::body::{HostIncomingBody, HostIncomingBodyStream};

use crate::host_call;
use crate::resources::BodyStreams;
use crate::state::State;

/// The interface as `wasmtime-wasi-http` names it. A test keeps more streams than an agent may have open.
const INTERFACE: &str = "wasi:http/types@0.2.12";

/// What the host call is called, as those are whose bindings are generated.
const NAME: &str = "wasi:http/types.[method]incoming-body.stream";

/// Replaces the linked function with this one.
pub(crate) fn replace(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    linker.instance(INTERFACE)?.func_wrap(
        "[method]incoming-body.stream",
        |mut store, (body,): (Resource<HostIncomingBody>,)| {
            host_call::name(NAME);
            let state = store.data_mut();
            let counted = state.body_streams.clone();
            let table = state.http().table;
            let Some(stream) = table.get_mut(&body)?.take_stream() else { return Ok((Err(()),)) };
            let stream: DynInputStream = Box::new(BodyStream { stream, _counted: counted });
            Ok((Ok(table.push_child(stream, &body)?),))
        },
    )?;
    linker.allow_shadowing(false);
    Ok(())
}

struct BodyStream {
    stream: HostIncomingBodyStream,
    _counted: BodyStreams,
}

impl InputStream for BodyStream {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        self.stream.read(size)
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for BodyStream {
    async fn ready(&mut self) {
        self.stream.ready().await;
    }
}
