//! The runtime as a whole, with stock components written as text.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bulkhead_log::{SharedSink, Sink};
use bulkhead_source::{Language, SourceCode};
use bulkhead_tasks::Spawner;
use bulkhead_tasks::Switch;
use bulkhead_types::{AgentId, AgentSpec, Event, Exit, ExitReason, Limits, MemoryPolicy};
use parking_lot::Mutex;

mod hostile;

use crate::meter::Lane;
use crate::port::fake::FakePort;
use crate::*;

/// A stock component whose `run` has this body.
pub(crate) fn command(memory_pages: u32, body: &str) -> Vec<u8> {
    command_with("", memory_pages, body)
}

/// With more in its module.
fn command_with(more: &str, memory_pages: u32, body: &str) -> Vec<u8> {
    let text = format!(
        r#"(component
            (core module $m
                (memory (export "memory") {memory_pages})
                {more}
                (func (export "run") (result i32) {body}))
            (core instance $i (instantiate $m))
            (func $run (result (result)) (canon lift (core func $i "run")))
            (instance $exports (export "run" (func $run)))
            (export "wasi:cli/run@0.2.0" (instance $exports)))"#
    );
    wat::parse_str(text).unwrap()
}

const OK: &str = "i32.const 0";
const SPIN: &str = "(loop br 0) unreachable";
const GROW: &str = "(loop (drop (memory.grow (i32.const 1))) br 0) unreachable";

#[derive(Default)]
struct Kept(Mutex<Vec<Event>>);

impl Sink for Kept {
    fn record(&self, event: Event) {
        self.0.lock().push(event);
    }
}

impl Kept {
    /// Sources of the loads so far.
    fn loads(&self) -> Vec<&'static str> {
        let events = self.0.lock();
        let source = |event: &Event| match event {
            Event::ComponentLoaded { source, .. } => Some(*source),
            _ => None,
        };
        events.iter().filter_map(source).collect()
    }

    fn rejections(&self) -> usize {
        let events = self.0.lock();
        events.iter().filter(|event| matches!(event, Event::CacheEntryRejected { .. })).count()
    }
}

/// A runtime with a directory of its own.
pub(crate) struct Rig {
    pub runtime: Runtime,
    kept: Arc<Kept>,
    pub dir: tempfile::TempDir,
}

impl Rig {
    pub(crate) fn new(max_agents: usize) -> Self {
        Self::in_dir(max_agents, tempfile::tempdir().unwrap())
    }

    fn in_dir(max_agents: usize, dir: tempfile::TempDir) -> Self {
        Self::with(max_agents, dir, |_| {})
    }

    pub(crate) fn with(
        max_agents: usize,
        dir: tempfile::TempDir,
        change: impl FnOnce(&mut RuntimeConfig),
    ) -> Self {
        let kept = Arc::new(Kept::default());
        let mut config = RuntimeConfig {
            max_agents,
            max_agent_memory_bytes: 64 << 20,
            aot_dir: Some(dir.path().join("aot")),
            lane_threads: 1,
            ..RuntimeConfig::default()
        };
        change(&mut config);
        let runtime = Runtime::new(&config, Arc::clone(&kept) as SharedSink).unwrap();
        Self { runtime, kept, dir }
    }

    pub(crate) fn write(&self, bytes: &[u8]) -> PathBuf {
        let path = self.dir.path().join("component.wasm");
        std::fs::write(&path, bytes).unwrap();
        path
    }

    pub(crate) fn load(&self, path: &Path) -> Result<Arc<Loaded>, LoadError> {
        self.block_on(self.runtime.load(&"test".into(), path))
    }

    fn loaded(&self, body: &str) -> Arc<Loaded> {
        self.load(&self.write(&command(1, body))).unwrap()
    }

