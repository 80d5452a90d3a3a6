//! What it costs to log a fact: a line of the log, bytes on an account.

use std::sync::Arc;
use std::time::Duration;

use bulkhead_account::Account;
use bulkhead_log::{Format, LogConfig, RunContext};
use bulkhead_types::event::AgentTag;
use bulkhead_types::{AgentId, Event, HostKind, Incarnation};
use divan::{Bencher, black_box};

fn main() {
    divan::main();
}

#[divan::bench]
fn log_line(bencher: Bencher<'_, '_>) {
    let context = RunContext::new("run".into(), Some("town".into()));
    let agent = AgentTag {
        agent_id: AgentId::parse("an-agent").expect("an id"),
        role: "polecat".into(),
        incarnation: Incarnation(7),
    };
    let event = Event::AgentTurn {
        agent,
        message_id: "msg-01234567-1234".into(),
        outcome: None,
        error: None,
        cpu_us: 1234,
        wall_ms: 5,
    };
    bencher.bench(|| Format::Json.lines(black_box(&event), &context, 7, LogConfig::MAX_LINE_BYTES));
}

/// What is counted of a turn beside its line, on as many threads as run agents.
#[divan::bench(threads = [1, 2])]
fn turn_measured(bencher: Bencher<'_, '_>) {
    let context = RunContext::new("run".into(), None);
    bencher.bench(|| context.counts().turn_took(black_box(Duration::from_micros(300))));
}

#[divan::bench]
fn account_charge(bencher: Bencher<'_, '_>) {
    let account: Arc<Account> = Arc::default();
    bencher.bench_local(|| account.charge(HostKind::Mailbox, black_box(100)));
}
