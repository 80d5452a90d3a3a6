//! All towns of a register, for people: who holds what, and whether it is renewed.
//!
//! ```text
//!   names ──▶ read each ──▶ read those again that are neither renewed nor over ──▶ a Town each
//! ```
//!
//! No clock of another machine is compared with this one. That a holder is there is seen by a second version of its record,
//! that it is gone by one version for as long as another copy would wait. Both take time: a third of the TTL, or the whole.

use std::time::Duration;

use bulkhead_bucket::Name;
use bulkhead_net::Connector;
use futures_util::StreamExt;
use futures_util::stream::iter;
use tokio::time::{Instant, sleep, timeout};

use crate::fault::RegisterError;
use crate::protocol::{Record, takeover_after};
use crate::register::{self, Names, Records};
use crate::settings::Address;

/// Records that are read at once.
const AT_ONCE: usize = 16;
/// Between two reads of one record.
const PAUSE: Duration = Duration::from_millis(500);
/// For one request.
const PATIENCE: Duration = Duration::from_secs(5);
/// For the list of names, which may be many pages. Who does not want to watch for as long does not wait for it either.
const LIST_PATIENCE: Duration = Duration::from_secs(20);
/// A register that is well and slow answers within this time.
const LEAST_PATIENCE: Duration = Duration::from_secs(2);
/// Towns that are listed at most.
pub const MAX_TOWNS: usize = 10_000;

/// All towns of a register.
pub struct Fleet {
    records: Box<dyn Records>,
}

/// What was seen of them.
#[derive(Debug)]
pub struct Seen {
    /// By name.
    pub towns: Vec<Town>,
    /// There are more than [`MAX_TOWNS`].
    pub has_more: bool,
}

/// What was seen of one town.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Town {
    /// Its name.
    pub name: Name,
    /// What the register had last, or why that cannot be read.
    pub record: Result<Record, RegisterError>,
    /// How it is.
    pub state: State,
    /// For how long the record was seen unchanged.
    pub unchanged: Duration,
}

/// How a lease is, as it was watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It was renewed while it was watched.
    Held,
    /// It was given back.
    Released,
    /// It was not renewed for the TTL and the margin: its holder is gone, and nobody waits for it.
    Expired,
    /// It was not renewed while it was watched, which was too short to say more.
    Unchanged,
    /// What the register has is no record, or cannot be read.
    Unreadable,
}

impl Fleet {
    /// Nothing is called yet.
    pub fn open(register: &Address, connector: Connector) -> Result<Self, RegisterError> {
        Ok(Self { records: register::open_all(register, connector, PATIENCE)? })
    }

    /// Watches all towns until it is known of each how it is, for `longest` at most. A list or a read that hangs ends after the
    /// same time, or after two seconds if that is longer. An error is a register that cannot be listed.
    pub async fn watch(&self, longest: Duration) -> Result<Seen, RegisterError> {
        let late = |_| Err(RegisterError::unavailable("no answer to a list of the register"));
        let bounded = |patience: Duration| patience.min(longest.max(LEAST_PATIENCE));
        let listed = timeout(bounded(LIST_PATIENCE), self.records.names(MAX_TOWNS)).await;
        let Names { mut names, has_more } = listed.unwrap_or_else(late)?;
        names.sort_by(|one, other| one.as_str().cmp(other.as_str()));
        let until = Instant::now() + longest;
        let patience = bounded(PATIENCE);
        let mut watched = self.read(names.into_iter().map(Watched::new).collect(), patience).await;
        while watched.iter().any(Watched::is_open) && Instant::now() < until {
            sleep(PAUSE.min(until - Instant::now())).await;
            let (open, done) = watched.into_iter().partition(Watched::is_open);
            watched = self.read(open, patience).await;
            watched.extend(done);
        }
        let mut towns: Vec<Town> = watched.into_iter().filter_map(Watched::town).collect();
        towns.sort_by(|one, other| one.name.as_str().cmp(other.name.as_str()));
        Ok(Seen { towns, has_more })
    }

    async fn read(&self, watched: Vec<Watched>, patience: Duration) -> Vec<Watched> {
        let reads = iter(watched).map(async |watched| {
            let read = timeout(patience, self.records.read(&watched.name)).await;
            let late = |_| Err(RegisterError::unavailable("no answer to a read of the record"));
            watched.saw(read.unwrap_or_else(late), Instant::now())
        });
        reads.buffer_unordered(AT_ONCE).collect().await
    }
}

/// One town while it is watched.
#[derive(Debug)]
struct Watched {
    name: Name,
    seen: Option<Result<Record, RegisterError>>,
    /// When this version was seen first.
    since: Instant,
    at: Instant,
    has_changed: bool,
}

impl Watched {
    fn new(name: Name) -> Self {
        let now = Instant::now();
        Self { name, seen: None, since: now, at: now, has_changed: false }
    }

