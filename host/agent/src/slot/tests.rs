use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use bulkhead_types::{Digest, Exit, ExitReason, Phase, RestartPolicy, Timestamp};
use futures_util::FutureExt as _;

use super::*;

/// An incarnation that is whatever the test says.
#[derive(Debug, Clone)]
struct Fake {
    number: Arc<AtomicU64>,
    spec: &'static str,
    component: Arc<OnceLock<Digest>>,
    ends: Arc<AtomicBool>,
    starts: Arc<AtomicBool>,
    ticket: Option<Ticket>,
}

impl Fake {
    fn new(spec: &'static str, number: u64) -> Self {
        let number = Arc::new(AtomicU64::new(number));
        let (component, ends, starts) = (Arc::default(), Arc::default(), Arc::default());
        Self { number, spec, component, ends, starts, ticket: None }
    }

    fn number(&self) -> Incarnation {
        self.incarnation().expect("a number")
    }

    /// Of a reservation.
    fn ticket(&self) -> Ticket {
        self.ticket.expect("a reservation")
    }

    /// Its component is loaded.
    fn loaded(&self, component: u8) -> &Self {
        self.component.set(Digest([component; 32])).unwrap();
        self
    }
}

impl PartialEq for Fake {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.number, &other.number)
    }
}

impl SlotEntry for Fake {
    type Spec = str;

    fn incarnation(&self) -> Option<Incarnation> {
        Some(Incarnation(self.number.load(Relaxed))).filter(|number| number.0 > 0)
    }

    fn assign(&self, number: Incarnation) {
        assert_eq!(self.number.swap(number.0, Relaxed), 0, "it had one");
    }

    fn spec(&self) -> &str {
        self.spec
    }

    fn is_same(&self, spec: &str) -> bool {
        self.spec == spec
    }

    fn component(&self) -> Option<Digest> {
        self.component.get().copied()
    }

    fn is_up(&self) -> bool {
        !self.ends.load(Relaxed)
    }

    fn is_starting(&self) -> bool {
        self.starts.load(Relaxed)
    }
}

type TestSlot = Slot<Fake, ()>;

#[derive(Debug, PartialEq)]
enum Refused {
    Quarantined,
    Draining,
}

impl From<RestartState> for Refused {
    fn from(_: RestartState) -> Self {
        Self::Quarantined
    }
}

fn slot() -> TestSlot {
    Slot::new(Incarnation(0))
}

fn intent(spec: &str) -> StartIntent<'_, str> {
    StartIntent { spec, if_running: IfRunning::Join, force: false, resumes: false }
}

fn restart(spec: &str) -> StartIntent<'_, str> {
    StartIntent { if_running: IfRunning::Restart, ..intent(spec) }
}

fn admit(slot: &TestSlot, intent: &StartIntent<'_, str>) -> Result<Admitted<Fake>, Refused> {
    let spec = if intent.spec == "a" { "a" } else { "b" };
    slot.admit(intent, || Ok(()), || Fake::new(spec, 0))
}

fn reserve_as(slot: &TestSlot, intent: &StartIntent<'_, str>) -> Fake {
    match admit(slot, intent) {
        Ok(Admitted::Reserved { ticket, entry, .. }) => Fake { ticket: Some(ticket), ..entry },
        other => panic!("not reserved: {other:?}"),
    }
}

fn reserve(slot: &TestSlot, spec: &'static str) -> Fake {
    reserve_as(slot, &intent(spec))
}

/// An incarnation that holds the slot and runs.
async fn running(slot: &TestSlot, spec: &'static str) -> Fake {
    let fake = reserve_as(slot, &restart(spec));
    slot.ready(fake.ticket()).unwrap();
    assert_eq!(slot.acquire(fake.ticket(), || Some(())).await, Acquired::Holder);
    fake
}

/// Ends a holder the way that its restart policy answers.
fn crash(slot: &TestSlot, fake: &Fake, rules: &RestartRules) -> Decision {
    let exit = Exit::new(ExitReason::Trap, Phase::Handle, "x");
    let end = PastEnd::new(&exit, Timestamp(0), fake.number(), "f".into(), None);
    let end = PastEnd { code_sha256: fake.component(), ..end };
    let decision = slot.decide(rules, end, Duration::ZERO, 1.0, true);
    slot.end(fake.number(), matches!(decision, Decision::Retry { .. }));
    decision
}

