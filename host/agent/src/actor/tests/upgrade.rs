//! Other code for an agent that runs.

use std::path::PathBuf;
use std::time::Duration;

use bulkhead_types::{
    AgentSpec, AgentState, Event, ExitReason, Incarnation, RestartPolicy, RestartRules,
    SnapshotPolicy, SnapshotRules,
};
use tokio::time::sleep;

use super::fake::{Op, fails, takes, traps, traps_after};
use super::rig::{Rig, spec};
use crate::handle::AgentHandle;
use crate::refusal::TurnReport;
use crate::upgrade::{NewCode, UpgradeStage};

const SECOND: Duration = Duration::from_secs(1);
const IDLE: AgentState = AgentState::Running { busy: false };

fn with_snapshots() -> AgentSpec {
    let when = SnapshotPolicy::Stop;
    AgentSpec { snapshots: SnapshotRules { when, ..SnapshotRules::default() }, ..spec() }
}

fn new_code(rig: &Rig) -> NewCode {
    let component = rig.engine.component(8);
    NewCode { code: PathBuf::from("new.wasm").into(), component, on_trial: true }
}

async fn over(agent: &AgentHandle) -> UpgradeStage {
    agent.upgrade_reaches(UpgradeStage::is_over).await
}

/// The log without what was there when the order came.
fn since(rig: &Rig, before: usize) -> Vec<String> {
    rig.engine.log().split_off(before)
}

fn finished(report: Result<TurnReport, tokio::sync::oneshot::error::RecvError>) -> bool {
    matches!(report, Ok(TurnReport::Finished(_)))
}

#[tokio::test(start_paused = true)]
async fn it_leaves_at_the_end_of_a_message_with_its_state_and_its_mail() {
    let rig = Rig::new();
    rig.engine.plan(Op::Handle, [takes(SECOND)]);
    let agent = rig.running(with_snapshots()).await;
    let first = rig.send(&agent, "m1");
    rig.engine.reached("handle 1 m1 1").await;
    let before = rig.engine.log().len();
    agent.upgrade(new_code(&rig));
    let second = rig.send(&agent, "m2");
    assert!(finished(first.report.await) && finished(second.report.await));
    assert_eq!(over(&agent).await, UpgradeStage::Done);
    assert_eq!(
        since(&rig, before),
        [
            "snapshot 1",
            "shutdown 1 Superseded",
            "gone 1",
            "instantiate 2 of 8",
            "restore 2",
            "start 2",
            "handle 2 m2 1",
            "snapshot 2",
        ]
    );
    let now = rig.shows(IDLE).await;
    assert_eq!(now.publisher().incarnation(), Some(Incarnation(2)));
    assert_eq!(now.made_from().unwrap().digest().0, [8; 32]);
    let upgraded =
        |event: &Event| matches!(event, Event::AgentExit { reason: ExitReason::Upgraded, .. });
    assert_eq!(rig.kept.count(upgraded), 1);
    assert!(rig.agent.restarts().ends.is_empty(), "it is no restart of the policy");
}

#[tokio::test(start_paused = true)]
async fn it_takes_messages_all_the_time() {
    let rig = Rig::new();
    rig.engine.plan(Op::Snapshot, [takes(SECOND)]);
    rig.engine.plan(Op::Shutdown, [takes(SECOND)]);
    rig.engine.plan(Op::Start, [takes(Duration::ZERO), takes(SECOND)]);
    let agent = rig.running(with_snapshots()).await;
    assert!(finished(rig.send(&agent, "m0").report.await));
    agent.upgrade(new_code(&rig));
    let mut reports = Vec::new();
    for number in 1..=30 {
        let agent = rig.agent.current().unwrap();
        reports.push(rig.send(&agent, &format!("m{number}")).report);
        sleep(SECOND / 8).await;
    }
    for report in reports {
        assert!(finished(report.await));
    }
    assert_eq!(over(&agent).await, UpgradeStage::Done);
}

#[tokio::test(start_paused = true)]
async fn a_fault_in_its_first_turn_brings_the_old_code_back_and_the_message_with_it() {
    let rig = Rig::new();
    rig.keep_snapshot();
    let agent = rig.running(with_snapshots()).await;
    agent.upgrade(new_code(&rig));
    agent.upgrade_reaches(|stage| *stage == UpgradeStage::OnTrial).await;
    rig.engine.plan(Op::Handle, [traps()]);
    let agent = rig.shows(IDLE).await;
    let before = rig.engine.log().len();
    let delivery = rig.send(&agent, "m");
    assert!(finished(delivery.report.await));
    let stage = over(&agent).await;
    assert_eq!(stage, UpgradeStage::RolledBack { why: "as the script says".into() });
    assert_eq!(
        since(&rig, before),
        ["handle 2 m 1", "gone 2", "instantiate 3", "restore 3", "start 3", "handle 3 m 2"]
    );
    assert!(rig.agent.restarts().ends.is_empty(), "the agent is not to blame");
    assert_eq!(rig.kept.count(|event| matches!(event, Event::AgentCrash(_))), 1);
    assert_eq!(rig.kept.count(|event| matches!(event, Event::SnapshotSetAside { .. })), 0);
}

#[tokio::test(start_paused = true)]
async fn one_whose_state_cannot_be_kept_on_trial_goes_back_with_its_message() {
    let rig = Rig::new();
    let agent = rig.running(with_snapshots()).await;
    agent.upgrade(new_code(&rig));
    agent.upgrade_reaches(|stage| *stage == UpgradeStage::OnTrial).await;
    rig.engine.plan(Op::Snapshot, [fails()]);
    let agent = rig.shows(IDLE).await;
    let before = rig.engine.log().len();
    let delivery = rig.send(&agent, "m");
    assert!(finished(delivery.report.await));
    let UpgradeStage::RolledBack { why } = over(&agent).await else { panic!("it stayed") };
    assert!(why.contains("it gave no snapshot"), "{why}");
    assert_eq!(
        since(&rig, before),
        ["handle 2 m 1", "snapshot 2", "gone 2", "instantiate 3", "start 3", "handle 3 m 2"]
    );
    assert!(rig.agent.restarts().ends.is_empty(), "the agent is not to blame");
}