    pub(crate) fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(future)
    }

    pub(crate) fn instantiate(
        &self,
        loaded: &Arc<Loaded>,
        context: &Arc<InstanceContext>,
    ) -> Result<Incarnation, Box<Exit>> {
        match self.block_on(self.runtime.instantiate(
            loaded,
            None,
            Arc::clone(context),
            limits(5000),
        )) {
            CallEnd::Returned(incarnation, _) => Ok(incarnation),
            CallEnd::Ended(exit, _) => Err(Box::new(exit)),
        }
    }

    fn run(
        &self,
        body: &str,
        context: &Arc<InstanceContext>,
        limits: CallLimits,
    ) -> Result<(), Box<Exit>> {
        self.run_loaded(&self.loaded(body), context, limits)
    }

    pub(crate) fn run_loaded(
        &self,
        loaded: &Arc<Loaded>,
        context: &Arc<InstanceContext>,
        limits: CallLimits,
    ) -> Result<(), Box<Exit>> {
        let incarnation = self.instantiate(loaded, context)?;
        match self.block_on(incarnation.run(limits)) {
            CallEnd::Returned(_, result) => {
                result.unwrap();
                Ok(())
            }
            CallEnd::Ended(exit, _) => Err(Box::new(exit)),
        }
    }

    pub(crate) fn end(self) -> tempfile::TempDir {
        self.runtime.shut_down();
        self.dir
    }
}

/// An agent that asks for nothing.
pub(crate) fn spec() -> AgentSpec {
    AgentSpec::new(AgentId::parse("a").unwrap(), "r".into(), "test".into())
}

pub(crate) fn context(memory_bytes: u64, on_memory_limit: MemoryPolicy) -> Arc<InstanceContext> {
    let limits = Limits { memory_bytes, on_memory_limit, ..Limits::default() };
    let spec = AgentSpec { limits, ..spec() };
    let log_budget = Arc::new(Mutex::new(Logs::budget(spec.limits.log_lines_per_second)));
    Arc::new(InstanceContext::new(
        Arc::new(spec),
        Arc::new(FakePort::default()),
        None,
        log_budget,
        Arc::default(),
        Arc::default(),
        Arc::default(),
    ))
}

pub(crate) fn roomy() -> Arc<InstanceContext> {
    context(1 << 20, MemoryPolicy::End)
}

pub(crate) fn limits(cpu_ms: u64) -> CallLimits {
    CallLimits {
        cpu: Duration::from_millis(cpu_ms),
        wall: Duration::from_secs(60),
        host_call: Duration::from_secs(60),
    }
}

#[test]
fn many_who_want_one_component_cause_one_compile() {
    let rig = Rig::new(4);
    let path = rig.write(&command(1, OK));
    let name: Arc<str> = "test".into();
    let all = rig.block_on(async {
        let load = || rig.runtime.load(&name, &path);
        let (a, b, c, d) = tokio::join!(load(), load(), load(), load());
        [a, b, c, d]
    });
    let digests: Vec<_> = all.into_iter().map(|loaded| loaded.unwrap().digest).collect();
    assert!(digests.windows(2).all(|pair| pair[0] == pair[1]));
    assert_eq!(rig.kept.loads(), ["compiled"]);
    rig.end();
}

