//! A crash from the message that causes it to the slot that is free again, with the supervisor in this
//! process: no HTTP, and no log.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bulkhead_log::{SharedSink, Sink};
use bulkhead_supervisor::{Supervisor, TurnReport};
use bulkhead_types::{AgentId, Event, Sender};
use parking_lot::Mutex;

use crate::inside::Inside;
use crate::report::{Report, Row};
use crate::samples::Samples;

/// From the trap to the record and the free slot. What is measured begins earlier.
const BUDGET: Duration = Duration::from_micros(150);

/// Notes when a crash record was handed over, and keeps nothing.
#[derive(Default)]
struct Stopwatch(Mutex<Option<Instant>>);

impl Sink for Stopwatch {
    fn record(&self, event: Event) {
        if matches!(event, Event::AgentCrash(_)) {
            *self.0.lock() = Some(Instant::now());
        }
    }
}

impl Stopwatch {
    fn take(&self) -> Instant {
        self.0.lock().take().expect("a crash was reported")
    }
}

/// Nothing is subtracted: each figure begins when the message is handed in, so the wake-up of the agent's
/// thread and the turn up to its trap are in it. The round trip of an echo stands beside them to compare.
pub fn measure(rounds: usize, report: &mut Report) {
    let dir = tempfile::tempdir().expect("a directory");
    let stopwatch = Arc::new(Stopwatch::default());
    let host = Inside::durable(dir.path(), &(Arc::clone(&stopwatch) as SharedSink));
    let (mut echo, mut record, mut free) = (Samples::new(), Samples::new(), Samples::new());
    host.start("echo");
    for round in 0..rounds + rounds / 10 {
        host.start("trap");
        let (sent, answered, _) = turn(&host.supervisor, "echo", "hello");
        let whole_turn = answered - sent;
        let (sent, ended, end) = turn(&host.supervisor, "trap", "panic");
        assert!(matches!(end, TurnReport::Ended { crash_id: Some(_), .. }), "it did not crash");
        if round >= rounds / 10 {
            echo.add(whole_turn);
            record.add(stopwatch.take() - sent);
            free.add(ended - sent);
        }
    }
    report.add(Row::floor("in process: message in to echo out", &echo, echo.percentile(50)));
    let name = "in process: message in to crash record";
    report.add(Row::alone(name, &record, BUDGET));
    report.add(Row::alone("in process: message in to free place", &free, BUDGET));
    host.end();
}

/// Sends a message and looks for the end of its turn again and again, so that nobody has to wake this
/// thread.
fn turn(supervisor: &Supervisor, agent: &str, body: &str) -> (Instant, Instant, TurnReport) {
    let id = AgentId::parse(agent).expect("an id");
    let sent = Instant::now();
    let sent_message = supervisor.send(&id, Sender::Operator, body.into(), None);
    let mut delivery = sent_message.expect("the agent runs");
    loop {
        if let Ok(report) = delivery.report.try_recv() {
            return (sent, Instant::now(), report);
        }
        std::hint::spin_loop();
    }
}
