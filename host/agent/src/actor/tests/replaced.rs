//! What waits for an agent that another start replaces, or whose start fails then.

use std::sync::Arc;
use std::time::Duration;

use bulkhead_runtime::ShutdownReason;
use bulkhead_types::{
    AgentSpec, AgentState, Event, ExitReason, GitAuthor, GitSpec, Incarnation, RestartPolicy,
    RestartRules, StartPhase,
};
use tokio::sync::oneshot::error::RecvError;

use super::fake::{Op, fails, hangs, takes};
use super::rig::{Rig, spec};
use crate::refusal::{Delivery, StartFailure, TurnReport};

const SECOND: Duration = Duration::from_secs(1);

/// Of another spec each, without a prompt.
fn other(model: &str) -> AgentSpec {
    let restart = RestartRules { policy: RestartPolicy::Temporary, ..RestartRules::default() };
    AgentSpec { model: Some(model.into()), restart, ..spec() }
}

fn git() -> GitSpec {
    let author = GitAuthor { name: "a".into(), email: "a@b".into() };
    GitSpec {
        rig: "r".into(),
        url: "https://host/r.git".into(),
        default_branch: "main".into(),
        branch: "b".into(),
        start_point: None,
        lightweight: false,
        author,
        save: false,
    }
}

/// An agent in a turn of a second, with a message that waits behind it.
async fn busy() -> (Rig, Delivery, Delivery) {
    let rig = Rig::new();
    rig.engine.plan(Op::Handle, [takes(SECOND)]);
    let first = rig.running(spec()).await;
    let turn = rig.send(&first, "m1");
    rig.engine.reached("handle 1 m1 1").await;
    let waiting = rig.send(&first, "m2");
    (rig, turn, waiting)
}

fn finished(report: Result<TurnReport, RecvError>) -> bool {
    matches!(report, Ok(TurnReport::Finished(_)))
}

fn turns(rig: &Rig) -> Vec<String> {
    rig.engine.log().into_iter().filter(|line| line.starts_with("handle")).collect()
}

fn undelivered(rig: &Rig) -> usize {
    rig.kept
        .count(|event| matches!(event, Event::AgentExit { undelivered, .. } if *undelivered > 0))
}

#[tokio::test(start_paused = true)]
async fn what_waits_goes_over_in_order_and_before_what_is_newer() {
    let rig = Rig::new();
    rig.engine.plan(Op::Handle, [takes(SECOND)]);
    let first = rig.running(spec()).await;
    let turn = rig.send(&first, "m1");
    rig.engine.reached("handle 1 m1 1").await;
    let waiting = [rig.send(&first, "m2"), rig.send(&first, "m3")];
    let next = rig.start(other("next"));
    let newer = rig.send(&next, "m4");
    next.started().await.unwrap();
    assert!(finished(turn.report.await));
    for delivery in waiting {
        assert!(finished(delivery.report.await));
    }
    assert!(finished(newer.report.await));
    let expected = ["handle 1 m1 1", "handle 2 m2 1", "handle 2 m3 1", "handle 2 m4 1"];
    assert_eq!(turns(&rig), expected);
    assert_eq!(undelivered(&rig), 0);
}

#[tokio::test(start_paused = true)]
async fn a_message_whose_turn_the_replacement_ended_is_delivered_again_first() {
    let rig = Rig::new();
    rig.engine.plan(Op::Handle, [hangs()]);
    let first = rig.running(spec()).await;
    let turn = rig.send(&first, "m1");
    rig.engine.reached("handle 1 m1 1").await;
    let waiting = rig.send(&first, "m2");
    rig.running(other("next")).await;
    assert!(finished(turn.report.await) && finished(waiting.report.await));
    assert_eq!(turns(&rig), ["handle 1 m1 1", "handle 2 m1 2", "handle 2 m2 1"]);
}

#[tokio::test(start_paused = true)]
async fn what_waits_stays_for_the_next_start_when_the_replacement_fails() {
    let (rig, turn, waiting) = busy().await;
    rig.engine.plan(Op::Start, [fails()]);
    rig.start(other("broken")).started().await.unwrap_err();
    assert!(finished(turn.report.await));
    rig.shows(AgentState::Failed).await;
    rig.running(other("next")).await;
    assert!(finished(waiting.report.await));
    assert_eq!(turns(&rig), ["handle 1 m1 1", "handle 3 m2 1"]);
    assert_eq!(undelivered(&rig), 0);
}

#[tokio::test(start_paused = true)]
async fn what_waits_stays_through_every_start_that_never_runs() {
    // Three in a row of one that is retried are a quarantine.
    for (policy, starts) in [(RestartPolicy::Temporary, 3), (RestartPolicy::Transient, 1)] {
        let (rig, turn, waiting) = busy().await;
        rig.engine.plan(Op::Start, [fails(), fails(), fails()]);
        for n in 0..starts {
            let restart = RestartRules { policy, ..RestartRules::default() };
            let broken = AgentSpec { restart, ..other(&n.to_string()) };
            rig.start(broken).started().await.unwrap_err();
            let end = match policy {
                RestartPolicy::Transient => AgentState::Quarantined,
                _ => AgentState::Failed,
            };
            rig.shows(end).await;
        }
        assert!(finished(turn.report.await));
        rig.running(other("next")).await;
        assert!(finished(waiting.report.await), "{policy:?}");
        assert_eq!(turns(&rig), ["handle 1 m1 1", "handle 5 m2 1"], "{policy:?}");
        assert_eq!(undelivered(&rig), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_start_that_cannot_have_its_workspace_leaves_what_runs_and_what_waits_alone() {
    let (rig, turn, waiting) = busy().await;
    let in_git = AgentSpec { git: Some(Arc::new(git())), ..spec() };
    // This container has no git.
    let refused = rig.start_in_a_workspace(in_git).started().await.unwrap_err();
    assert_eq!((refused.phase, refused.kind), (StartPhase::Workspace, StartFailure::Workspace));
    assert!(finished(turn.report.await) && finished(waiting.report.await));
    assert_eq!(turns(&rig), ["handle 1 m1 1", "handle 1 m2 1"]);
    assert_eq!(rig.agent.last(), Incarnation(1));
}

#[tokio::test(start_paused = true)]
async fn a_stop_answers_what_waits_for_the_next_start() {
    let (rig, _turn, waiting) = busy().await;
    rig.engine.plan(Op::Start, [fails()]);
    rig.start(other("broken")).started().await.unwrap_err();
    rig.shows(AgentState::Failed).await;
    rig.agent.stop(ShutdownReason::Stopped, "test").await;
    let told = waiting.report.await.unwrap();
    assert!(matches!(told, TurnReport::Ended { reason: ExitReason::Stopped, .. }), "{told:?}");
    rig.running(other("next")).await;
    assert_eq!(turns(&rig), ["handle 1 m1 1"]);
}
