//! Snapshots that an agent fails with, and those that it does not give.
//!
//! What was counted is read from the disk, which takes real time: the clock stands still only where none is read.

use std::time::Duration;

use bulkhead_store::database::{Kept, Newest};
use bulkhead_types::event::SnapshotNotKept;
use bulkhead_types::{
    AgentSpec, AgentState, Digest, Event, RestartRules, SnapshotPolicy, SnapshotRules,
};
use tokio::time::sleep;

use super::fake::{Op, fails, returns, traps};
use super::rig::{Rig, spec};

const IDLE: AgentState = AgentState::Running { busy: false };
const RETRIES: Duration = Duration::from_secs(300);

/// One that is restarted for as long as the test wants.
fn with_snapshots(when: SnapshotPolicy) -> AgentSpec {
    let soon = Duration::from_millis(1);
    let restart = RestartRules {
        backoff: soon,
        backoff_max: soon,
        same_fault: 100,
        max_restarts: 100,
        ..spec().restart
    };
    let snapshots = SnapshotRules { when, ..SnapshotRules::default() };
    AgentSpec { restart, snapshots, ..spec() }
}

fn set_aside(rig: &Rig) -> usize {
    rig.kept.count(|event| matches!(event, Event::SnapshotSetAside { .. }))
}

async fn newest(rig: &Rig) -> Option<Kept> {
    let _ = rig.container.database.receipt().durable().await;
    match rig.container.database.newest_snapshot(&spec().id).unwrap() {
        Newest::Kept(kept) => Some(kept),
        Newest::None | Newest::Rotten { .. } => None,
    }
}

#[tokio::test]
async fn one_that_its_own_code_fails_with_twice_is_set_aside() {
    let rig = Rig::new();
    rig.keep_snapshot();
    rig.engine.plan(Op::Restore, [traps(), traps()]);
    rig.start(with_snapshots(SnapshotPolicy::Stop));
    rig.shows(IDLE).await;
    assert_eq!((set_aside(&rig), newest(&rig).await), (1, None));
    let events = rig.agent.ring.after(0).events;
    assert!(events.iter().any(|event| &*event.event == "agent.snapshot_set_aside"), "{events:?}");
}

#[tokio::test]
async fn one_that_other_code_fails_with_stays_and_that_code_goes_on_with_it() {
    for wrote in [Some(8), None] {
        for op in [Op::Restore, Op::Start] {
            let rig = Rig::new();
            rig.keep_snapshot_of(wrote);
            rig.engine.plan(op, [fails(), traps(), traps(), fails(), traps(), returns()]);
            rig.start(with_snapshots(SnapshotPolicy::Stop));
            rig.shows(IDLE).await;
            assert_eq!(set_aside(&rig), 0, "{wrote:?} {op:?}");
            let kept = newest(&rig).await.expect("it is there");
            assert_eq!((kept.failures, &*kept.snapshot.bytes), (0, &b"state"[..]), "{op:?}");
        }
    }
}

#[tokio::test]
async fn code_that_has_worked_with_one_judges_it() {
    let rig = Rig::new();
    rig.keep_snapshot_of(Some(8));
    let agent = rig.running(with_snapshots(SnapshotPolicy::Stop)).await;
    rig.send(&agent, "m1").report.await.unwrap();
    let kept = newest(&rig).await.expect("it is there");
    assert_eq!(kept.snapshot.code, Some(Digest([7; 32])));
    rig.engine.plan(Op::Restore, [traps(), traps()]);
    rig.engine.plan(Op::Handle, [traps()]);
    let _ = rig.send(&agent, "m2").report.await;
    while set_aside(&rig) == 0 {
        sleep(Duration::from_millis(1)).await;
    }
}

fn not_kept(rig: &Rig) -> usize {
    rig.kept.count(|event| matches!(event, Event::SnapshotNotKept { .. }))
}

#[tokio::test(start_paused = true)]
async fn state_that_is_not_given_is_said_once_until_it_is_kept() {
    let rig = Rig::new();
    rig.engine.plan(Op::Snapshot, [fails(), fails(), fails(), fails()]);
    let agent = rig.running(with_snapshots(SnapshotPolicy::Turn)).await;
    for id in ["m1", "m2"] {
        rig.send(&agent, id).report.await.unwrap();
    }
    sleep(RETRIES).await;
    let asked = rig.engine.log().iter().filter(|line| line.starts_with("snapshot")).count();
    assert!(asked > 4, "it was asked {asked} times");
    assert_eq!(not_kept(&rig), 1);
    let events = rig.agent.ring.after(0).events;
    let shown = events.iter().find(|event| &*event.event == "agent.snapshot_not_kept").unwrap();
    assert!(shown.data.get().contains(r#""agentId":"a""#), "{}", shown.data);
    rig.engine.plan(Op::Snapshot, [fails(), fails()]);
    rig.send(&agent, "m3").report.await.unwrap();
    sleep(RETRIES).await;
    assert_eq!(not_kept(&rig), 2, "it was kept in between");
}

#[tokio::test(start_paused = true)]
async fn state_that_is_too_large_is_said_once_with_its_size_and_the_limit() {
    let rig = Rig::new();
    let mut spec = with_snapshots(SnapshotPolicy::Turn);
    spec.snapshots.max_bytes = 1;
    let agent = rig.running(spec).await;
    for id in ["m1", "m2"] {
        rig.send(&agent, id).report.await.unwrap();
        sleep(RETRIES).await;
    }
    assert_eq!(not_kept(&rig), 1);
    let sizes = rig.kept.count(|event| {
        let Event::SnapshotNotKept(SnapshotNotKept { code, bytes, limit_bytes, .. }) = event else {
            return false;
        };
        code == "too-large" && *limit_bytes == Some(1) && bytes.is_some_and(|bytes| bytes > 1)
    });
    assert_eq!(sizes, 1);
}
