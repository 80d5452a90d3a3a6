//! Towns that are nothing but their leases: the real client of a register for each copy, in one process.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use bulkhead_lease::{
    Address, Boottime, Clock, Ended, Identity, Lease, Name, Permit, Settings, Status, System, Ttl,
};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::samples::Samples;

/// A renewal is sent after so many hundredths of the TTL. One that was sent two later was tried again, or its process was held up.
const RENEWAL_PERCENT: u32 = 30;
const LATE_PERCENT: u32 = 32;

/// Two copies of each town.
pub struct Towns {
    settings: Arc<[Settings]>,
    seen: Arc<Seen>,
    /// Which copies go on: both, the holders, none.
    stage: watch::Sender<Stage>,
    holders: JoinSet<()>,
    others: JoinSet<()>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Both,
    Holders,
    None,
}

/// What the copies reported.
#[derive(Default)]
pub struct Seen {
    /// Holders that got the lease, and copies that wait for them.
    held: AtomicU64,
    waiting: AtomicU64,
    /// Leases that a holder lost, and those that the other copy took.
    lost: AtomicU64,
    taken: AtomicU64,
    /// Times that a copy found its register failing, and renewals that were not on time.
    failures: AtomicU64,
    late: AtomicU64,
    /// Leases that were given back in the end.
    released: AtomicU64,
    /// From before a renewal was sent until its answer was read.
    renewals: Mutex<Samples>,
}

/// What must be 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wrong {
    pub lost: u64,
    pub taken: u64,
    pub failures: u64,
    pub late: u64,
}

impl Towns {
    /// Nothing is called yet. Towns of two rounds at one register have other names.
    pub fn new(number: usize, round: &str, register: &Address, ttl: Duration) -> Self {
        let settings = (0..number).map(|town| Settings {
            town: Name::parse(&format!("{round}-{town:04}")).expect("a name"),
            register: register.clone(),
            ttl: Ttl::new(ttl).expect("a TTL"),
            connector: Default::default(),
        });
        let (stage, _) = watch::channel(Stage::Both);
        let (holders, others) = (JoinSet::new(), JoinSet::new());
        Self { settings: settings.collect(), seen: Arc::default(), stage, holders, others }
    }

    /// A holder of each, evenly in this time.
    pub async fn hold(&mut self, over: Duration) {
        let mut next = Instant::now();
        let pause = self.pause(over);
        for settings in Arc::clone(&self.settings).iter() {
            let (lease, release) = self.copy("holder", settings, Stage::Holders);
            let (seen, ttl) = (Arc::clone(&self.seen), settings.ttl.get());
            self.holders.spawn(async move { holds(lease, ttl, &seen, release).await });
            next += pause;
            sleep_until(next).await;
        }
    }

    /// A copy of each that waits.
    pub async fn wait(&mut self, over: Duration) {
        let mut next = Instant::now();
        let pause = self.pause(over);
        for settings in Arc::clone(&self.settings).iter() {
            let (lease, release) = self.copy("other", settings, Stage::Both);
            let seen = Arc::clone(&self.seen);
            self.others.spawn(async move { waits(lease, &seen, release).await });
            next += pause;
            sleep_until(next).await;
        }
    }

    fn pause(&self, over: Duration) -> Duration {
        over / u32::try_from(self.settings.len()).expect("a number of towns")
    }

    /// `last`: the last stage at which it goes on.
    fn copy(
        &self,
        holder: &str,
        settings: &Settings,
        last: Stage,
    ) -> (Lease, impl Future<Output = ()> + use<>) {
        let me = Identity { holder: holder.into(), endpoint: "10.0.0.7:8080".into() };
        let lease = Lease::open(settings, me, 0).expect("a register");
        let mut stage = self.stage.subscribe();
        let release = async move {
            let _ = stage.wait_for(|stage| *stage > last).await;
        };
        (lease, release)
    }

    /// Waits until each town has a holder, and another copy if that many are to be there.
    pub async fn until_there(&self, copies: usize, patience: Duration) -> bool {
        let all = self.settings.len() as u64;
        let is_there = || {
            let held = self.seen.held.load(Relaxed) >= all;
            held && (copies < 2 || self.seen.waiting.load(Relaxed) >= all)
        };
        let until = Instant::now() + patience;
        while !is_there() {
            if Instant::now() > until {
                return false;
            }
            sleep(Duration::from_millis(20)).await;
        }
        true
    }

    /// Forgets the renewals until now.
    pub fn forget(&self) {
        *self.seen.renewals.lock() = Samples::new();
    }

    /// Those since then.
    pub fn taken_renewals(&self) -> Samples {
        std::mem::take(&mut *self.seen.renewals.lock())
    }

    pub fn wrong(&self) -> Wrong {
        let Seen { lost, taken, failures, late, .. } = &*self.seen;
        let [lost, taken, failures, late] =
            [lost, taken, failures, late].map(|count| count.load(Relaxed));
        Wrong { lost, taken, failures, late }
    }

    /// Ends the copies that wait, and gives the leases back. Says how many were held until then.
    pub async fn release(mut self) -> u64 {
        for (stage, copies) in
            [(Stage::Holders, &mut self.others), (Stage::None, &mut self.holders)]
        {
            self.stage.send_replace(stage);
            let all = async { while copies.join_next().await.is_some() {} };
            // What does not end was not given back.
            let _ = timeout(Duration::from_secs(20), all).await;
        }
        self.seen.released.load(Relaxed)
    }
}

async fn holds(mut lease: Lease, ttl: Duration, seen: &Seen, release: impl Future<Output = ()>) {
    let mut last: Option<Boottime> = None;
    let notify = |status: &Status| match status {
        Status::Held(Permit { until, .. }) => {
            let sent = Boottime(until.0.saturating_sub(Boottime(0).after(ttl).0));
            match last.replace(sent) {
                None => _ = seen.held.fetch_add(1, Relaxed),
                Some(before) => {
                    let took = System.now().since(sent);
                    seen.renewals.lock().add(took);
                    let is_late = sent.since(before) > ttl * LATE_PERCENT / 100;
                    seen.late.fetch_add(u64::from(is_late), Relaxed);
                }
            }
        }
        Status::Lost { .. } => _ = seen.lost.fetch_add(1, Relaxed),
        Status::Waiting { failing, .. } => {
            seen.failures.fetch_add(u64::from(failing.is_some()), Relaxed);
        }
    };
    let ended = lease.hold(notify, release).await.expect("a register that does what it has to do");
    seen.released.fetch_add(u64::from(ended == Ended::Released), Relaxed);
}

async fn waits(mut lease: Lease, seen: &Seen, release: impl Future<Output = ()>) {
    let mut knows_holder = false;
    let notify = |status: &Status| match status {
        Status::Held(_) => _ = seen.taken.fetch_add(1, Relaxed),
        Status::Lost { .. } => {}
        Status::Waiting { holder, failing, .. } => {
            if holder.is_some() && !std::mem::replace(&mut knows_holder, true) {
                seen.waiting.fetch_add(1, Relaxed);
            }
            seen.failures.fetch_add(u64::from(failing.is_some()), Relaxed);
        }
    };
    let ended = lease.hold(notify, release).await;
    ended.expect("a register that does what it has to do");
}

/// How often a lease with this TTL is renewed.
pub fn renewed_every(ttl: Duration) -> Duration {
    ttl * RENEWAL_PERCENT / 100
}