fn transient(max_restarts: u32) -> RestartRules {
    let policy = RestartPolicy::Transient;
    RestartRules { policy, max_restarts, ..RestartRules::default() }
}

#[tokio::test]
async fn a_second_start_of_the_same_spec_joins_the_first() {
    let slot = slot();
    let first = reserve(&slot, "a");
    assert_eq!(admit(&slot, &intent("a")), Ok(Admitted::Joined(first.clone())));
    slot.ready(first.ticket()).unwrap();
    assert_eq!(admit(&slot, &intent("a")), Ok(Admitted::Joined(first)));
}

#[tokio::test]
async fn an_equal_start_joins_what_is_up_and_leaves_no_gap_in_the_numbers() {
    let slot = slot();
    let first = running(&slot, "a").await;
    for early in [true, false] {
        let second = reserve(&slot, "a");
        assert_eq!(admit(&slot, &intent("a")), Ok(Admitted::Joined(second.clone())));
        match early {
            true => assert_eq!(slot.join(second.ticket()), Some(first.clone())),
            false => {
                let joined = slot.ready(second.ticket()).err();
                assert_eq!(joined, Some(NotReady::Joined(first.clone())));
            }
        }
        assert_eq!((second.incarnation(), slot.last()), (None, first.number()));
        assert_eq!(slot.acquire(second.ticket(), || None).await, Acquired::Gone);
    }
}

#[tokio::test]
async fn a_start_that_is_let_in_during_a_backoff_joins_the_restart_that_comes_first() {
    let slot = slot();
    let first = running(&slot, "a").await;
    crash(&slot, &first, &transient(5));
    let start = reserve(&slot, "a");
    let restarted = slot.restart(first.number(), |number| Fake::new("a", number.0)).unwrap();
    assert_eq!(slot.ready(start.ticket()).err(), Some(NotReady::Joined(restarted)));
}

#[tokio::test]
async fn nobody_joins_what_ends_or_what_is_to_be_begun_afresh() {
    let slot = slot();
    let first = running(&slot, "a").await;
    let fresh = reserve_as(&slot, &restart("a"));
    assert!(slot.join(fresh.ticket()).is_none());
    first.starts.store(true, Relaxed);
    assert_eq!(slot.join(fresh.ticket()), Some(first.clone()), "it is being begun");
    first.ends.store(true, Relaxed);
    let next = reserve(&slot, "a");
    assert_eq!(slot.ready(next.ticket()).unwrap().holder, Some(first));
}

#[tokio::test]
async fn who_joins_a_start_that_would_join_still_gets_a_fresh_one() {
    let slot = slot();
    let first = running(&slot, "a").await;
    let next = reserve(&slot, "a");
    assert_eq!(admit(&slot, &restart("a")), Ok(Admitted::Joined(next.clone())));
    assert!(slot.join(next.ticket()).is_none());
    assert_eq!(slot.ready(next.ticket()).unwrap().holder, Some(first));
}

#[tokio::test]
async fn another_component_is_another_spec() {
    let slot = slot();
    let first = running(&slot, "a").await;
    first.loaded(1);
    let second = reserve(&slot, "a");
    second.loaded(2);
    assert_eq!(slot.ready(second.ticket()).unwrap().holder, Some(first));
}

#[tokio::test]
async fn a_quarantine_is_about_a_component() {
    let slot = slot();
    let first = running(&slot, "a").await;
    first.loaded(1);
    assert!(matches!(crash(&slot, &first, &transient(0)), Decision::Quarantine(_)));
    let same = reserve(&slot, "a");
    same.loaded(1);
    assert!(matches!(slot.ready(same.ticket()), Err(NotReady::Quarantined(_))));
    slot.withdraw(same.ticket());
    assert_eq!(same.incarnation(), None, "a start that is refused takes no number");
    // Also in a later run, which knows of the component by the last end alone.
    let later = Slot::<Fake, ()>::new(Incarnation(1));
    later.remember(slot.restarts(), Some(Fake::new("a", 1)));
    for slot in [&slot, &later] {
        let repaired = reserve(slot, "a");
        repaired.loaded(2);
        assert!(slot.ready(repaired.ticket()).is_ok());
    }
}

