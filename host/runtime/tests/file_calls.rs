//! What file calls take here against plain `wasmtime-wasi` that blocks its own thread, by the same component. Wants
//! `just guests`.

#![expect(clippy::unwrap_used, reason = "helpers of tests: a panic is their failure")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bulkhead_log::SharedSink;
use bulkhead_runtime::{CallEnd, InstanceContext, Loaded, Logs, Runtime, RuntimeConfig};
use bulkhead_types::AgentSpec;
use engine_fixture::{Nobody, limits, spec};
use parking_lot::Mutex;
use wasmtime::component::{Component, Linker, ResourceTable};
use wasmtime::{Config, Engine, Store};
use wasmtime_wasi::p2::bindings::Command;
use wasmtime_wasi::p2::pipe::MemoryOutputPipe;
use wasmtime_wasi::{FsPerms, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};

/// Calls of each kind in a round.
const CALLS: usize = 100;

/// Rounds, turn and turn about.
const ROUNDS: usize = 200;

/// Nanoseconds by kind of call.
type Figures = BTreeMap<String, u64>;

fn component() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(root.join("target"), PathBuf::from);
    target.join("wasm32-wasip2/guest/command.wasm")
}

fn figures<'a>(lines: impl Iterator<Item = &'a str>) -> Figures {
    let figure = |line: &'a str| line.strip_prefix("calls: ")?.rsplit_once(' ');
    lines.filter_map(figure).map(|(kind, ns)| (kind.to_owned(), ns.parse().unwrap())).collect()
}

// ---- here ----

async fn here(runtime: &Runtime, loaded: &Arc<Loaded>, dir: &Path) -> Figures {
    let (port, logs) = (Arc::new(Nobody::default()), Arc::new(Mutex::new(Logs::budget(1000))));
    let env = [("COMMAND_CALLS".to_owned(), CALLS.to_string().into())].into();
    let spec = Arc::new(AgentSpec { env, ..spec("command") });
    let workspace = Some(dir.to_owned());
    let (memory, switch, throttle) = (Arc::default(), Arc::default(), Arc::default());
    let context = InstanceContext::new(
        spec,
        Arc::clone(&port) as _,
        workspace,
        logs,
        memory,
        switch,
        throttle,
    );
    let instance = runtime.instantiate(loaded, None, Arc::new(context), limits()).await;
    let CallEnd::Returned(incarnation, Ok(())) = instance else { panic!("no instance") };
    let CallEnd::Returned(_, Ok(())) = incarnation.run(limits()).await else { panic!("it failed") };
    let lines = port.lines.lock();
    figures(lines.iter().map(String::as_str))
}

// ---- plain ----

struct Plain {
    wasi: WasiCtx,
    table: ResourceTable,
}

impl WasiView for Plain {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

fn plain_engine() -> (Component, Linker<Plain>) {
    let mut config = Config::new();
    config.epoch_interruption(true).concurrency_support(false).wasm_memory64(false);
    let engine = Engine::new(&config).unwrap();
    let mut linker = Linker::new(&engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker).unwrap();
    (Component::from_file(&engine, component()).unwrap(), linker)
}

async fn plain((component, linker): &(Component, Linker<Plain>), dir: &Path) -> Figures {
    let stdout = MemoryOutputPipe::new(1 << 20);
    let mut wasi = WasiCtxBuilder::new();
    wasi.stdout(stdout.clone()).env("COMMAND_CALLS", CALLS.to_string());
    wasi.preopened_dir(dir, "/workspace", FsPerms::ReadWrite).unwrap();
    wasi.allow_blocking_current_thread(true);
    let state = Plain { wasi: wasi.build(), table: ResourceTable::new() };
    let mut store = Store::new(component.engine(), state);
    store.set_epoch_deadline(1 << 30);
    let command = Command::instantiate_async(&mut store, component, linker).await.unwrap();
    command.wasi_cli_run().call_run(&mut store).await.unwrap().unwrap();
    figures(String::from_utf8(stdout.contents().to_vec()).unwrap().lines())
}

/// What a tenth of all rounds stays below, by kind: those in which nobody else took the core.
fn undisturbed(rounds: &[Figures]) -> Figures {
    let figure = |kind: &String| {
        let mut all: Vec<u64> = rounds.iter().map(|round| round[kind]).collect();
        all.sort_unstable();
        (kind.clone(), all[all.len() / 10])
    };
    rounds[0].keys().map(figure).collect()
}

#[test]
#[ignore = "figures: wants the guests and a quiet machine"]
fn file_calls_take_at_most_twice_what_they_take_in_place() {
    let config = RuntimeConfig { max_agents: 2, lane_threads: 1, ..RuntimeConfig::default() };
    let runtime = Runtime::new(&config, Arc::new(Nobody::default()) as SharedSink).unwrap();
    let loaded = runtime.load_blocking(&"command".into(), &component()).unwrap();
    let reference = plain_engine();
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut slow = Vec::new();
    // In memory no disk is in the figures. A file system on a disk tells what of a file is in memory.
    for place in ["/dev/shm", env!("CARGO_TARGET_TMPDIR")] {
        let dir = tempfile::tempdir_in(place).unwrap();
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            theirs.push(tokio.block_on(plain(&reference, dir.path())));
            ours.push(tokio.block_on(here(&runtime, &loaded, dir.path())));
        }
        let (ours, theirs) = (undisturbed(&ours), undisturbed(&theirs));
        for (kind, ns) in &theirs {
            let (our_ns, n) = (ours[kind], format!("{ROUNDS} x {CALLS}"));
            let ratio = our_ns as f64 / *ns as f64;
            println!("{place}: {kind}: {our_ns} ns against {ns} ns, {ratio:.2} x, n = {n}");
            if ratio > 2.0 {
                slow.push(format!("{kind} in {place}"));
            }
        }
    }
    runtime.shut_down();
    assert!(slow.is_empty(), "more than twice: {slow:?}");
}
