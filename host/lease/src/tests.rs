//! The loop beside a register that is late, loses requests and answers, and conflicts, with a paused clock.

mod cluster;
mod fake;
mod nats;
mod real;
mod server;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::{Instant, advance, sleep, timeout};

use crate::*;
use fake::{Fake, Mood};

const TTL: Duration = Duration::from_secs(10);
const LONG: Duration = Duration::from_secs(600);

/// The clock of tokio, which a test pauses; `ahead` of another one.
struct Paused {
    began: Instant,
    ahead: Duration,
}

impl Clock for Paused {
    fn now(&self) -> Boottime {
        Boottime(1).after(self.began.elapsed() + self.ahead)
    }
}

fn identity(holder: &str) -> Identity {
    Identity { holder: holder.into(), endpoint: format!("{holder}:8080").into() }
}

/// A process that asks for the lease, and what it was told.
struct Copy {
    seen: Arc<Mutex<Vec<(Duration, Status)>>>,
    release: Option<oneshot::Sender<()>>,
    task: tokio::task::JoinHandle<Result<Ended, RegisterError>>,
    began: Instant,
    clock: Arc<Paused>,
}

impl Copy {
    fn start(register: &Fake, holder: &str) -> Self {
        let clock = Arc::new(Paused { began: Instant::now(), ahead: Duration::ZERO });
        Self::with(register, holder, clock)
    }

    fn with(register: &Fake, holder: &str, clock: Arc<Paused>) -> Self {
        let (register, me) = (Box::new(register.clone()), identity(holder));
        let mut lease = Lease::new(
            register,
            me,
            Ttl::new(TTL).unwrap(),
            0,
            Arc::clone(&clock) as Arc<dyn Clock>,
        );
        let (release, released) = oneshot::channel::<()>();
        let (seen, began) = (Arc::<Mutex<Vec<_>>>::default(), Instant::now());
        let for_task = Arc::clone(&seen);
        #[expect(clippy::disallowed_methods, reason = "a test has no spawner")]
        let task = tokio::spawn(async move {
            let notify = |status: &Status| for_task.lock().push((began.elapsed(), status.clone()));
            lease.hold(notify, async { drop(released.await) }).await
        });
        Self { seen, release: Some(release), task, began, clock }
    }

    fn permit(&self) -> Option<Permit> {
        match self.seen.lock().last() {
            Some((_, Status::Held(permit))) => Some(*permit),
            _ => None,
        }
    }

    /// Whether its work may run. That of a process that is gone goes on; that of one that gave the lease back has ended.
    fn is_live(&self) -> bool {
        let lasts = |permit: Permit| permit.is_live(self.clock.now());
        self.release.is_some() && self.last_permit().is_some_and(lasts)
    }

    fn last_permit(&self) -> Option<Permit> {
        let permit = |(_, status): &(Duration, Status)| match status {
            Status::Held(permit) => Some(*permit),
            _ => None,
        };
        self.seen.lock().iter().rev().find_map(permit)
    }

    /// Waits until it holds the lease; how long that took since it began.
    async fn holds(&self) -> Duration {
        self.until("holds", |status| matches!(status, Status::Held(_))).await
    }

    async fn until(&self, what: &str, it: impl Fn(&Status) -> bool) -> Duration {
        let found = timeout(LONG, async {
            loop {
                let found = self.seen.lock().iter().find(|(_, it_is)| it(it_is)).cloned();
                match found {
                    Some((at, _)) => return at,
                    None => sleep(Duration::from_millis(10)).await,
                }
            }
        });
        found.await.unwrap_or_else(|_| panic!("{what}: {:?}", self.seen.lock()))
    }

    async fn release(&mut self) -> Ended {
        drop(self.release.take());
        (&mut self.task).await.unwrap().unwrap()
    }