#[tokio::test]
async fn a_start_that_was_let_in_before_a_restart_begins_with_the_higher_number() {
    let slot = slot();
    let first = running(&slot, "a").await;
    crash(&slot, &first, &transient(5));
    let start = reserve(&slot, "b");
    let restarted = slot.restart(first.number(), |number| Fake::new("a", number.0)).unwrap();
    let before = slot.ready(start.ticket()).unwrap();
    assert_eq!(before.holder, Some(restarted.clone()));
    assert!(restarted.number() < start.number());
}

#[tokio::test]
async fn a_start_of_another_spec_takes_the_reservation_over() {
    let slot = slot();
    let first = reserve(&slot, "a");
    let Ok(Admitted::Reserved { entry, superseded, .. }) = admit(&slot, &intent("b")) else {
        panic!()
    };
    assert_eq!((entry.number(), superseded), (Incarnation(2), Some(first.clone())));
    assert_eq!(slot.ready(first.ticket()).err(), Some(NotReady::Gone));
    assert_eq!(slot.acquire(first.ticket(), || Some(())).await, Acquired::Gone);
}

#[tokio::test]
async fn a_running_agent_is_touched_when_its_successor_is_ready_and_not_before() {
    let slot = slot();
    let first = running(&slot, "a").await;
    let failing = reserve(&slot, "b");
    assert_eq!(slot.shown(), Some(first.clone()));
    slot.withdraw(failing.ticket());
    assert_eq!(slot.shown(), Some(first.clone()));
    let second = reserve(&slot, "b");
    let before = slot.ready(second.ticket()).unwrap();
    assert_eq!(before.holder, Some(first.clone()));
    assert_eq!(slot.shown(), Some(second.clone()));
    assert!(!slot.end(first.number(), true), "what was replaced is not restarted");
    assert_eq!(
        slot.acquire(second.ticket(), || None).await,
        Acquired::Holder,
        "it inherits the slot"
    );
}

#[tokio::test]
async fn a_live_agent_is_kept_for_those_who_want_it_and_never_when_it_is_ending() {
    let slot = slot();
    let first = running(&slot, "a").await;
    let keep = StartIntent { if_running: IfRunning::Keep, ..intent("b") };
    assert_eq!(admit(&slot, &keep), Ok(Admitted::Kept(first)));
    slot.stop();
    assert!(matches!(admit(&slot, &keep), Ok(Admitted::Reserved { .. })));
}

#[tokio::test]
async fn a_full_container_refuses_a_new_agent_and_leaves_nothing_behind() {
    let slot = slot();
    let first = reserve(&slot, "a");
    slot.ready(first.ticket()).unwrap();
    assert_eq!(slot.acquire(first.ticket(), || None).await, Acquired::Full);
    slot.withdraw(first.ticket());
    assert!(slot.is_vacant() && slot.shown().is_none());
}

#[tokio::test]
async fn a_crash_backs_off_and_restarts_with_a_new_number() {
    let slot = slot();
    let first = running(&slot, "a").await;
    assert!(matches!(crash(&slot, &first, &transient(5)), Decision::Retry { .. }));
    assert_eq!(slot.shown(), Some(first.clone()));
    let make = |number: Incarnation| Fake::new("a", number.0);
    let second = slot.restart(first.number(), make).unwrap();
    assert_eq!(second.number(), Incarnation(2));
    assert!(slot.restart(first.number(), make).is_none());
}

#[tokio::test]
async fn a_start_or_a_stop_ends_a_backoff() {
    for by_start in [true, false] {
        let slot = slot();
        let first = running(&slot, "a").await;
        crash(&slot, &first, &transient(5));
        if by_start {
            let second = reserve(&slot, "a");
            assert_eq!(slot.ready(second.ticket()).unwrap().backoff, Some(first.clone()));
        } else {
            assert_eq!(slot.stop().backoff, Some(first.clone()));
        }
        slot.left_backoff(first.number()).await;
        assert!(slot.restart(first.number(), |_| unreachable!()).is_none());
    }
}

#[tokio::test]
async fn a_stop_at_the_moment_of_a_crash_wins_over_the_restart() {
    let slot = slot();
    let first = running(&slot, "a").await;
    let exit = Exit::new(ExitReason::Trap, Phase::Handle, "x");
    let end = PastEnd::new(&exit, Timestamp(0), first.number(), "f".into(), None);
    let decision = slot.decide(&transient(5), end, Duration::ZERO, 1.0, true);
    assert!(matches!(decision, Decision::Retry { .. }));
    let stopped = slot.stop();
    assert_eq!(stopped.holder, Some(first.clone()));
    assert!(!slot.end(first.number(), true));
    slot.gone(stopped.upto).await;
    assert!(slot.is_vacant());
}

