//! The client against a real server over loopback.

mod calls;
mod causes;
mod fake;
mod heartbeats;
mod one_hangs;
mod reports;
mod server;

use std::sync::Arc;
use std::time::Duration;

use bulkhead_log::{RunContext, SharedSink, Sink};
use bulkhead_types::{Event, Secret};
use parking_lot::Mutex;

use bulkhead_net::{BaseUrl, Connector};

use crate::{Town, TownConfig};

pub(crate) const RUN: &str = "019bc0f4-2a40-7c11-9d7e-5b1f6a3c8e02";

/// Keeps the lines.
#[derive(Default)]
pub(crate) struct Lines(Mutex<Vec<Event>>);

impl Sink for Lines {
    fn record(&self, event: Event) {
        self.0.lock().push(event);
    }
}

impl Lines {
    /// The names of the lines so far.
    pub(crate) fn names(&self) -> Vec<&'static str> {
        self.0.lock().iter().map(Event::name).collect()
    }

    pub(crate) fn count(&self, name: &str) -> usize {
        self.names().iter().filter(|found| **found == name).count()
    }

    /// Everything that was logged, as text.
    pub(crate) fn text(&self) -> String {
        let lines = self.0.lock();
        lines.iter().map(|line| serde_json::to_string(line).unwrap() + "\n").collect()
    }
}

pub(crate) struct Client {
    pub(crate) town: Town,
    pub(crate) lines: Arc<Lines>,
}

/// A client whose heartbeats come seldom and whose calls have `call_ms`.
pub(crate) fn client(url: &str, call_ms: u64, change: impl FnOnce(&mut TownConfig)) -> Client {
    let mut config = TownConfig {
        town_id: "riverside".into(),
        api: BaseUrl::parse(url).unwrap(),
        token: secret("hunter2-first"),
        connector: Connector::default(),
        heartbeat: Duration::from_secs(3600),
        call: Duration::from_millis(call_ms),
        give_up: Duration::from_secs(600),
    };
    change(&mut config);
    let lines = Arc::new(Lines::default());
    let context = Arc::new(RunContext::new(RUN.into(), None));
    let town = Town::start(config, Arc::clone(&lines) as SharedSink, context).unwrap();
    town.keep_token();
    Client { town, lines }
}

pub(crate) fn secret(text: &str) -> Secret {
    text.to_owned().into()
}

/// Waits until something holds.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = std::time::Instant::now();
    while !holds() {
        assert!(began.elapsed() < Duration::from_secs(30), "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
