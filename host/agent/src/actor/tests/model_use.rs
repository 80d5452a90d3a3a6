//! Budgets for language models, and agents that repeat themselves.

use std::num::NonZeroU32;
use std::time::Duration;

use bulkhead_types::event::ModelBudget;
use bulkhead_types::{
    AgentState, Event, ExitReason, ModelCall, ModelCounts, RestartPolicy, RestartRules, TokenUsage,
};
use bulkhead_usage::{Bounds, Budgets, Ledger, LoopRules, OnExceeded, RoleRules, Rules};

use super::fake::{Op, continues, takes};
use super::rig::{Rig, spec};
use crate::handle::AgentHandle;
use crate::refusal::TurnReport;

/// A container in which these rules hold for the role of the agent.
fn rig(rules: RoleRules) -> Rig {
    let rig = Rig::new();
    let rules = Rules { roles: [("r".into(), rules)].into(), ..Rules::default() };
    *rig.container.ledger() = Ledger::new(rules, Bounds::default());
    rig
}

fn used(tokens: u64) -> ModelCall {
    ModelCall {
        endpoint: "e".into(),
        model: "m".into(),
        outcome: "ok",
        usage: Some(TokenUsage { input: tokens, ..TokenUsage::default() }),
        estimate: TokenUsage::default(),
        tries: 1,
        duration: Duration::from_secs(1),
    }
}

fn day(on_exceeded: OnExceeded) -> RoleRules {
    RoleRules {
        budgets: Budgets { tokens_per_day: Some(100), ..Budgets::default() },
        on_exceeded: Some(on_exceeded),
        loops: LoopRules::default(),
    }
}

fn loops(same_tool_calls: u32, idle_continues: u32) -> RoleRules {
    let loops = LoopRules {
        same_tool_calls: NonZeroU32::new(same_tool_calls),
        idle_continues: NonZeroU32::new(idle_continues),
    };
    RoleRules { loops, ..RoleRules::default() }
}

/// Budgets that were reported: whether each was exhausted, and whether the agent ends for it.
fn budgets(rig: &Rig) -> (usize, usize) {
    let is = |exhausted: bool| move |event: &Event| matches!(event, Event::ModelBudget(ModelBudget { exhausted: it, .. }) if *it == exhausted);
    (rig.kept.count(is(false)), rig.kept.count(is(true)))
}

/// How it ended, and that it stays so whatever its policy says.
async fn ended(rig: &Rig) -> (ExitReason, String) {
    let agent = rig.shows(AgentState::Failed).await;
    let exit = agent.publisher().published().exit.unwrap();
    assert!(exit.crash_id.is_some());
    assert!(rig.agent.is_vacant(), "it comes back");
    (exit.reason, exit.message)
}

async fn in_a_turn(rig: &Rig) -> AgentHandle {
    let agent = rig.running(spec()).await;
    rig.engine.plan(Op::Handle, [takes(Duration::from_secs(1))]);
    rig.send(&agent, "m1");
    rig.engine.reached("handle 1 m1 1").await;
    agent
}

#[tokio::test(start_paused = true)]
async fn a_call_past_a_budget_is_refused_and_reported_once() {
    let rig = rig(day(OnExceeded::Refuse));
    let agent = in_a_turn(&rig).await;
    let model_use = &agent.state.model_use;
    model_use.may_ask().unwrap();
    model_use.asked(&used(80));
    assert_eq!(budgets(&rig), (1, 0));
    model_use.may_ask().unwrap();
    model_use.asked(&used(30));
    for _ in 0..2 {
        let exhausted = model_use.may_ask().unwrap_err();
        let text = "budget tokens_per_day of role r: 110 of 100 used";
        assert_eq!(exhausted.message, text);
        assert!(exhausted.retry.is_some());
    }
    assert_eq!(budgets(&rig), (1, 1));
    rig.shows(AgentState::Running { busy: false }).await;
    let tokens = TokenUsage { input: 110, ..TokenUsage::default() };
    let counts = ModelCounts { calls: 2, failed: 0, tokens, cost_nano: 0 };
    assert_eq!(agent.model_counts(), counts);
    assert_eq!(rig.container.ledger().of_agent(&spec().id), counts);
}