#[test]
fn what_is_wrong_with_a_file_is_remembered_until_the_file_changes() {
    let rig = Rig::new(1);
    let path = rig.write(b"\0asm\x0d\0\x01\0 and then nonsense");
    let first = rig.load(&path).err().unwrap();
    assert!(matches!(first, LoadError::Invalid { .. }), "{first}");
    assert_eq!(rig.load(&path).err(), Some(first));
    rig.write(&command(1, OK));
    rig.load(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert!(matches!(rig.load(&path), Err(LoadError::Unreadable { .. })));
    rig.write(&command(1, OK));
    rig.load(&path).unwrap();
    rig.end();
}

#[test]
fn a_file_that_somebody_has_to_vouch_for_is_loaded_with_those_bytes_alone() {
    let vouched = Vouched::default();
    let rig = Rig::with(1, tempfile::tempdir().unwrap(), |config| config.vouched = vouched.clone());
    let path = rig.write(&command(1, OK));
    let free = rig.load(&path).unwrap();
    vouched.demand("test".into(), path.clone());
    let error = rig.load(&path).err().unwrap();
    assert!(matches!(error, LoadError::NotThere { .. }), "{error}");
    vouched.give("test", Err("it is not signed".into()));
    let error = rig.load(&path).err().unwrap().to_string();
    assert_eq!(error, "component test: it is not signed");
    vouched.give("test", Ok(free.digest));
    assert_eq!(rig.load(&path).unwrap().digest, free.digest);
    rig.write(b"of another size");
    let error = rig.load(&path).err().unwrap();
    assert!(matches!(error, LoadError::WrongDigest { .. }), "{error}");
    rig.write(&command(1, OK));
    rig.load(&path).unwrap();
    // Of another file of the same name it was not said, as of an upgrade.
    let other = rig.dir.path().join("other.wasm");
    std::fs::write(&other, command(2, OK)).unwrap();
    rig.load(&other).unwrap();
    rig.end();
}

#[test]
fn a_load_that_failed_for_now_is_forgotten_also_if_nobody_heard_of_it() {
    let rig = Rig::new(1);
    let functions = "(func (drop (i32.const 1)))".repeat(5000);
    let path = rig.write(&command_with(&functions, 1, OK));
    rig.block_on(async {
        let name = "test".into();
        let mut load = Box::pin(rig.runtime.load(&name, &path));
        while rig.runtime.compiling_since(&path).is_none() {
            assert!(futures_util::poll!(&mut load).is_pending());
            tokio::task::yield_now().await;
        }
        rig.runtime.shed_compiling();
        // As a start that is stopped at that moment.
        drop(load);
    });
    rig.load(&path).expect("the next start compiles it");
    rig.end();
}

#[test]
fn the_next_run_takes_it_from_the_cache_and_a_corrupt_entry_is_replaced() {
    let rig = Rig::new(1);
    rig.loaded(OK);
    assert_eq!(rig.kept.loads(), ["compiled"]);
    let rig = Rig::in_dir(1, rig.end());
    rig.loaded(OK);
    assert_eq!(rig.kept.loads(), ["cache"]);
    let entry = std::fs::read_dir(rig.dir.path().join("aot")).unwrap().next().unwrap().unwrap();
    let mut bytes = std::fs::read(entry.path()).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(entry.path(), bytes).unwrap();
    let rig = Rig::in_dir(1, rig.end());
    assert!(rig.run(OK, &roomy(), limits(5000)).is_ok());
    assert_eq!((rig.kept.loads(), rig.kept.rejections()), (vec!["compiled"], 1));
    let rig = Rig::in_dir(1, rig.end());
    rig.loaded(OK);
    assert_eq!((rig.kept.loads(), rig.kept.rejections()), (vec!["cache"], 0));
    rig.end();
}

#[test]
fn the_number_that_a_program_exits_with_is_kept() {
    let exits = |status: u32| {
        let text = format!(
            r#"(component
                (import "wasi:cli/exit@0.2.0" (instance $exit
                    (export "exit-with-code" (func (param "status-code" u8)))))
                (core func $exit (canon lower (func $exit "exit-with-code")))
                (core module $m
                    (import "h" "exit" (func $exit (param i32)))
                    (func (export "run") (result i32) (call $exit (i32.const {status})) (i32.const 0)))
                (core instance $i (instantiate $m (with "h" (instance (export "exit" (func $exit))))))
                (func $run (result (result)) (canon lift (core func $i "run")))
                (instance $exports (export "run" (func $run)))
                (export "wasi:cli/run@0.2.0" (instance $exports)))"#
        );
        wat::parse_str(text).unwrap()
    };
    let rig = Rig::new(1);
    for status in [0, 3, 255] {
        let loaded = rig.load(&rig.write(&exits(status))).unwrap();
        let exit = rig.run_loaded(&loaded, &roomy(), limits(5000)).err().unwrap();
        assert_eq!((exit.reason, exit.status), (ExitReason::GuestExit, Some(status as i32)));
    }
    rig.end();
}