#[tokio::test]
async fn a_crash_loop_is_quarantined_until_a_new_spec_or_a_persons_word() {
    let slot = slot();
    let first = running(&slot, "a").await;
    assert!(matches!(crash(&slot, &first, &transient(0)), Decision::Quarantine(_)));
    assert_quarantined(&slot, &intent("a"));
    assert_quarantined(&slot, &StartIntent { if_running: IfRunning::Keep, ..intent("a") });
    // A new spec that does not get to its turn changes nothing.
    let other = reserve(&slot, "b");
    slot.withdraw(other.ticket());
    assert_quarantined(&slot, &intent("a"));
    let forced = reserve_as(&slot, &StartIntent { force: true, ..intent("a") });
    slot.ready(forced.ticket()).unwrap();
    assert_eq!(slot.acquire(forced.ticket(), || Some(())).await, Acquired::Holder);
    assert_eq!(slot.restarts(), RestartState::default());
}

/// A start of what is quarantined is let in, and refused when its component is known.
#[track_caller]
fn assert_quarantined(slot: &TestSlot, intent: &StartIntent<'_, str>) {
    let refused = reserve_as(slot, intent);
    assert!(matches!(slot.ready(refused.ticket()), Err(NotReady::Quarantined(_))));
    slot.withdraw(refused.ticket());
}

#[tokio::test]
async fn a_start_that_was_let_in_before_the_quarantine_does_not_go_round_it() {
    let slot = slot();
    let first = running(&slot, "a").await;
    let same = reserve(&slot, "a");
    assert!(matches!(crash(&slot, &first, &transient(0)), Decision::Quarantine(_)));
    assert!(matches!(slot.ready(same.ticket()), Err(NotReady::Quarantined(_))));
    let other = reserve(&slot, "b");
    assert!(slot.ready(other.ticket()).is_ok());
}

#[tokio::test]
async fn a_quarantined_spec_does_not_come_in_behind_a_new_one() {
    let slot = slot();
    let first = running(&slot, "a").await;
    let exit = Exit::new(ExitReason::Trap, Phase::Handle, "x");
    let end = PastEnd::new(&exit, Timestamp(0), first.number(), "f".into(), None);
    slot.decide(&transient(0), end, Duration::ZERO, 1.0, true);
    // It is decided, and the end is still being reported.
    first.ends.store(true, Relaxed);
    assert_quarantined(&slot, &intent("a"));
    slot.end(first.number(), false);
    let other = reserve(&slot, "b");
    assert_eq!(admit(&slot, &intent("a")), Err(Refused::Quarantined));
    assert_eq!(admit(&slot, &intent("b")), Ok(Admitted::Joined(other.clone())));
    slot.ready(other.ticket()).unwrap();
    assert_eq!(admit(&slot, &intent("a")), Err(Refused::Quarantined));
    // When it has begun, the quarantine is over.
    assert_eq!(slot.acquire(other.ticket(), || Some(())).await, Acquired::Holder);
    assert!(matches!(admit(&slot, &intent("a")), Ok(Admitted::Reserved { .. })));
}

#[tokio::test]
async fn a_start_that_is_refused_takes_no_other_with_it() {
    let slot = slot();
    let first = running(&slot, "a").await;
    assert!(matches!(crash(&slot, &first, &transient(0)), Decision::Quarantine(_)));
    let refused = reserve(&slot, "a");
    assert!(matches!(slot.ready(refused.ticket()), Err(NotReady::Quarantined(_))));
    // It knows, and has not answered yet.
    let forced = reserve_as(&slot, &StartIntent { force: true, ..intent("a") });
    slot.withdraw(refused.ticket());
    slot.ready(forced.ticket()).unwrap();
    assert_eq!(slot.acquire(forced.ticket(), || Some(())).await, Acquired::Holder);
}

#[tokio::test]
async fn a_start_of_the_same_spec_does_not_wipe_the_history() {
    let slot = slot();
    let first = running(&slot, "a").await;
    crash(&slot, &first, &transient(1));
    let second = running(&slot, "a").await;
    assert!(matches!(crash(&slot, &second, &transient(1)), Decision::Quarantine(_)));
}

