//! One process of a host is killed at random moments while agents run programs and prepare repositories (`TREE_KILLS`, 20 by
//! default, and `TREE_SEED`): the supervisor, both processes of the launcher, the init of a sandbox, or the init process above
//! all. After each kill no program runs any more, no cgroup and no mount is left, the next start works, and no commit
//! that was acknowledged is lost.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use harness::client::Client;
use harness::processes::{all_children, children, is_alive};
use harness::{Host, Need, Value, files, json, wait_until};
use hyper::Method;
use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process};

use crate::repositories::remote::Remote;

const AGENTS: usize = 3;

/// What is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Supervisor,
    /// The process of the launcher that starts the other one.
    Monitor,
    Worker,
    /// The first process of a sandbox: of an agent's program, or of git.
    Sandbox,
    /// The process above the supervisor.
    Init,
}

const VICTIMS: [Victim; 5] =
    [Victim::Supervisor, Victim::Monitor, Victim::Worker, Victim::Sandbox, Victim::Init];

/// The commits of each agent that were acknowledged.
type Commits = Mutex<BTreeMap<String, Vec<String>>>;

/// Processes of a host that runs.
struct Processes {
    supervisor: Pid,
    monitor: Pid,
    worker: Pid,
}

impl Processes {
    fn of(host: &Host) -> Self {
        let supervisor = host.supervisor_pid();
        let is_launcher = |pid: &Pid| command_line(*pid).contains("launch-tools");
        let find = || all_children(supervisor).into_iter().find(is_launcher);
        wait_until("there is a launcher", || find().is_some_and(|it| !children(it).is_empty()));
        let monitor = find().unwrap();
        Self { supervisor, monitor, worker: children(monitor)[0] }
    }

    /// `None`: no program runs at the moment.
    fn pick(&self, host: &Host, victim: Victim, dice: &mut fastrand::Rng) -> Option<Pid> {
        match victim {
            Victim::Supervisor => Some(self.supervisor),
            Victim::Monitor => Some(self.monitor),
            Victim::Worker => Some(self.worker),
            Victim::Init => Pid::from_raw(host.pid().cast_signed()),
            Victim::Sandbox => dice.choice(children(self.worker)),
        }
    }
}

fn command_line(pid: Pid) -> String {
    let bytes = std::fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero()));
    String::from_utf8_lossy(&bytes.unwrap_or_default()).replace('\0', " ")
}

/// What an agent does until the host, or what runs its programs, is gone: programs with children that leave their session,
/// and commits.
fn work(client: &Client, agent: &str, mark: &str, is_over: &AtomicBool, commits: &Commits) {
    let start = json!({"agentId": agent, "role": "toolbox", "rigId": "demo"});
    for round in 0.. {
        let script =
            format!("(setsid sleep {mark} &) ; sleep {mark} & echo {round} >>file; sleep 0.02");
        let orders = [
            json!({"do": "run", "run": ["sh", "-c", script]}),
            json!({"do": "write-file", "directory": "note", "stdin": format!("{mark} {round}")}),
            json!({"do": "commit", "say": format!("{mark} {round}")}),
            json!({"do": if round % 2 == 0 { "checkpoint" } else { "push" }, "say": "so far"}),
        ];
        if round == 0 && call(client, "/agents/start", &start).is_none() {
            return;
        }
        for order in orders {
            let message = json!({"prompt": order.to_string()});
            let path = format!("/agents/{agent}/message?wait=20000");
            let answer = call(client, &path, &message);
            let Some(answer) = answer else { return };
            let reply = answer["reply"].as_str().unwrap_or_default();
            let reply: Value = serde_json::from_str(reply).unwrap_or_default();
            // It counts as well if the kill came while it was on its way.
            if order["do"] == "commit"
                && let Some(commit) = reply["commit"].as_str()
            {
                commits.lock().entry(agent.to_owned()).or_default().push(commit.to_owned());
            }
            if is_over.load(Relaxed) {
                return;
            }
        }
    }
}