#[test]
fn the_error_of_a_component_of_another_world_names_what_it_lacks() {
    let rig = Rig::new(1);
    let exports_nothing = wat::parse_str("(component)").unwrap();
    let error = rig.load(&rig.write(&exports_nothing)).err().unwrap().to_string();
    assert!(error.contains("exports nothing") && error.contains("lifecycle@0.2.0"), "{error}");
    let imports = r#"(component
        (import "acme:db/query@1.0.0" (instance (export "get" (func))))
        (core module $m (func (export "run") (result i32) i32.const 0))
        (core instance $i (instantiate $m))
        (func $run (result (result)) (canon lift (core func $i "run")))
        (instance $exports (export "run" (func $run)))
        (export "wasi:cli/run@0.2.0" (instance $exports)))"#;
    let error = rig.load(&rig.write(&wat::parse_str(imports).unwrap())).err().unwrap();
    assert!(matches!(error, LoadError::WrongWorld { .. }));
    assert!(error.to_string().contains("acme:db/query@1.0.0"), "{error}");
    rig.end();
}

#[test]
fn a_spinner_is_cut_off_by_cpu_time_with_its_backtrace() {
    let rig = Rig::new(1);
    let exit = rig.run(SPIN, &roomy(), limits(50)).unwrap_err();
    assert_eq!(exit.reason, ExitReason::CpuDeadline);
    assert!(!exit.frames.is_empty());
    rig.end();
}

#[test]
fn a_spinner_is_cut_off_by_wall_time_too() {
    let rig = Rig::new(1);
    let limits = CallLimits { wall: Duration::from_millis(50), ..limits(60_000) };
    let exit = rig.run(SPIN, &roomy(), limits).unwrap_err();
    assert_eq!(exit.reason, ExitReason::WallDeadline);
    rig.end();
}

#[test]
fn a_spinner_with_a_percent_of_a_core_waits_and_the_wait_is_no_time_of_its_turn() {
    let rig = Rig::new(1);
    let spec = &roomy().spec;
    let bounds = Limits { cpu_max_percent: 5, ..spec.limits.clone() };
    let spec = AgentSpec { limits: bounds, ..AgentSpec::clone(spec) };
    let port = Arc::new(FakePort::default());
    let log_budget = Arc::new(Mutex::new(Logs::budget(50)));
    let (account, switch, throttle) = (Arc::default(), Arc::default(), Arc::default());
    let context =
        InstanceContext::new(Arc::new(spec), port, None, log_budget, account, switch, throttle);
    let began = Instant::now();
    // Its burst of 50 ms, and 200 ms for which it waits four seconds.
    let call_limits = CallLimits { wall: Duration::from_secs(3), ..limits(250) };
    let context = Arc::new(context);
    let exit = rig.run(SPIN, &context, call_limits).unwrap_err();
    assert_eq!(exit.reason, ExitReason::CpuDeadline, "{exit:?}");
    let (wall, usage) = (began.elapsed(), context.meter.usage());
    assert!(wall > Duration::from_secs(3) && usage.cpu_throttled_us > 2_500_000, "{usage:?}");
    rig.end();
}

/// An agent with a task like the host's, and its way to the slow lane.
fn steered(memory_bytes: u64) -> (Arc<InstanceContext>, Arc<Switch>) {
    let switch = Arc::new(Switch::default());
    let InstanceContext { spec, port, .. } = &*context(memory_bytes, MemoryPolicy::End);
    let (spec, port) = (Arc::clone(spec), Arc::clone(port));
    let log_budget = Arc::new(Mutex::new(Logs::budget(50)));
    let (account, steers, throttle) = (Arc::default(), Arc::clone(&switch), Arc::default());
    let context = InstanceContext::new(spec, port, None, log_budget, account, steers, throttle);
    (Arc::new(context), switch)
}

impl Rig {
    /// Runs the task of an agent on the lanes.
    fn spawn<T: Send + 'static>(
        &self,
        switch: &Arc<Switch>,
        task: impl Future<Output = T> + Send + 'static,
    ) -> std::sync::mpsc::Receiver<T> {
        let context = Arc::new(bulkhead_log::RunContext::new("run".into(), None));
        let sink = Arc::clone(&self.kept) as SharedSink;
        let spawner = Spawner::new(self.runtime.fast_lane().clone(), sink, context);
        let (send, receive) = std::sync::mpsc::sync_channel(1);
        let away = self.runtime.slow_lane().clone();
        spawner.spawn_migrating("agent", away, Arc::clone(switch), async move {
            let _ = send.send(task.await);
            Ok::<_, std::convert::Infallible>(())
        });
        receive
    }
}

