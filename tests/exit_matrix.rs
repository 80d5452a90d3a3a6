//! Every exit reason, caused on purpose, several times, in random order, beside an agent that must not notice:
//! what was expected against what was reported, all on the diagonal. And many crashes at once: one record
//! each.
//!
//! `EXIT_ROUNDS` is how often each is caused (default 2), `EXIT_SEED` plays an order again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Barrier;

use bulkhead_api::CrashesPage;
use harness::trial::{Trial, incarnation};
use harness::{Host, Value, json};
use rustix::process::Signal;

/// How an agent comes to its end.
enum Cause {
    /// A message that is answered.
    Asked(&'static str),
    /// A message that the agent does not survive.
    Message(&'static str),
    /// A start that the agent does not survive, by its prompt.
    Born(&'static str),
    Stopped,
    Superseded,
    /// Nothing, until the host ends.
    LeftAlone,
}

/// Role, cause, and the reason that has to be reported.
const MATRIX: [(&str, Cause, &str); 19] = [
    ("puppet", Cause::Asked("done"), "completed"),
    ("echo", Cause::Stopped, "stopped"),
    ("echo", Cause::LeftAlone, "drained"),
    ("echo", Cause::Superseded, "superseded"),
    ("exit-code", Cause::Message("exit 3"), "guest_exit"),
    ("trap", Cause::Message("fatal-error"), "guest_error"),
    ("trap", Cause::Message("unreachable"), "trap"),
    ("trap", Cause::Message("divide"), "trap"),
    ("trap", Cause::Message("wild-pointer"), "trap"),
    ("trap", Cause::Message("panic"), "panic"),
    ("puppet", Cause::Born("panic"), "panic"),
    ("stack", Cause::Message("recurse"), "stack_exhausted"),
    ("oom", Cause::Message("oom"), "memory_limit"),
    ("spin", Cause::Message("spin"), "cpu_deadline"),
    ("slow", Cause::Message("spin"), "wall_deadline"),
    ("hang", Cause::Message("hang 60000"), "host_call_timeout"),
    ("puppet", Cause::Born("error"), "start_failed"),
    ("host-error", Cause::Message("panic"), "host_error"),
    ("ignores-stop", Cause::Stopped, "killed"),
];

const NORMAL: [&str; 4] = ["completed", "stopped", "drained", "superseded"];

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is no whole number: {text}")))
}

fn trial() -> Trial {
    let guests = [
        "puppet",
        "exit-code",
        "trap",
        "stack",
        "oom",
        "spin",
        "hang",
        "host-error",
        "ignores-stop",
    ];
    let builder = guests.iter().fold(Host::builder(), |builder, guest| builder.guest(guest));
    Trial::begin(builder.role("slow", "spin", "wall_ms = 300"))
}

fn cause(trial: &Trial, agent: &str, role: &str, cause: &Cause) {
    let client = trial.client();
    if let Cause::Born(prompt) = cause {
        client.start_with(agent, role, json!({"prompt": prompt})).expect_error(502, &[]);
        return;
    }
    client.start(agent, role);
    match cause {
        Cause::Asked(message) => _ = client.send_wait(agent, message).expect(200),
        Cause::Message(message) => _ = client.send_wait(agent, message).expect_error(502, &[]),
        Cause::Stopped => _ = client.stop(agent).expect(200),
        Cause::Superseded => {
            client.start_with(agent, role, json!({"model": "another"})).expect(201);
        }
        Cause::LeftAlone | Cause::Born(_) => {}
    }
}

#[test]
fn every_exit_reason_is_distinguished_from_every_other() {
    let rounds = number("EXIT_ROUNDS").unwrap_or(2);
    let seed = number("EXIT_SEED").unwrap_or_else(|| fastrand::u64(..));
    println!("EXIT_SEED={seed}");
    let mut cases: Vec<_> = (0..rounds).flat_map(|_| 0..MATRIX.len()).enumerate().collect();
    fastrand::Rng::with_seed(seed).shuffle(&mut cases);

    let trial = trial();
    for (number, row) in &cases {
        let (role, how, _) = &MATRIX[*row];
        cause(&trial, &format!("agent-{number}"), role, how);
        trial.bystander().check();
    }
    // The turn that computes on ends with the rest: the exit code says that nothing had to be killed.
    let lines = trial.finish();

    let mut confusion: BTreeMap<(&str, String), usize> = BTreeMap::new();
    for (number, row) in &cases {
        let (agent, expected) = (format!("agent-{number}"), MATRIX[*row].2);
        let of = |event: &str| {
            let is_one = |line: &&Value| {
                line["event"] == event
                    && line["agentId"] == agent.as_str()
                    && incarnation(line) == 1
            };
            lines.iter().filter(is_one).collect::<Vec<_>>()
        };
        let (exits, crashes) = (of("agent.exit"), of("agent.crash"));
        assert_eq!(exits.len(), 1, "exits of {agent}, {expected}");
        assert_eq!(crashes.len(), usize::from(!NORMAL.contains(&expected)), "{agent}, {expected}");
        let reported = exits[0]["reason"].as_str().expect("a reason").to_owned();
        *confusion.entry((expected, reported)).or_default() += 1;
    }
    println!("{:<20} reported", "expected");
    for ((expected, reported), count) in &confusion {
        println!("{expected:<20} {reported:<20} {count:>3}");
    }
    assert!(confusion.keys().all(|(expected, reported)| expected == reported), "{confusion:?}");
}

/// Agents that crash at the same moment.
const AT_ONCE: usize = 200;

#[test]
fn many_crashes_at_once_leave_one_record_each() {
    let host = Host::builder().guest("trap").toml("[limits]\nmax_agents = 256").start();
    for n in 0..AT_ONCE {
        host.client().start(&format!("agent-{n}"), "trap");
    }
    let barrier = Barrier::new(AT_ONCE);
    std::thread::scope(|scope| {
        for n in 0..AT_ONCE {
            let (host, barrier) = (&host, &barrier);
            scope.spawn(move || {
                barrier.wait();
                let answer = host.client().send_wait(&format!("agent-{n}"), "panic");
                answer.expect_error(502, &["told to panic"]);
            });
        }
    });
    let records = host.client().get("/crashes?limit=1000").read::<CrashesPage>(200).crashes;
    let stored: BTreeSet<_> = records.iter().map(|record| record.crash_id.as_str()).collect();
    assert_eq!((records.len(), stored.len()), (AT_ONCE, AT_ONCE));
    let agents: BTreeSet<_> = records.iter().map(|record| &record.agent_id).collect();
    assert_eq!(agents.len(), AT_ONCE);
    let lines = host.finish_with(Signal::TERM, 0);
    let logged: Vec<_> = lines.iter().filter(|line| line["event"] == "agent.crash").collect();
    let ids: BTreeSet<_> = logged.iter().filter_map(|line| line["crashId"].as_str()).collect();
    assert_eq!((logged.len(), ids), (AT_ONCE, stored));
}