/// The answer, if there was one.
fn call(client: &Client, path: &str, body: &Value) -> Option<Value> {
    client.try_request(Method::POST, path, body.to_string()).ok().map(|answer| answer.body)
}

/// How many processes have this argument.
fn count(mark: &str) -> usize {
    let found = Command::new("pgrep").args(["-c", "-f", mark]).output().unwrap();
    String::from_utf8_lossy(&found.stdout).trim().parse().unwrap_or(0)
}

/// Cgroups that this launcher made, in whatever hierarchy.
fn cgroups_of(monitor: Pid) -> Vec<PathBuf> {
    let part = format!("-{}-", monitor.as_raw_nonzero());
    let mut found = Vec::new();
    let mut open = vec![(PathBuf::from("/sys/fs/cgroup"), 0)];
    while let Some((dir, depth)) = open.pop() {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            if !entry.file_type().is_ok_and(|it| it.is_dir()) {
                continue;
            }
            let name = entry.file_name().to_string_lossy().into_owned();
            match name.starts_with("bulkhead-tools-") {
                true if name.contains(&part) => found.push(entry.path()),
                false if depth < 8 => open.push((entry.path(), depth + 1)),
                _ => {}
            }
        }
    }
    found
}

fn mounts_below(dir: &Path) -> Vec<String> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    mounts.lines().filter(|line| line.contains(dir.to_str().unwrap())).map(str::to_owned).collect()
}

/// Each agent goes on where it was, with all that it was told is there.
fn check_agents(host: &Host, commits: &Commits) {
    let client = host.client();
    for (agent, commits) in commits.lock().iter_mut() {
        let start = json!({"agentId": agent, "role": "toolbox", "rigId": "demo"});
        let answer = client.post("/agents/start", &start);
        assert!(matches!(answer.status, 200 | 201), "{agent}: {}", answer.text);
        let ask = |order: Value| -> Value {
            let reply = client.ask(agent, &order.to_string());
            serde_json::from_str(&reply).unwrap_or_else(|error| panic!("{agent} {error}: {reply}"))
        };
        let tests: Vec<_> =
            commits.iter().map(|it| format!("git merge-base --is-ancestor {it} HEAD")).collect();
        let ran = ask(json!({"do": "run", "run": ["sh", "-c", tests.join(" && ")]}));
        assert_eq!(ran["code"], 0, "{agent} lost one of {commits:?}: {ran}");
        // Nothing that a killed git left is in the way.
        ask(
            json!({"do": "write-file", "directory": "after", "stdin": fastrand::u64(..).to_string()}),
        );
        let committed = ask(json!({"do": "commit", "say": "after"}));
        let commit = committed["commit"].as_str();
        commits.push(commit.unwrap_or_else(|| panic!("{agent}: {committed}")).to_owned());
        let pushed = ask(json!({"do": "push"}));
        assert_eq!(pushed["commit"], committed["commit"], "{agent}");
        // The older ones are below it.
        commits.drain(..commits.len() - 1);
    }
}