fn reason_of(end: CallEnd<()>) -> ExitReason {
    match end {
        CallEnd::Ended(exit, _) => exit.reason,
        CallEnd::Returned(..) => panic!("it returned"),
    }
}

#[test]
fn a_spinner_moves_to_the_slow_lane_and_a_kill_reaches_it_there() {
    let rig = Rig::new(1);
    let (context, switch) = steered(1 << 20);
    let incarnation = rig.instantiate(&rig.loaded(SPIN), &context).unwrap();
    let meter = Arc::clone(&context.meter);
    let ended = rig.spawn(&switch, async move {
        let mut call = incarnation.run(limits(60_000));
        let until = Instant::now() + Duration::from_secs(30);
        while meter.lane() != Lane::Slow {
            assert!(Instant::now() < until, "it stayed on the fast lane");
            tokio::select! {
                biased;
                _ = &mut call => panic!("it ended by itself"),
                () = tokio::task::yield_now() => {}
            }
        }
        call.kill();
        reason_of(call.await)
    });
    assert_eq!(ended.recv(), Ok(ExitReason::Killed));
    rig.end();
}

#[test]
fn what_may_fill_much_memory_does_so_on_the_slow_lane() {
    const FILL: &str = "(drop (memory.grow (i32.const 639)))
        (memory.fill (i32.const 0) (i32.const 1) (i32.const 41943040))
        unreachable";
    let rig = Rig::new(1);
    let (context, switch) = steered(48 << 20);
    let incarnation = rig.instantiate(&rig.loaded(FILL), &context).unwrap();
    assert!(!switch.is_away(), "64 KiB are not much");
    let call_limits = limits(20_000);
    let meter = Arc::clone(&context.meter);
    let ended = rig.spawn(&switch, async move {
        let reason = reason_of(incarnation.run(call_limits).await);
        (reason, meter.lane())
    });
    assert_eq!(ended.recv(), Ok((ExitReason::Trap, Lane::Slow)));
    rig.end();
}

#[test]
fn growth_past_the_limit_ends_the_agent_or_is_shown_to_it() {
    let rig = Rig::new(1);
    let exit = rig.run(GROW, &context(1 << 20, MemoryPolicy::End), limits(20_000)).unwrap_err();
    assert_eq!((exit.reason, exit.requested_bytes), (ExitReason::MemoryLimit, Some(65_536)));
    assert!(!exit.frames.is_empty());
    let deny = context(1 << 20, MemoryPolicy::Deny);
    let exit = rig.run(GROW, &deny, limits(50)).unwrap_err();
    assert_eq!(exit.reason, ExitReason::CpuDeadline, "it sees the failure and spins on");
    let usage = deny.meter.usage();
    assert_eq!(usage.memory_bytes, 1 << 20);
    assert!(usage.denied_growths > 0);
    rig.end();
}

#[test]
fn handles_of_a_guests_own_resources_are_bounded() {
    let rig = Rig::new(1);
    let text = r#"(component
        (type $r (resource (rep i32)))
        (core func $new (canon resource.new $r))
        (core module $m
            (import "" "new" (func $new (param i32) (result i32)))
            (func (export "run") (result i32)
                (loop (drop (call $new (i32.const 1))) br 0) unreachable))
        (core instance $i (instantiate $m (with "" (instance (export "new" (func $new))))))
        (func $run (result (result)) (canon lift (core func $i "run")))
        (instance $exports (export "run" (func $run)))
        (export "wasi:cli/run@0.2.0" (instance $exports)))"#;
    let loaded = rig.load(&rig.write(&wat::parse_str(text).unwrap())).unwrap();
    let incarnation = rig.instantiate(&loaded, &roomy()).unwrap();
    match rig.block_on(incarnation.run(limits(20_000))) {
        CallEnd::Ended(exit, _) => {
            assert_eq!(exit.reason, ExitReason::Trap);
            assert!(exit.message.contains("handle limit"), "{}", exit.message);
        }
        CallEnd::Returned(..) => panic!("it returned"),
    }
    rig.end();
}