    async fn ended(&mut self) -> Ended {
        (&mut self.task).await.unwrap().unwrap()
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_one_holds_it_at_once_and_renews_it() {
    let register = Fake::default();
    let copy = Copy::start(&register, "a");
    assert!(copy.holds().await < Duration::from_millis(200));
    let first = copy.permit().unwrap();
    assert_eq!(first.epoch, 1);
    // Of the moment before the request was sent.
    assert_eq!(first.until.since(first.fence_at), Duration::from_secs(3));
    sleep(LONG).await;
    let last = copy.permit().unwrap();
    assert_eq!(last.epoch, 1);
    assert!(copy.is_live() && last.until > first.until);
    let renewals = register.writes();
    assert!((150..=210).contains(&renewals), "{renewals} writes in 600 s");
}

#[tokio::test(start_paused = true)]
async fn what_is_given_back_is_taken_at_once_and_has_another_number() {
    let register = Fake::default();
    let mut first = Copy::start(&register, "a");
    first.holds().await;
    let second = Copy::start(&register, "b");
    sleep(Duration::from_secs(60)).await;
    assert!(second.permit().is_none());
    let shown = second.seen.lock().clone();
    let Some((_, Status::Waiting { holder: Some(holder), failing: None, .. })) = shown.last()
    else {
        panic!("{shown:?}");
    };
    assert_eq!((&*holder.name, &*holder.endpoint, holder.epoch), ("a", "a:8080", 1));
    // A renewal is news to who waits: the wait begins again. Nothing else is.
    assert!(shown.len() <= 60 / 3 + 3, "{} changes", shown.len());
    let Some((_, Status::Waiting { free_at: Some(free_at), .. })) = shown.last() else { panic!() };
    let left = free_at.since(second.clock.now());
    assert!((Duration::from_secs(7)..=Duration::from_millis(10_500)).contains(&left), "{left:?}");
    assert_eq!(first.release().await, Ended::Released);
    let since = Instant::now();
    second.holds().await;
    assert!(since.elapsed() < Duration::from_millis(500), "{:?}", since.elapsed());
    assert_eq!(second.permit().unwrap().epoch, 2);
}

#[tokio::test(start_paused = true)]
async fn who_is_gone_is_followed_after_the_ttl_and_the_margin() {
    let register = Fake::default();
    let first = Copy::start(&register, "a");
    first.holds().await;
    let second = Copy::start(&register, "b");
    sleep(Duration::from_secs(30)).await;
    first.task.abort();
    let since = Instant::now();
    second.holds().await;
    // The last renewal was at most three seconds ago, and seen a pause later.
    let waited = since.elapsed().as_millis();
    assert!((7_400..=11_000).contains(&waited), "{waited} ms");
    assert_eq!(second.permit().unwrap().epoch, 2);
}

#[tokio::test(start_paused = true)]
async fn who_cannot_renew_ends_at_the_fence_and_not_later() {
    let register = Fake::default();
    for mood in [Mood::Refuses, Mood::Hangs, Mood::LosesRequests, Mood::LosesAnswers] {
        register.set(Mood::Works);
        let mut copy = Copy::start(&register, "a");
        copy.holds().await;
        sleep(Duration::from_millis(100)).await;
        let permit = copy.permit().unwrap();
        register.set(mood);
        let ended = copy.ended().await;
        assert_eq!(ended, Ended::Lost(Lost::Expired), "{mood:?}");
        let last = copy.seen.lock().last().cloned();
        assert!(
            matches!(last, Some((_, Status::Lost { why: Lost::Expired, .. }))),
            "{mood:?}: {last:?}"
        );
        let late = copy.clock.now().since(permit.fence_at);
        if mood == Mood::LosesAnswers {
            // What was written is read: that renews too, as long as reads are answered.
            continue;
        }
        assert!(late < Duration::from_millis(20), "{mood:?}: {late:?} after the fence");
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_whose_answer_is_lost_is_found_by_reading() {
    let register = Fake::default();
    register.set(Mood::LosesAnswersOfWrites);
    let copy = Copy::start(&register, "a");
    copy.holds().await;
    sleep(LONG).await;
    assert_eq!(copy.permit().unwrap().epoch, 1);
    assert!(copy.is_live());
    // It is believed from the moment at which it was sent, and not from that at which it was read.
    let permit = copy.permit().unwrap();
    let asked_at = permit.until.0 - 10_000_000_000;
    assert!(copy.clock.now().0 - asked_at >= 1_000_000_000 || copy.clock.now().0 > asked_at);
}

#[tokio::test(start_paused = true)]
async fn a_lost_request_or_two_do_not_cost_the_lease() {
    let register = Fake::default();
    let copy = Copy::start(&register, "a");
    copy.holds().await;
    for _ in 0..20 {
        register.set(Mood::LosesRequests);
        sleep(Duration::from_millis(1_500)).await;
        register.set(Mood::Works);
        sleep(Duration::from_secs(8)).await;
        assert!(copy.is_live());
    }
    assert_eq!(copy.permit().unwrap().epoch, 1);
}

#[tokio::test(start_paused = true)]
async fn a_record_of_another_one_ends_it() {
    let register = Fake::default();
    let mut copy = Copy::start(&register, "a");
    copy.holds().await;
    register.replace(|record| record.map(|it| Record { holder: "b".into(), epoch: 7, ..it }));
    assert_eq!(copy.ended().await, Ended::Lost(Lost::Taken { holder: "b".into(), epoch: 7 }));
    register.replace(|_| None);
    let mut copy = Copy::start(&register, "a");
    copy.holds().await;
    register.replace(|_| None);
    assert_eq!(copy.ended().await, Ended::Lost(Lost::Forgotten));
}

#[tokio::test(start_paused = true)]
async fn a_register_that_is_away_for_an_hour_is_waited_for() {
    let register = Fake::default();
    register.set(Mood::Refuses);
    let copy = Copy::start(&register, "a");
    sleep(Duration::from_secs(3600)).await;
    let status = copy.seen.lock().last().cloned();
    let Some((_, Status::Waiting { holder: None, failing: Some(why), .. })) = status else {
        panic!("{status:?}")
    };
    assert_eq!(why, "the register is away");
    // And without a request in each moment of it.
    assert!(register.calls() < 20_000, "{}", register.calls());
    register.set(Mood::Works);
    let since = Instant::now();
    copy.holds().await;
    assert!(since.elapsed() < Duration::from_secs(2));
}

#[tokio::test(start_paused = true)]
async fn a_register_that_misbehaves_when_it_is_tried_is_refused() {
    let register = Fake::default();
    register.set(Mood::Misbehaves);
    let mut copy = Copy::start(&register, "a");
    let ended = (&mut copy.task).await.unwrap();
    assert!(matches!(ended, Err(RegisterError::Misbehaves(_))), "{ended:?}");
}

#[tokio::test(start_paused = true)]
async fn a_release_that_gets_no_answer_ends_and_one_before_all_is_nothing() {
    let register = Fake::default();
    let mut copy = Copy::start(&register, "a");
    copy.holds().await;
    register.set(Mood::Hangs);
    let since = Instant::now();
    assert_eq!(copy.release().await, Ended::Abandoned);
    assert!(since.elapsed() <= TTL + Duration::from_secs(2), "{:?}", since.elapsed());
    let mut copy = Copy::start(&register, "b");
    sleep(Duration::from_millis(1)).await;
    let since = Instant::now();
    assert_eq!(copy.release().await, Ended::Released);
    assert!(since.elapsed() < Duration::from_secs(1));
    // A release whose answer is lost is found by reading.
    register.set(Mood::Works);
    let mut copy = Copy::start(&register, "c");
    copy.holds().await;
    register.set(Mood::LosesAnswersOfWrites);
    assert_eq!(copy.release().await, Ended::Released);
}

#[tokio::test(start_paused = true)]
async fn a_frozen_holder_finds_its_permit_over() {
    let register = Fake::default();
    let frozen = Copy::start(&register, "a");
    frozen.holds().await;
    // A paused clock that is moved is a process that stood still: no step was taken meanwhile.
    let permit = frozen.permit().unwrap();
    advance(Duration::from_secs(60)).await;
    assert!(!permit.is_live(frozen.clock.now()));
    let ended = frozen.until("is lost", |status| matches!(status, Status::Lost { .. })).await;
    assert!(ended >= Duration::from_secs(60) && frozen.began.elapsed() - ended < TTL);
}

/// Two that hold, freeze by turns, and lose requests and answers, with clocks that differ: never both, and numbers rise.
#[tokio::test(start_paused = true)]
async fn many_copies_in_bad_weather_are_never_live_together() {
    for seed in 0..40 {
        let mut random = fastrand(seed);
        let register = Fake::default();
        register.delay_up_to(Duration::from_millis(400), seed);
        let mut copies = Vec::new();
        let mut newest = 0;
        let until = Instant::now() + Duration::from_secs(400);
        let mut started = 0;
        while Instant::now() < until {
            copies.retain(|copy: &Copy| !copy.task.is_finished() || copy.is_live());
            if copies.iter().filter(|copy| !copy.task.is_finished()).count() < 3 {
                let ahead = Duration::from_secs(random() % 100_000);
                let clock = Arc::new(Paused { began: Instant::now(), ahead });
                started += 1;
                copies.push(Copy::with(&register, &format!("p{started}"), clock));
            }
            register.set(match random() % 8 {
                0 => Mood::Hangs,
                1 => Mood::LosesRequests,
                2 => Mood::LosesAnswers,
                3 => Mood::LosesAnswersOfWrites,
                _ => Mood::Works,
            });
            for _ in 0..random() % 60 {
                sleep(Duration::from_millis(100)).await;
                let live: Vec<_> = copies.iter().filter(|copy| copy.is_live()).collect();
                assert!(live.len() <= 1, "seed {seed}");
                if let Some(permit) = live.first().and_then(|copy| copy.last_permit()) {
                    assert!(permit.epoch >= newest, "seed {seed}");
                    newest = permit.epoch;
                }
            }
            if random().is_multiple_of(3) {
                let at = usize::try_from(random()).unwrap_or(0) % copies.len();
                if random().is_multiple_of(2) {
                    copies[at].release = None;
                } else {
                    copies[at].task.abort();
                }
            }
        }
        assert!(newest > 2, "seed {seed}: {newest}");
        copies.iter().for_each(|copy| copy.task.abort());
    }
}

/// Random numbers of a seed (splitmix64).
fn fastrand(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed;
    move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = state;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }
}
