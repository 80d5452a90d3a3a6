use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use bulkhead_model::{Exit, ExitReason, Phase, RestartPolicy, Timestamp};

use super::*;

/// An incarnation that is whatever the test says.
#[derive(Debug, Clone)]
struct Fake {
    number: Incarnation,
    spec: &'static str,
    /// 0 starting, 1 running, 2 stopping.
    state: Arc<AtomicU8>,
}

impl PartialEq for Fake {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Tenant for Fake {
    type Spec = str;

    fn incarnation(&self) -> Incarnation {
        self.number
    }

    fn is_same(&self, spec: &str) -> bool {
        self.spec == spec
    }

    fn state(&self) -> AgentState {
        match self.state.load(Ordering::Relaxed) {
            0 => AgentState::Starting,
            1 => AgentState::Running { busy: false },
            _ => AgentState::Stopping,
        }
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

fn wish(spec: &str) -> Wish<'_, str> {
    Wish { spec, keep_running: false, force: false, resumes: false }
}

fn admit(slot: &TestSlot, wish: &Wish<'_, str>) -> Result<Admitted<Fake>, Refused> {
    let spec = if wish.spec == "a" { "a" } else { "b" };
    slot.admit(wish, || Ok(()), |number| Fake { number, spec, state: Arc::default() })
}

fn reserve(slot: &TestSlot, spec: &'static str) -> Fake {
    match admit(slot, &wish(spec)) {
        Ok(Admitted::Reserved { tenant, .. }) => tenant,
        other => panic!("not reserved: {other:?}"),
    }
}

/// An incarnation that holds the slot and runs.
async fn running(slot: &TestSlot, spec: &'static str) -> Fake {
    let fake = reserve(slot, spec);
    slot.ready(fake.number).unwrap();
    assert_eq!(slot.turn(fake.number, || Some(())).await, Turn::Mine);
    fake.state.store(1, Ordering::Relaxed);
    fake
}

/// Ends a holder the way that its restart policy answers.
fn crash(slot: &TestSlot, fake: &Fake, rules: &RestartRules) -> Decision {
    let exit = Exit::new(ExitReason::Trap, Phase::Handle, "x");
    let end = PastEnd::new(&exit, Timestamp(0), fake.number, "f".into(), None);
    let decision = slot.decide(rules, end, Duration::ZERO, 1.0, true);
    slot.end(fake.number, matches!(decision, Decision::Retry { .. }));
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
    assert_eq!(admit(&slot, &wish("a")), Ok(Admitted::Joined(first.clone())));
    slot.ready(first.number).unwrap();
    assert_eq!(slot.turn(first.number, || Some(())).await, Turn::Mine);
    assert_eq!(admit(&slot, &wish("a")), Ok(Admitted::Joined(first)));
}

#[tokio::test]
async fn a_start_of_another_spec_takes_the_reservation_over() {
    let slot = slot();
    let first = reserve(&slot, "a");
    let Ok(Admitted::Reserved { tenant, superseded }) = admit(&slot, &wish("b")) else { panic!() };
    assert_eq!((tenant.number, superseded), (Incarnation(2), Some(first.clone())));
    assert_eq!(slot.ready(first.number).err(), Some(NotReady::Gone));
    assert_eq!(slot.turn(first.number, || Some(())).await, Turn::Gone);
}

#[tokio::test]
async fn a_running_agent_is_touched_when_its_successor_is_ready_and_not_before() {
    let slot = slot();
    let first = running(&slot, "a").await;
    let failing = reserve(&slot, "b");
    assert_eq!(slot.shown(), Some(first.clone()));
    slot.withdraw(failing.number);
    assert_eq!(slot.shown(), Some(first.clone()));
    let second = reserve(&slot, "b");
    let before = slot.ready(second.number).unwrap();
    assert_eq!(before.holder, Some(first.clone()));
    assert_eq!(slot.shown(), Some(second.clone()));
    assert!(!slot.end(first.number, true), "what was replaced does not come back");
    assert_eq!(slot.turn(second.number, || None).await, Turn::Mine, "it inherits the place");
}

#[tokio::test]
async fn a_live_agent_is_kept_for_those_who_want_it_and_never_when_it_is_ending() {
    let slot = slot();
    let first = running(&slot, "a").await;
    let keep = Wish { keep_running: true, ..wish("b") };
    assert_eq!(admit(&slot, &keep), Ok(Admitted::Kept(first)));
    slot.stop();
    assert!(matches!(admit(&slot, &keep), Ok(Admitted::Reserved { .. })));
}

#[tokio::test]
async fn a_full_container_refuses_a_new_agent_and_leaves_nothing_behind() {
    let slot = slot();
    let first = reserve(&slot, "a");
    slot.ready(first.number).unwrap();
    assert_eq!(slot.turn(first.number, || None).await, Turn::Full);
    assert!(slot.is_vacant() && slot.shown().is_none());
}

#[tokio::test]
async fn a_crash_rests_and_comes_back_with_a_new_number() {
    let slot = slot();
    let first = running(&slot, "a").await;
    assert!(matches!(crash(&slot, &first, &transient(5)), Decision::Retry { .. }));
    assert_eq!(slot.shown(), Some(first.clone()));
    let make = |number| Fake { number, spec: "a", state: Arc::default() };
    let second = slot.retry(first.number, make).unwrap();
    assert_eq!(second.number, Incarnation(2));
    assert!(slot.retry(first.number, make).is_none());
}

#[tokio::test]
async fn a_start_or_a_stop_ends_a_rest() {
    for by_start in [true, false] {
        let slot = slot();
        let first = running(&slot, "a").await;
        crash(&slot, &first, &transient(5));
        if by_start {
            let second = reserve(&slot, "a");
            assert_eq!(slot.ready(second.number).unwrap().resting, Some(first.clone()));
        } else {
            assert_eq!(slot.stop().resting, Some(first.clone()));
        }
        slot.disturbed(first.number).await;
        assert!(slot.retry(first.number, |_| unreachable!()).is_none());
    }
}

#[tokio::test]
async fn a_stop_at_the_moment_of_a_crash_wins_over_the_restart() {
    let slot = slot();
    let first = running(&slot, "a").await;
    let exit = Exit::new(ExitReason::Trap, Phase::Handle, "x");
    let end = PastEnd::new(&exit, Timestamp(0), first.number, "f".into(), None);
    let decision = slot.decide(&transient(5), end, Duration::ZERO, 1.0, true);
    assert!(matches!(decision, Decision::Retry { .. }));
    let stopped = slot.stop();
    assert_eq!(stopped.holder, Some(first.clone()));
    assert!(!slot.end(first.number, true));
    slot.gone(stopped.upto).await;
    assert!(slot.is_vacant());
}

#[tokio::test]
async fn a_crash_loop_is_quarantined_until_a_new_spec_or_a_persons_word() {
    let slot = slot();
    let first = running(&slot, "a").await;
    assert!(matches!(crash(&slot, &first, &transient(0)), Decision::Quarantine(_)));
    assert_eq!(admit(&slot, &wish("a")), Err(Refused::Quarantined));
    let keep = Wish { keep_running: true, ..wish("a") };
    assert_eq!(admit(&slot, &keep), Err(Refused::Quarantined));
    // A new spec that does not get to its turn changes nothing.
    let other = reserve(&slot, "b");
    slot.withdraw(other.number);
    assert_eq!(admit(&slot, &wish("a")), Err(Refused::Quarantined));
    let forced = Wish { force: true, ..wish("a") };
    let Ok(Admitted::Reserved { tenant, .. }) = admit(&slot, &forced) else { panic!() };
    slot.ready(tenant.number).unwrap();
    assert_eq!(slot.restarts(), RestartState::default());
}

#[tokio::test]
async fn a_start_that_was_let_in_before_the_quarantine_does_not_go_round_it() {
    let slot = slot();
    let first = running(&slot, "a").await;
    let same = reserve(&slot, "a");
    assert!(matches!(crash(&slot, &first, &transient(0)), Decision::Quarantine(_)));
    assert!(matches!(slot.ready(same.number), Err(NotReady::Quarantined(_))));
    let other = reserve(&slot, "b");
    assert!(slot.ready(other.number).is_ok());
}

#[tokio::test]
async fn a_quarantined_spec_does_not_come_in_behind_a_new_one() {
    let slot = slot();
    let first = running(&slot, "a").await;
    let exit = Exit::new(ExitReason::Trap, Phase::Handle, "x");
    let end = PastEnd::new(&exit, Timestamp(0), first.number, "f".into(), None);
    slot.decide(&transient(0), end, Duration::ZERO, 1.0, true);
    // It is decided, and the end is still being told.
    assert_eq!(admit(&slot, &wish("a")), Err(Refused::Quarantined));
    slot.end(first.number, false);
    let other = reserve(&slot, "b");
    assert_eq!(admit(&slot, &wish("a")), Err(Refused::Quarantined));
    assert_eq!(admit(&slot, &wish("b")), Ok(Admitted::Joined(other.clone())));
    // From here on it is sure to have its turn, and the quarantine is over.
    slot.ready(other.number).unwrap();
    assert!(matches!(admit(&slot, &wish("a")), Ok(Admitted::Reserved { .. })));
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
    let refused = slot.admit(&wish("a"), || Err(Refused::Draining), |_| unreachable!());
    assert_eq!(refused, Err(Refused::Draining));
}