#[test]
fn what_a_guest_held_is_given_back_with_its_store_and_its_figures_stay() {
    let rig = Rig::new(1);
    let context = context(1 << 20, MemoryPolicy::End);
    let account = Arc::clone(context.meter.memory().account());
    let incarnation = rig.instantiate(&rig.loaded(OK), &context).unwrap();
    assert_eq!(account.reading().guest_bytes, 65_536);
    drop(incarnation);
    assert_eq!(account.reading().used_bytes(), 0);
    assert_eq!(context.meter.usage().guest_bytes, 65_536);
    rig.end();
}

#[test]
fn a_component_that_is_too_large_is_not_instantiated() {
    let rig = Rig::new(1);
    let loaded = rig.load(&rig.write(&command(32, OK))).unwrap();
    assert_eq!(loaded.initial_memory_bytes, 32 * 65_536);
    let exit = rig.instantiate(&loaded, &roomy()).err().unwrap();
    assert_eq!(exit.reason, ExitReason::MemoryLimit);
    rig.end();
}

#[test]
fn a_slot_of_the_pool_is_free_again_however_an_incarnation_ended() {
    let rig = Rig::new(1);
    let reason = |body, cpu_ms| rig.run(body, &roomy(), limits(cpu_ms)).unwrap_err().reason;
    for _ in 0..3 {
        assert_eq!(reason("unreachable", 5000), ExitReason::Trap);
        assert_eq!(reason(SPIN, 1), ExitReason::CpuDeadline, "interrupted on the fast lane");
        assert_eq!(reason(SPIN, 20), ExitReason::CpuDeadline, "interrupted on the slow lane");
        assert_eq!(rig.run(OK, &roomy(), limits(5000)), Ok(()));
    }
    let loaded = rig.loaded(OK);
    let mut all = Vec::new();
    let exit = loop {
        match rig.instantiate(&loaded, &roomy()) {
            Ok(incarnation) => all.push(incarnation),
            Err(exit) => break exit,
        }
    };
    assert_eq!(exit.reason, ExitReason::HostError, "a full pool is not the guest's fault");
    assert!(exit.message.contains("limit"), "{}", exit.message);
    // One agent, and those that may hang on a disk.
    assert_eq!(all.len(), 1 + crate::lanes::blocking_threads(1));
    all.pop();
    assert!(rig.instantiate(&loaded, &roomy()).is_ok());
    rig.end();
}

#[test]
fn a_call_that_is_dropped_in_the_middle_frees_its_slot() {
    let rig = Rig::new(1);
    let incarnation = rig.instantiate(&rig.loaded(SPIN), &roomy()).unwrap();
    rig.block_on(async {
        let mut call = incarnation.run(limits(60_000));
        tokio::select! {
            biased;
            _ = &mut call => panic!("it ended"),
            () = tokio::task::yield_now() => {}
        }
    });
    // On the slow lane the store goes when its thread comes to it.
    let until = Instant::now() + Duration::from_secs(30);
    while rig.runtime.stores() > 0 {
        assert!(Instant::now() < until, "the slot was never free again");
    }
    rig.end();
}

/// Whatever reads it hangs: the start has an answer, and what it is about.
#[test]
fn source_code_that_is_not_read_in_time_is_named() {
    let rig = Rig::new(1);
    let hung = Arc::clone(rig.runtime.source_readers()).try_acquire_many_owned(2).unwrap();
    let code = SourceCode { path: "agent.py".into(), language: Language::Python };
    let error = rig.block_on(async {
        tokio::time::pause();
        rig.runtime.source(code).await.unwrap_err().to_string()
    });
    drop(hung);
    assert!(error.contains("agent.py was not read within 30 s"), "{error}");
}
