//! What is durable: opened at boot, with what earlier runs left.

use std::sync::Arc;

use bulkhead_evidence::Evidence;
use bulkhead_feed::Feed;
use bulkhead_store::crashes::{self, CrashStore, Crashes, Imported};
use bulkhead_store::database::{self, Follower, Found};
use bulkhead_store::journal;
use bulkhead_store::{Database, Journal};
use bulkhead_supervisor::Earlier;
use bulkhead_types::AgentId;

use crate::config::Settings;
use crate::evidence::{self, AtSink, Shipped};
use crate::failure::Failure;
use crate::store_notices::StoreNotices;

/// What earlier runs left, and where it goes on.
pub struct Kept {
    pub database: Arc<Database>,
    pub crashes: Arc<dyn CrashStore>,
    pub journal: Journal,
    pub feed: Arc<Feed>,
    /// What went wrong with the event file.
    pub feed_problems: Vec<bulkhead_feed::Problem>,
    /// What went wrong with the journal.
    pub problems: Vec<journal::Problem>,
    pub earlier: Earlier,
    /// Crash records that came from the evidence sink.
    pub from_sink: usize,
}

impl Kept {
    /// Lets crash records go to the evidence sink as well. Returns where they go without it.
    pub fn ship_crashes(&mut self, evidence: &Evidence) -> Arc<dyn CrashStore> {
        let kept = Arc::clone(&self.crashes);
        self.crashes = Arc::new(Shipped { kept: Arc::clone(&kept), evidence: evidence.clone() });
        kept
    }
}

/// A database of a newer version is no reason to forget everything: somebody has to say so.
pub fn refuse_newer_database(settings: &Settings) -> Result<(), Failure> {
    let config = database::Config::in_state_dir(&settings.state_dir);
    let Some(dir) = config.dir.filter(|_| !settings.without_store) else { return Ok(()) };
    database::check_version(&dir).map_err(|error| {
        Failure::bad_input(format!(
            "{error}: run the version that wrote it, or start with --without-store, which leaves it untouched and stores nothing"
        ))
    })
}

/// Opens the database. Never fails: what is not durable is reported.
///
/// Crash records that only the sink has are stored. One that is `newer` than the disk also has agents' numbers and
/// histories.
pub fn open_database(
    settings: &Settings,
    unusable: Option<&str>,
    notices: &Arc<StoreNotices>,
    shipping: Option<&bulkhead_ship::Opened>,
    at_sink: Option<&AtSink>,
    newer: Option<&AtSink>,
) -> Kept {
    let mut config = database::Config::in_state_dir(&settings.state_dir);
    config.unusable = unusable.map(str::to_owned);
    // A run that has no database, or none yet, has neither.
    let beside = ["journal", "events"].map(|name| settings.state_dir.join(name));
    config.expected = beside.iter().any(|path| path.exists());
    config.follower = shipping.map(|it| Arc::clone(&it.outbox) as Arc<dyn Follower>);
    if settings.without_store {
        config.dir = None;
    }
    let for_database = Arc::clone(notices);
    let (database, found) = Database::open(config, move |notice| for_database.log(notice));
    let database = Arc::new(database);
    let Found { agents, unreadable, unread, crashes, usage, usage_days } = found;
    let imported = match database.has_file() && unusable.is_none() {
        true => crashes::import(&settings.state_dir, &database),
        false => Imported::default(),
    };
    if imported.unreadable_lines > 0 {
        let lines = imported.unreadable_lines;
        tracing::warn!(lines, "crash records of an earlier version were damaged");
    }
    for error in imported.errors {
        tracing::warn!(error, "crash records of an earlier version were not imported");
    }
    let mut records: Vec<_> = imported.records.into_iter().chain(crashes).collect();
    let others = at_sink.map_or_else(Vec::new, |at_sink| at_sink.other_crashes(&records));
    others.iter().for_each(|record| database.keep_crash(Arc::clone(record)));
    let from_sink = others.len();
    records.extend(others);
    records.sort_by_key(|record| record.crashed_at);
    let crashes = Crashes::new(crashes::Config::default(), Arc::clone(&database), records);
    let mut earlier =
        Earlier { agents, unreadable, unread, usage, usage_days, ..Earlier::default() };
    if let Some(run) = newer.and_then(AtSink::last_run) {
        // Of a database that is there and not read yet, the sink's rows would replace the orders.
        let rows = if earlier.unread.is_none() { evidence::rows(run) } else { Vec::new() };
        let adopted = database.adopt(rows, run.others_go_on_after);
        let is_here = |id: &AgentId| earlier.agents.iter().any(|row| row.id == *id);
        earlier.from_elsewhere = adopted.into_iter().filter(|id| !is_here(id)).collect();
        earlier.agents = database.agents();
    }
    let journal::Opened { journal, problems } = match settings.without_store || unusable.is_some() {
        true => journal::Opened { journal: Journal::absent(), problems: Vec::new() },
        false => journal::open(&settings.state_dir, settings.runtime.max_agents),
    };
    let (feed, feed_problems) = match settings.without_store || unusable.is_some() {
        true => (Feed::without_journal(), Vec::new()),
        false => Feed::open(&settings.state_dir),
    };
    let (crashes, feed) = (Arc::new(crashes), Arc::new(feed));
    Kept { database, crashes, journal, feed, feed_problems, problems, earlier, from_sink }
}