#[tokio::test(start_paused = true)]
async fn a_sender_is_told_what_was_used_for_its_message_alone() {
    let rig = rig(day(OnExceeded::Refuse));
    let agent = rig.running(spec()).await;
    rig.engine.plan(Op::Handle, [takes(Duration::from_secs(1)), takes(Duration::from_secs(1))]);
    for (id, calls) in [("m1", &[20, 10][..]), ("m2", &[7]), ("m3", &[])] {
        let delivery = rig.send(&agent, id);
        rig.engine.reached(&format!("handle 1 {id} 1")).await;
        calls.iter().for_each(|tokens| agent.state.model_use.asked(&used(*tokens)));
        let Ok(TurnReport::Finished(finished)) = delivery.report.await else { panic!("{id}") };
        let input = calls.iter().sum();
        assert_eq!(finished.tokens, TokenUsage { input, ..TokenUsage::default() }, "{id}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_agent_whose_role_says_so_ends_with_the_budget_and_is_not_restarted() {
    let rig = rig(day(OnExceeded::End));
    let agent = in_a_turn(&rig).await;
    agent.state.model_use.asked(&used(100));
    agent.state.model_use.may_ask().unwrap_err();
    let (reason, message) = ended(&rig).await;
    assert_eq!(reason, ExitReason::BudgetExceeded);
    assert!(message.starts_with("budget tokens_per_day of role r: 100 of 100 used ("), "{message}");
    // The turn had its grace, and the guest its `shutdown`.
    let log = rig.engine.log();
    assert!(log.contains(&"shutdown 1 Stopped".to_owned()), "{log:?}");
    // A start by hand is one more chance, which the day's budget does not give.
    let agent = rig.running(spec()).await;
    agent.state.model_use.may_ask().unwrap_err();
    assert_eq!(ended(&rig).await.0, ExitReason::BudgetExceeded);
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_is_killed_for_a_budget_says_so() {
    let rig = rig(day(OnExceeded::End));
    let agent = in_a_turn(&rig).await;
    rig.engine.plan(Op::Shutdown, [super::fake::hangs()]);
    agent.state.model_use.asked(&used(100));
    agent.state.model_use.may_ask().unwrap_err();
    assert_eq!(ended(&rig).await.0, ExitReason::BudgetExceeded);
}

#[tokio::test(start_paused = true)]
async fn the_same_tool_call_again_and_again_ends_the_agent_as_stuck() {
    let rig = rig(loops(3, 0));
    let agent = in_a_turn(&rig).await;
    for _ in 0..5 {
        agent.state.model_use.saw_tool_call("read", r#"{"path":"a"}"#);
    }
    let (reason, message) = ended(&rig).await;
    assert_eq!(reason, ExitReason::Stuck);
    assert!(message.starts_with(r#"the model called tool "read" 3 times in a row"#), "{message}");
    assert_eq!(rig.kept.count(|event| matches!(event, Event::AgentStuck { .. })), 1);
}

#[tokio::test(start_paused = true)]
async fn turns_that_produce_nothing_end_the_agent_as_stuck() {
    let rig = rig(loops(0, 3));
    rig.engine.plan(Op::Handle, std::iter::repeat_n(continues(), 10));
    let agent = rig.running(spec()).await;
    rig.send(&agent, "m1");
    assert_eq!(ended(&rig).await.0, ExitReason::Stuck);
    let turns = rig.engine.log().iter().filter(|line| line.starts_with("handle")).count();
    assert_eq!(turns, 3);
}

#[tokio::test(start_paused = true)]
async fn turns_that_produce_something_go_on() {
    let rig = rig(loops(0, 2));
    let continues = std::iter::repeat_n(continues().after(Duration::from_secs(1)), 6);
    rig.engine.plan(Op::Handle, continues);
    let agent = rig.running(spec()).await;
    rig.send(&agent, "m1");
    for turn in 1..=6 {
        while rig.engine.log().iter().filter(|line| line.starts_with("handle")).count() < turn {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        agent.state.model_use.produced();
    }
    rig.shows(AgentState::Running { busy: false }).await;
}

#[tokio::test(start_paused = true)]
async fn a_budget_of_calls_is_one_of_each_turn_and_one_of_tokens_of_each_message() {
    let rules = RoleRules {
        budgets: Budgets {
            tokens_per_message: Some(100),
            calls_per_turn: Some(1),
            ..Budgets::default()
        },
        ..RoleRules::default()
    };
    let rig = rig(rules);
    let second = Duration::from_secs(1);
    rig.engine.plan(Op::Handle, [continues().after(second), takes(second), takes(second)]);
    let agent = rig.running(spec()).await;
    let model_use = &agent.state.model_use;
    rig.send(&agent, "m1");
    rig.send(&agent, "m2");
    rig.engine.reached("handle 1 m1 1").await;
    model_use.may_ask().unwrap();
    model_use.may_ask().unwrap_err();
    while rig.engine.log().iter().filter(|line| **line == "handle 1 m1 1").count() < 2 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    model_use.may_ask().unwrap();
    model_use.asked(&used(100));
    assert!(model_use.may_ask().unwrap_err().message.contains("per_"));
    rig.engine.reached("handle 1 m2 1").await;
    model_use.may_ask().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_transient_agent_that_ran_into_a_bound_stays_down_as_well() {
    let rig = rig(loops(2, 0));
    let restart = RestartRules { policy: RestartPolicy::Transient, ..RestartRules::default() };
    let agent = rig.running(bulkhead_types::AgentSpec { restart, ..spec() }).await;
    agent.state.model_use.saw_tool_call("a", "{}");
    agent.state.model_use.saw_tool_call("a", "{}");
    assert_eq!(ended(&rig).await.0, ExitReason::Stuck);
}