    fn saw(self, read: Result<Option<Record>, RegisterError>, now: Instant) -> Self {
        // A look that failed says nothing of the record, and nothing of the time since: the next one may succeed.
        if let (Err(RegisterError::Unavailable(_)), Some(Ok(_))) = (&read, &self.seen) {
            return self;
        }
        let Self { name, seen, since, has_changed, .. } = self;
        let read = match (read, &seen) {
            // It was removed between the list and the first look: it is no town any more.
            (Ok(None), None) => return Self { name, seen: None, since, at: now, has_changed },
            (Ok(None), Some(_)) => Err(RegisterError::misbehaves("the record was removed")),
            (Ok(Some(record)), _) => Ok(record),
            (Err(error), _) => Err(error),
        };
        let is_same = seen.as_ref() == Some(&read);
        let has_changed = has_changed || (!is_same && seen.is_some());
        let since = if is_same { since } else { now };
        Self { name, seen: Some(read), since, at: now, has_changed }
    }

    fn state(&self) -> State {
        match &self.seen {
            Some(Ok(record)) if record.released => State::Released,
            Some(Ok(_)) if self.has_changed => State::Held,
            Some(Ok(record)) if self.at - self.since >= takeover_after(record.ttl) => {
                State::Expired
            }
            Some(Ok(_)) => State::Unchanged,
            Some(Err(_)) | None => State::Unreadable,
        }
    }

    /// Another look says more.
    fn is_open(&self) -> bool {
        self.state() == State::Unchanged
    }

    fn town(self) -> Option<Town> {
        let (state, unchanged) = (self.state(), self.since.elapsed());
        Some(Town { name: self.name, record: self.seen?, state, unchanged })
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;

    use super::*;

    /// It lists, or does not answer at all. No read is answered.
    struct Hangs {
        lists: bool,
    }

    #[async_trait]
    impl Records for Hangs {
        async fn names(&self, _: usize) -> Result<Names, RegisterError> {
            match self.lists {
                true => Ok(Names { names: vec![Name::parse("town").unwrap()], has_more: false }),
                false => std::future::pending().await,
            }
        }

        async fn read(&self, _: &Name) -> Result<Option<Record>, RegisterError> {
            std::future::pending().await
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_register_that_hangs_is_given_up_when_nobody_wants_to_wait_longer() {
        for (longest, wanted) in [(0, 2), (3, 3), (15, 15), (60, 20)] {
            let began = Instant::now();
            let fleet = Fleet { records: Box::new(Hangs { lists: false }) };
            fleet.watch(Duration::from_secs(longest)).await.unwrap_err();
            assert_eq!(began.elapsed().as_secs(), wanted, "of {longest}");
        }
        let began = Instant::now();
        let fleet = Fleet { records: Box::new(Hangs { lists: true }) };
        let seen = fleet.watch(Duration::from_secs(3)).await.unwrap();
        assert_eq!((seen.towns[0].state, began.elapsed().as_secs()), (State::Unreadable, 3));
    }

    fn record(counter: u64) -> Record {
        Record {
            holder: "a".into(),
            endpoint: "".into(),
            epoch: 3,
            counter,
            ttl: Duration::from_secs(10),
            nonce: counter.into(),
            released: false,
        }
    }

    /// After what was read, each second.
    fn after(reads: Vec<Result<Option<Record>, RegisterError>>) -> Option<(State, u64)> {
        let watched = Watched::new(Name::parse("town").unwrap());
        let begun = watched.since;
        let seen = reads.into_iter().zip(0..).fold(watched, |watched, (read, second)| {
            watched.saw(read, begun + Duration::from_secs(second))
        });
        let at = seen.at;
        seen.seen.as_ref()?;
        Some((seen.state(), (at - seen.since).as_secs()))
    }

    #[test]
    fn a_second_version_says_that_the_holder_is_there() {
        let same = |times: usize| vec![Ok(Some(record(7))); times];
        assert_eq!(after(same(1)), Some((State::Unchanged, 0)));
        assert_eq!(after(same(11)), Some((State::Unchanged, 10)));
        assert_eq!(after(same(12)), Some((State::Expired, 11)));
        let renewed = [same(3), vec![Ok(Some(record(8)))]].concat();
        assert_eq!(after(renewed), Some((State::Held, 0)));
        let released = Record { released: true, ..record(9) };
        assert_eq!(after([same(2), vec![Ok(Some(released))]].concat()), Some((State::Released, 0)));
    }

    #[test]
    fn what_cannot_be_read_is_said_and_a_register_that_pauses_is_waited_for() {
        let away = || Err(RegisterError::unavailable("away"));
        assert_eq!(after(vec![away()]), Some((State::Unreadable, 0)));
        assert_eq!(after(vec![Ok(Some(record(7))), away()]), Some((State::Unchanged, 0)));
        // A holder that may be well is not called gone because this process cannot see it.
        let cut_off = [vec![Ok(Some(record(7)))], vec![away(); 20]].concat();
        assert_eq!(after(cut_off), Some((State::Unchanged, 0)));
        let damaged = Err(RegisterError::misbehaves("no JSON"));
        assert_eq!(after(vec![Ok(Some(record(7))), damaged]), Some((State::Unreadable, 0)));
        assert_eq!(after(vec![Ok(Some(record(7))), Ok(None)]), Some((State::Unreadable, 0)));
        assert_eq!(after(vec![Ok(None)]), None);
    }
}
