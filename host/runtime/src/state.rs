//! What a store holds.

use std::sync::Arc;

use bulkhead_model::AgentSpec;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::{FsPerms, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use crate::headroom::Headroom;
use crate::interfaces::http::Outbound;
use crate::interfaces::stdio::LineStream;
use crate::limiter::Limiter;
use crate::logs::Logs;
use crate::meter::Meter;
use crate::port::Port;
use crate::runtime::Birth;

pub(crate) struct State {
    wasi: WasiCtx,
    http: WasiHttpCtx,
    outbound: Outbound,
    table: ResourceTable,
    pub limiter: Limiter,
    pub meter: Arc<Meter>,
    pub logs: Arc<Logs>,
    pub port: Arc<dyn Port>,
    pub spec: Arc<AgentSpec>,
}

/// What all stores share.
#[derive(Clone)]
pub(crate) struct Shared {
    pub tls: Arc<rustls::ClientConfig>,
    /// What all guests together may still grow by.
    pub headroom: Arc<Headroom>,
}

/// Resources (streams, files, requests) that a guest may hold at once.
/// Each may be a file descriptor of the host.
const MAX_RESOURCES: usize = 256;

/// Random bytes that one host call may ask for. The default of 64 MiB would hold its thread.
const MAX_RANDOM_BYTES: u64 = 64 * 1024;

impl State {
    /// Opens the workspace; everything else is in memory.
    pub(crate) fn new(birth: &Birth, shared: &Shared) -> std::io::Result<Self> {
        let logs = Arc::clone(&birth.logs);
        let mut wasi = WasiCtxBuilder::new();
        wasi.stdout(LineStream::stdout(Arc::clone(&logs)))
            .stderr(LineStream::stderr(Arc::clone(&logs)))
            .max_random_size(MAX_RANDOM_BYTES)
            .arg(birth.spec.component.as_ref());
        // The town wins, as it does in `host.config`. An instance cannot be told of a change: the next
        // one begins with it.
        let mut env = birth.spec.env.clone();
        env.extend(birth.port.town_values());
        for (key, value) in &env {
            wasi.env(key, value.expose());
        }
        if let Some(workspace) = &birth.workspace {
            std::fs::create_dir_all(workspace)?;
            wasi.preopened_dir(workspace, "/workspace", FsPerms::ReadWrite)
                .map_err(std::io::Error::other)?;
        }
        let mut table = ResourceTable::new();
        table.set_max_capacity(MAX_RESOURCES);
        Ok(Self {
            wasi: wasi.build(),
            http: WasiHttpCtx::new(),
            outbound: Outbound::new(
                birth.spec.http.clone(),
                Arc::clone(&shared.tls),
                Arc::clone(&logs),
            ),
            table,
            limiter: Limiter::new(
                Arc::clone(&birth.meter),
                Arc::clone(&birth.port),
                Arc::clone(&shared.headroom),
            ),
            meter: Arc::clone(&birth.meter),
            logs,
            port: Arc::clone(&birth.port),
            spec: Arc::clone(&birth.spec),
        })
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { hooks: &mut self.outbound, table: &mut self.table, ctx: &mut self.http }
    }
}