#[tokio::test]
async fn a_draining_container_lets_nothing_in() {
    let slot = slot();
    let refused = slot.admit(&intent("a"), || Err(Refused::Draining), || unreachable!());
    assert_eq!(refused, Err(Refused::Draining));
}

#[tokio::test]
async fn a_forced_start_that_does_not_get_its_turn_leaves_the_history() {
    let slot = slot();
    let first = running(&slot, "a").await;
    assert!(matches!(crash(&slot, &first, &transient(0)), Decision::Quarantine(_)));
    let before = slot.restarts();
    let forced = reserve_as(&slot, &StartIntent { force: true, ..intent("a") });
    slot.ready(forced.ticket()).unwrap();
    assert_eq!(slot.acquire(forced.ticket(), || None).await, Acquired::Full);
    slot.withdraw(forced.ticket());
    assert_eq!(slot.restarts(), before);
    assert_quarantined(&slot, &intent("a"));
}

fn again() -> RestartIntent {
    RestartIntent { force: false, resumes: false }
}

fn made() -> Fake {
    Fake::new("a", 0)
}

#[tokio::test]
async fn a_start_that_came_to_nothing_backs_off_and_is_reserved_again() {
    let slot = slot();
    let first = reserve(&slot, "a");
    assert!(slot.fail(first.ticket(), true));
    assert_eq!((slot.shown(), slot.is_vacant()), (Some(first.clone()), false));
    let next = slot.reserve_again(first.number(), again(), made).await;
    let (ticket, next) = next.expect("nobody took it");
    assert_eq!(next.number(), Incarnation(2));
    slot.ready(ticket).unwrap();
    assert_eq!(slot.acquire(ticket, || Some(())).await, Acquired::Holder);
}

#[tokio::test]
async fn a_start_that_came_to_nothing_shows_unless_something_else_is_there() {
    let slot = slot();
    let live = running(&slot, "a").await;
    let next = reserve(&slot, "b");
    assert!(!slot.fail(next.ticket(), true), "it cannot back off beside an active one");
    assert_eq!(slot.shown(), Some(live.clone()));
    slot.end(live.number(), false);
    let next = reserve(&slot, "b");
    assert!(!slot.fail(next.ticket(), false));
    assert_eq!((slot.shown(), slot.is_vacant()), (Some(next), true));
}

#[tokio::test]
async fn a_start_without_a_number_gets_one_when_it_comes_to_nothing_and_shows() {
    let slot = slot();
    let live = running(&slot, "a").await;
    let next = reserve(&slot, "b");
    assert_eq!(next.incarnation(), None);
    slot.end(live.number(), false);
    assert!(slot.fail(next.ticket(), true));
    assert_eq!((next.number(), slot.last()), (Incarnation(2), Incarnation(2)));
}

#[tokio::test]
async fn a_newer_start_goes_before_one_in_backoff_and_leaves_it_when_it_comes_to_nothing() {
    let slot = slot();
    let first = reserve(&slot, "a");
    slot.fail(first.ticket(), true);
    let newer = reserve(&slot, "b");
    let waits = slot.reserve_again(first.number(), again(), made).now_or_never();
    assert!(waits.is_none(), "it waits");
    assert!(!slot.fail(newer.ticket(), true), "one is in backoff already");
    let next = slot.reserve_again(first.number(), again(), made).await;
    let (ticket, next) = next.expect("its turn again");
    slot.fail(ticket, true);
    let newer = reserve(&slot, "b");
    let before = slot.ready(newer.ticket()).unwrap();
    assert_eq!(before.backoff, Some(next.clone()));
    let taken = slot.reserve_again(next.number(), again(), made).await;
    assert!(taken.is_none(), "it was taken over");
}

#[tokio::test]
async fn a_stop_ends_the_backoff_of_a_start() {
    let slot = slot();
    let first = reserve(&slot, "a");
    slot.fail(first.ticket(), true);
    assert_eq!(slot.stop().backoff, Some(first.clone()));
    assert!(slot.reserve_again(first.number(), again(), made).await.is_none());
    // One that was stopped before it failed does not back off.
    let second = reserve(&slot, "a");
    slot.stop();
    assert!(!slot.fail(second.ticket(), true) && slot.is_vacant());
}
