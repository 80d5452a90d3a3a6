//! Plain wasmtime-wasi: what a program does where nothing of this host is.

use std::path::Path;
use std::time::Duration;

use harness::files;
use wasmtime::component::{Component, Linker, ResourceTable};
use wasmtime::{Config, Engine, Store};
use wasmtime_wasi::p2::bindings::sync::{Command, CommandPre};
use wasmtime_wasi::p2::pipe::MemoryOutputPipe;
use wasmtime_wasi::{FsPerms, I32Exit, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};
use wasmtime_wasi_http::{
    Error, RequestOptions, Result as HttpResult, WasiBody, WasiHttpCtx, WasiHttpCtxView,
    WasiHttpHooks, WasiHttpView,
};

use super::{Case, ENVIRONMENT, Outcome, Program};

/// Seconds that a program may compute.
const MAX_SECONDS: u64 = 300;

/// More than any program prints, in bytes.
const MAX_OUTPUT: usize = 64 * 1024 * 1024;

/// A program that is ready to run.
pub struct Reference {
    name: String,
    program: CommandPre<State>,
}

struct State {
    wasi: WasiCtx,
    http: WasiHttpCtx,
    hooks: NoWayOut,
    table: ResourceTable,
}

/// Requests are refused, as a role without `http_allow` has it.
struct NoWayOut;

impl Reference {
    pub fn engine() -> Engine {
        let engine = Engine::new(Config::new().epoch_interruption(true)).expect("an engine");
        let weak = engine.weak();
        std::thread::spawn(move || {
            while let Some(engine) = weak.upgrade() {
                engine.increment_epoch();
                drop(engine);
                // A rate: an epoch is a second.
                std::thread::sleep(Duration::from_secs(1));
            }
        });
        engine
    }

    pub fn load(engine: &Engine, program: &Program) -> Self {
        let mut linker = Linker::new(engine);
        wasmtime_wasi::p2::add_to_linker_sync(&mut linker).expect("link WASI");
        wasmtime_wasi_http::p2::add_only_http_to_linker_sync(&mut linker).expect("link HTTP");
        let component = Component::from_file(engine, &program.wasm).expect("compile a program");
        let pre = linker.instantiate_pre(&component).and_then(CommandPre::new);
        Self { name: program.name.clone(), program: pre.expect("a program's world") }
    }

    /// The names of its tests. A program without the standard harness has none.
    pub fn tests(&self) -> Vec<String> {
        let args = ["--list", "--format", "terse"].map(str::to_owned).to_vec();
        let listed = self.run(&Case { args, ..Case::of(&self.name) });
        let lines = listed.stdout.iter();
        lines.filter_map(|line| line.strip_suffix(": test").map(str::to_owned)).collect()
    }

    pub fn run(&self, case: &Case) -> Outcome {
        let workspace = tempfile::tempdir_in(files::target_dir()).expect("make a workspace");
        let [stdout, stderr] = [(); 2].map(|()| MemoryOutputPipe::new(MAX_OUTPUT));
        let wasi = context(&self.name, case, workspace.path(), [&stdout, &stderr]);
        let (http, table) = (WasiHttpCtx::new(), ResourceTable::new());
        let state = State { wasi, http, hooks: NoWayOut, table };
        let mut store = Store::new(self.program.engine(), state);
        store.set_epoch_deadline(MAX_SECONDS);
        let instance: Command = self.program.instantiate(&mut store).expect("instantiate");
        let ended = instance.wasi_cli_run().call_run(&mut store);
        let (well, how) = match ended {
            Ok(Ok(())) => (true, "completed".to_owned()),
            Ok(Err(())) => (false, "failed".to_owned()),
            Err(error) => match error.downcast_ref::<I32Exit>() {
                Some(I32Exit(status)) => (*status == 0, format!("exit {status}")),
                None => (false, format!("{:#}", error.root_cause())),
            },
        };
        let lines = |pipe: MemoryOutputPipe| {
            String::from_utf8_lossy(&pipe.contents()).lines().map(str::to_owned).collect()
        };
        Outcome { well, how, stdout: lines(stdout), stderr: lines(stderr) }
    }
}

/// As the host has it: one directory, one environment, the program's name before its arguments.
fn context(name: &str, case: &Case, workspace: &Path, output: [&MemoryOutputPipe; 2]) -> WasiCtx {
    let mut wasi = WasiCtxBuilder::new();
    wasi.stdout(output[0].clone())
        .stderr(output[1].clone())
        .allow_tcp(false)
        .allow_udp(false)
        .arg(name)
        .args(&case.args)
        .envs(&ENVIRONMENT);
    for (key, value) in &case.env {
        wasi.env(key, value);
    }
    wasi.preopened_dir(workspace, "/workspace", FsPerms::ReadWrite).expect("open the workspace");
    wasi.build()
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { hooks: &mut self.hooks, table: &mut self.table, ctx: &mut self.http }
    }
}

type Driver = Box<dyn Future<Output = HttpResult<()>> + Send>;

impl WasiHttpHooks for NoWayOut {
    fn send_request(
        &mut self,
        _request: hyper::Request<WasiBody>,
        _options: Option<RequestOptions>,
        _sent: Driver,
    ) -> Box<dyn Future<Output = HttpResult<(hyper::Response<WasiBody>, Driver)>> + Send> {
        Box::new(std::future::ready(Err(Error::HttpRequestDenied)))
    }
}
