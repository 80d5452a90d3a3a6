//! A host beside a town.

use std::time::Duration;

use harness::{Host, HostBuilder, Value, wait_until};
use rustix::process::Signal;
use town_server::{Options, Town, TownServer};

/// The town's id.
pub const TOWN: &str = "riverside";

/// Between two heartbeats, in milliseconds.
pub const HEARTBEAT_MS: u64 = 200;

/// One call, in milliseconds: a town that hangs is given up soon.
pub const CALL_MS: u64 = 3000;

/// A call that was on its way when its token was replaced may arrive this much later.
pub const ON_ITS_WAY: Duration = Duration::from_secs(1);

/// A well-behaved town without agents.
pub fn town() -> TownServer {
    TownServer::start(Options::default()).expect("start a town server")
}

/// What is kept of the town.
pub fn kept<R>(town: &TownServer, look: impl FnOnce(&mut Town) -> R) -> R {
    town.town(TOWN, look)
}

/// A host of that town, with the roles `echo` and `puppet`, and `remembers`, which keeps its state after each
/// turn.
pub fn builder(town: &TownServer) -> HostBuilder {
    let (url, token) = (town.api_url(), town.token(TOWN));
    let settings = "snapshot = \"turn\"\nsnapshot_ms = 1";
    Host::builder().guest("puppet").role("remembers", "echo", settings).toml(&format!(
        "[town]\nid = {TOWN:?}\napi_url = {url:?}\ntoken = {token:?}\nheartbeat_ms = {HEARTBEAT_MS}\ncall_ms = {CALL_MS}\n"
    ))
}

/// Waits until these agents are the town's registry. In the order of their names.
#[track_caller]
pub fn registry_is(town: &TownServer, agents: &[&str]) {
    wait_until(&format!("the registry is {agents:?}"), || {
        kept(town, |town| town.agents()) == agents
    });
}

/// Kills a host, as a container ends that nobody asked.
pub fn kill(host: &mut Host) {
    host.signal(Signal::KILL);
    host.wait();
}

/// The next run, after this one was killed.
pub fn killed(host: &mut Host) -> Host {
    kill(host);
    host.restart().ready()
}

/// The status of an agent; none when it is not known.
pub fn state_of(host: &Host, agent: &str) -> Option<String> {
    host.client().find(agent).map(|known| known.status.into_owned())
}

/// Whether an agent is up.
pub fn runs(host: &Host, agent: &str) -> bool {
    state_of(host, agent).as_deref() == Some("running")
}

/// The line that says how agents were restored.
pub fn hydration(host: &Host) -> Value {
    host.wait_for_line("the end of hydration", |line| {
        line["event"] == "container.boot_hydration_finished"
    })
}

/// The run that a host is in.
pub fn run_id(host: &Host) -> String {
    let line = host.wait_for_line("the first line", |line| line["event"] == "container.cold_start");
    line["runId"].as_str().expect("a run").to_owned()
}

/// Waits until what is acknowledged of a registry that the town has by now is in the store: a host that is
/// killed later knows of it. Leaves an agent behind for each name.
#[track_caller]
pub fn settle(town: &TownServer, host: &Host, names: [&str; 2]) {
    let has = |name: &str| kept(town, |town| town.agents().iter().any(|agent| agent == name));
    host.client().start(names[0], "echo");
    // The answer to the post before this one was heard.
    wait_until("the town knows of the first", || has(names[0]));
    // An answer that comes after it was written.
    host.client().start(names[1], "echo");
    wait_until("the town knows of the second", || has(names[1]));
}

/// Checks what holds at the end of every test: the host did nothing that the API does not allow, sent no
/// secret, and used no token for longer than a call is on its way.
#[track_caller]
pub fn check(town: &TownServer) {
    let problems: Vec<_> = kept(town, |town| town.problems.iter().cloned().collect());
    assert!(problems.is_empty(), "the host did something wrong: {problems:?}");
    assert_eq!(town.leaks(), [""; 0], "secrets were sent");
    let late = kept(town, |town| town.tokens.late_uses());
    assert!(late.iter().all(|(_, late)| *late < ON_ITS_WAY), "old tokens were used: {late:?}");
}

/// What the town is given to keep of a state: an envelope of ours, and the state.
pub fn sealed(state: &[u8]) -> Vec<u8> {
    [b"\x89BHSNAP\n\x01\0", state].concat()
}