#[tokio::test(start_paused = true)]
async fn one_that_cannot_restore_or_start_goes_back_whatever_its_policy() {
    for op in [Op::Instantiate, Op::Restore, Op::Start] {
        let rig = Rig::new();
        rig.keep_snapshot();
        let policy = RestartPolicy::Temporary;
        let restart = RestartRules { policy, ..RestartRules::default() };
        let agent = rig.running(AgentSpec { restart, ..with_snapshots() }).await;
        rig.engine.plan(op, [fails()]);
        agent.upgrade(new_code(&rig));
        assert!(matches!(over(&agent).await, UpgradeStage::RolledBack { .. }), "{op:?}");
        let agent = rig.shows(IDLE).await;
        assert_eq!(agent.made_from().unwrap().digest().0, [7; 32]);
        assert!(finished(rig.send(&agent, "m").report.await));
    }
}

#[tokio::test(start_paused = true)]
async fn a_fault_after_the_first_turn_is_one_of_the_agent() {
    let rig = Rig::new();
    let agent = rig.running(spec()).await;
    agent.upgrade(new_code(&rig));
    agent.upgrade_reaches(|stage| *stage == UpgradeStage::OnTrial).await;
    let agent = rig.shows(IDLE).await;
    assert!(finished(rig.send(&agent, "m1").report.await));
    assert_eq!(agent.upgrade_stage(), UpgradeStage::Done);
    rig.engine.plan(Op::Handle, [traps()]);
    let second = rig.send(&agent, "m2");
    assert!(finished(second.report.await));
    assert_eq!(rig.agent.restarts().ends.len(), 1);
    assert_eq!(rig.shows(IDLE).await.made_from().unwrap().digest().0, [8; 32]);
}

#[tokio::test(start_paused = true)]
async fn one_whose_state_cannot_be_kept_goes_on_as_it_is() {
    let rig = Rig::new();
    rig.engine.plan(Op::Snapshot, [fails()]);
    let agent = rig.running(with_snapshots()).await;
    assert!(finished(rig.send(&agent, "m1").report.await));
    agent.upgrade(new_code(&rig));
    let UpgradeStage::Refused { why } = over(&agent).await else { panic!("it left") };
    assert!(why.contains("it gave no snapshot"), "{why}");
    assert!(finished(rig.send(&agent, "m2").report.await));
    assert_eq!(rig.agent.last(), Incarnation(1));
}

#[tokio::test(start_paused = true)]
async fn one_that_is_stopped_meanwhile_is_gone() {
    let rig = Rig::new();
    rig.engine.plan(Op::Handle, [takes(SECOND)]);
    let agent = rig.running(with_snapshots()).await;
    let _turn = rig.send(&agent, "m");
    rig.engine.reached("handle 1 m 1").await;
    agent.upgrade(new_code(&rig));
    rig.agent.stop(bulkhead_runtime::ShutdownReason::Stopped, "test").await;
    assert_eq!(over(&agent).await, UpgradeStage::Gone);
    assert_eq!(rig.agent.last(), Incarnation(1));
}

#[tokio::test(start_paused = true)]
async fn one_in_backoff_restarts_with_it_and_is_not_on_trial() {
    let rig = Rig::new();
    rig.engine.plan(Op::Handle, [traps_after(SECOND), traps()]);
    let agent = rig.running(spec()).await;
    let delivery = rig.send(&agent, "m");
    let waits = rig.shows(AgentState::Backoff).await;
    waits.upgrade(new_code(&rig));
    assert_eq!(over(&agent).await, UpgradeStage::Done);
    // The second fault is one too many for the message, and none of the upgrade.
    assert!(matches!(delivery.report.await, Ok(TurnReport::SetAside { .. })));
    assert_eq!(rig.shows(IDLE).await.made_from().unwrap().digest().0, [8; 32]);
}

#[tokio::test(start_paused = true)]
async fn an_order_that_is_taken_back_changes_nothing() {
    let rig = Rig::new();
    rig.engine.plan(Op::Handle, [takes(SECOND)]);
    let agent = rig.running(spec()).await;
    let turn = rig.send(&agent, "m");
    rig.engine.reached("handle 1 m 1").await;
    agent.upgrade(new_code(&rig));
    agent.cancel_upgrade("aborted");
    assert!(finished(turn.report.await));
    assert_eq!(over(&agent).await, UpgradeStage::Refused { why: "aborted".into() });
    sleep(SECOND).await;
    assert_eq!(rig.agent.last(), Incarnation(1));
}

#[tokio::test(start_paused = true)]
async fn the_newest_order_counts_and_the_way_back_is_not_on_trial() {
    let rig = Rig::new();
    let agent = rig.running(spec()).await;
    let old = agent.made_from().unwrap();
    agent.upgrade(new_code(&rig));
    agent.upgrade_reaches(|stage| *stage == UpgradeStage::OnTrial).await;
    let code = PathBuf::from("c.wasm").into();
    rig.shows(IDLE).await.upgrade(NewCode { code, component: old, on_trial: false });
    assert_eq!(over(&agent).await, UpgradeStage::Done);
    assert_eq!(rig.shows(IDLE).await.made_from().unwrap().digest().0, [7; 32]);
}