#[test]
fn after_any_kill_nothing_is_left_and_no_commit_is_lost() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let kills = number("TREE_KILLS").map_or(20, |it| usize::try_from(it).unwrap());
    let seed = number("TREE_SEED").unwrap_or_else(|| fastrand::u64(..));
    println!("TREE_SEED={seed}");
    let mut dice = fastrand::Rng::with_seed(seed);
    let remote = Remote::new();
    let rig = format!("[rigs.demo]\nurl = \"{}\"", remote.server.url("demo.git"));
    let role = "git = true\ntools = [\"git\", \"sh\", \"sleep\", \"setsid\"]\nworkspace_mb = 4096\nmax_attempts = 10";
    let mut host = Host::builder()
        .component("toolbox", &files::component("toolbox"))
        .role("toolbox", "toolbox", role)
        .toml(&rig)
        .supervise()
        .start()
        .ready();
    let first =
        host.wait_for_line("the first line", |line| line["event"] == "container.cold_start");
    if first["tools"]["pidNamespace"] != true {
        return harness::skip(
            Need::Mount,
            "no namespace of processes: a kill leaves grandchildren",
        );
    }
    let commits = Arc::new(Commits::default());
    let (mut programs, mut acknowledged) = (0, 0);
    for kill in 0..kills {
        // Nobody else's argument, and another one after each kill.
        let mark = format!("7{:05}{:05}.{kill:03}", std::process::id() % 100_000, seed % 100_000);
        let victim = *VICTIMS.iter().cycle().nth(kill).unwrap();
        let pause = Duration::from_millis(dice.u64(0..1500));
        let before = Processes::of(&host);
        let mut agents: Vec<_> = (0..AGENTS).map(|number| format!("a{number}")).collect();
        // One that is new each time, so that there is something to prepare.
        agents.push(format!("new-{kill}"));
        let is_over = AtomicBool::new(false);
        let killed = std::thread::scope(|scope| {
            for agent in &agents {
                let (client, is_over, commits, mark) = (host.client(), &is_over, &*commits, &*mark);
                scope.spawn(move || work(client, agent, mark, is_over, commits));
            }
            // The moment of the kill is meant to be random: nothing waits for this time.
            std::thread::sleep(pause);
            programs += count(&mark);
            let dice = RefCell::new(&mut dice);
            let killed = Cell::new(None);
            wait_until("there is something to kill", || {
                killed.set(before.pick(&host, victim, &mut dice.borrow_mut()));
                killed.get().is_some_and(|pid| kill_process(pid, Signal::KILL).is_ok())
            });
            is_over.store(true, Relaxed);
            killed.get().unwrap()
        });
        println!("kill {kill} of {victim:?} ({}) after {pause:?}", killed.as_raw_nonzero());
        host = go_on(host, victim, &before);
        wait_until("no program is left", || count(&mark) == 0);
        let gone = |pid| victim == Victim::Sandbox || victim == Victim::Worker || !is_alive(pid);
        wait_until("no launcher is left", || gone(before.monitor));
        wait_until("no cgroup is left", || {
            is_alive(before.monitor) || cgroups_of(before.monitor).is_empty()
        });
        assert_eq!(mounts_below(host.dir()), [] as [String; 0]);
        acknowledged += commits.lock().values().map(|it| it.len().saturating_sub(1)).sum::<usize>();
        // Where nothing was acknowledged the next start works as well.
        commits.lock().entry(format!("new-{kill}")).or_default();
        check_agents(&host, &commits);
        let building = std::fs::read_dir(host.state_dir().join("git/preparing")).unwrap();
        assert_eq!(building.count(), 0, "half of a repository is left");
        host.client().stop(&format!("new-{kill}")).expect(200);
        commits.lock().remove(&format!("new-{kill}"));
    }
    println!("{programs} programs ran, {acknowledged} commits were acknowledged");
    assert!(programs > 0 && acknowledged > 0);
    host.finish();
}

/// A host that is ready and has a launcher: the one that replaced what was killed.
fn go_on(mut host: Host, victim: Victim, before: &Processes) -> Host {
    match victim {
        Victim::Worker | Victim::Sandbox => {}
        Victim::Supervisor => {
            wait_until("the init process sees the end", || !is_alive(before.supervisor));
            wait_until("it starts another one", || host.supervisor_pid() != before.supervisor);
            host.wait_until_ready();
        }
        Victim::Monitor => {
            // The host cannot start another one: it is confined.
            host.wait_for_line("what became of the launcher", |line| {
                line.to_string().contains("the launcher of tools is gone")
            });
            host.signal(Signal::TERM);
            host.wait();
            host = host.restart().ready();
        }
        Victim::Init => {
            host.wait();
            wait_until("the supervisor ends with it", || !is_alive(before.supervisor));
            host = host.restart().ready();
        }
    }
    host
}
