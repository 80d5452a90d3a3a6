use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::price::{NANO, Price, Prices};

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

fn id(name: &str) -> AgentId {
    AgentId::parse(name).unwrap()
}

fn call(endpoint: &str, model: &str, input: u64, output: u64) -> ModelCall {
    ModelCall {
        endpoint: endpoint.into(),
        model: model.into(),
        outcome: "ok",
        usage: Some(TokenUsage { input, cached: 0, output, reasoning: 0 }),
        estimate: TokenUsage { input: 1_000_000, ..TokenUsage::default() },
        tries: 1,
        duration: Duration::from_millis(700),
    }
}

fn tokens(count: u64) -> ModelCall {
    call("e", "m", count, 0)
}

/// A clock that begins at noon of some day.
#[derive(Clone, Copy)]
struct Clock(Now);

impl Clock {
    fn new() -> Self {
        let wall = Timestamp(20_000 * DAY_MS + DAY_MS / 2);
        Self(Now { at: Instant::now(), wall })
    }

    fn passes(&mut self, seconds: u64) -> Now {
        let passed = Duration::from_secs(seconds);
        self.0 = Now { at: self.0.at + passed, wall: self.0.wall.after(passed) };
        self.0
    }

    fn now(&self) -> Now {
        self.0
    }
}

fn rules(role: Budgets, container: Budgets) -> Rules {
    let rules = RoleRules { budgets: role, ..RoleRules::default() };
    Rules { container, roles: [("r".into(), rules)].into(), ..Rules::default() }
}

fn ledger(role: Budgets, container: Budgets) -> Ledger {
    Ledger::new(rules(role, container), Bounds::default())
}

fn role() -> Arc<str> {
    "r".into()
}

const NONE: Budgets = Budgets {
    tokens_per_minute: None,
    tokens_per_day: None,
    tokens_per_message: None,
    calls_per_turn: None,
    cost_per_day_nano: None,
};

/// One call; what is reported of it.
fn used(ledger: &mut Ledger, book: &mut Book, count: u64, now: Now) -> Vec<BudgetKind> {
    let (crossings, _) = ledger.record(&id("a"), &role(), book, &tokens(count), now);
    crossings.iter().map(|crossing| crossing.kind).collect()
}

#[test]
fn a_day_s_budget_is_reported_at_80_percent_refuses_when_it_is_used_up_and_returns_at_midnight() {
    let mut ledger = ledger(Budgets { tokens_per_day: Some(1000), ..NONE }, NONE);
    let (mut book, mut clock) = (Book::default(), Clock::new());
    assert!(used(&mut ledger, &mut book, 799, clock.now()).is_empty());
    assert_eq!(used(&mut ledger, &mut book, 1, clock.now()), [BudgetKind::TokensPerDay]);
    assert!(used(&mut ledger, &mut book, 199, clock.now()).is_empty(), "once on a day");
    ledger.admit("r", &mut book, clock.now()).unwrap();
    used(&mut ledger, &mut book, 500, clock.now());
    let refusal = ledger.admit("r", &mut book, clock.now()).unwrap_err();
    let text = "budget tokens_per_day of role r: 1499 of 1000 used";
    assert_eq!(refusal.exhausted.message, text);
    assert_eq!(refusal.exhausted.retry, Some(Duration::from_secs(12 * 60 * 60)));
    assert!(refusal.is_first && !refusal.ends);
    assert!(!ledger.admit("r", &mut book, clock.now()).unwrap_err().is_first);
    ledger.admit("another", &mut book, clock.now()).unwrap();
    let tomorrow = clock.passes(12 * 60 * 60);
    ledger.admit("r", &mut book, tomorrow).unwrap();
    assert_eq!(used(&mut ledger, &mut book, 900, tomorrow), [BudgetKind::TokensPerDay]);
}

#[test]
fn a_minute_s_budget_slides() {
    let mut ledger = ledger(NONE, Budgets { tokens_per_minute: Some(100), ..NONE });
    let (mut book, mut clock) = (Book::default(), Clock::new());
    assert_eq!(used(&mut ledger, &mut book, 90, clock.now()), [BudgetKind::TokensPerMinute]);
    let then = clock.passes(30);
    assert!(used(&mut ledger, &mut book, 10, then).is_empty());
    let refusal = ledger.admit("r", &mut book, then).unwrap_err();
    assert_eq!(refusal.exhausted.retry, Some(Duration::from_secs(35)));
    assert_eq!(refusal.budget.scope, Scope::Container);
    ledger.admit("r", &mut book, clock.passes(35)).unwrap();
}

#[test]
fn a_message_and_a_turn_have_budgets_of_their_own() {
    let budgets = Budgets { tokens_per_message: Some(100), calls_per_turn: Some(2), ..NONE };
    let mut ledger = ledger(budgets, NONE);
    let (mut book, now) = (Book::default(), Clock::new().now());
    let refused = |ledger: &mut Ledger, book: &mut Book| {
        let refusal = ledger.admit("r", book, now).err()?;
        assert_eq!(refusal.exhausted.retry, None);
        Some((refusal.budget.kind, refusal.is_first))
    };
    book.begin_message();
    assert_eq!(refused(&mut ledger, &mut book), None);
    assert_eq!(refused(&mut ledger, &mut book), None);
    assert_eq!(refused(&mut ledger, &mut book), Some((BudgetKind::CallsPerTurn, true)));
    assert_eq!(refused(&mut ledger, &mut book), Some((BudgetKind::CallsPerTurn, false)));
    book.begin_turn();
    assert_eq!(refused(&mut ledger, &mut book), None);
    assert_eq!(used(&mut ledger, &mut book, 80, now), [BudgetKind::TokensPerMessage]);
    assert!(used(&mut ledger, &mut book, 20, now).is_empty());
    assert_eq!(refused(&mut ledger, &mut book), Some((BudgetKind::TokensPerMessage, true)));
    book.begin_turn();
    assert_eq!(refused(&mut ledger, &mut book), Some((BudgetKind::TokensPerMessage, false)));
    book.begin_message();
    assert_eq!(refused(&mut ledger, &mut book), None);
    assert_eq!(book.counts().tokens.input, 100, "the incarnation's count goes on");
}

#[test]
fn a_budget_of_0_allows_nothing() {
    let (mut book, now) = (Book::default(), Clock::new().now());
    let zero = |change: fn(&mut Budgets)| {
        let mut budgets = NONE;
        change(&mut budgets);
        ledger(budgets, NONE)
    };
    for mut ledger in [
        zero(|it| it.tokens_per_minute = Some(0)),
        zero(|it| it.tokens_per_day = Some(0)),
        zero(|it| it.tokens_per_message = Some(0)),
        zero(|it| it.calls_per_turn = Some(0)),
        zero(|it| it.cost_per_day_nano = Some(0)),
    ] {
        let refusal = ledger.admit("r", &mut book, now).unwrap_err();
        assert_eq!((refusal.exhausted.retry, refusal.budget.bound), (None, 0));
        assert!(refusal.is_first);
    }
}

#[test]
fn of_several_budgets_the_one_that_lasts_longest_is_named() {
    let role = Budgets { tokens_per_minute: Some(1), ..NONE };
    let mut ledger = ledger(role, Budgets { tokens_per_day: Some(1), ..NONE });
    let (mut book, clock) = (Book::default(), Clock::new());
    used(&mut ledger, &mut book, 5, clock.now());
    let refusal = ledger.admit("r", &mut book, clock.now()).unwrap_err();
    assert_eq!(refusal.budget.kind, BudgetKind::TokensPerDay);
}

#[test]
fn what_follows_is_the_role_s_word_and_else_the_container_s() {
    let ends = |role: Option<OnExceeded>, container| {
        let mut rules = rules(NONE, Budgets { tokens_per_day: Some(0), ..NONE });
        rules.roles.get_mut("r").unwrap().on_exceeded = role;
        rules.on_exceeded = container;
        let mut ledger = Ledger::new(rules, Bounds::default());
        ledger.admit("r", &mut Book::default(), Clock::new().now()).unwrap_err().ends
    };
    assert!(!ends(None, OnExceeded::Refuse));
    assert!(ends(None, OnExceeded::End));
    assert!(ends(Some(OnExceeded::End), OnExceeded::Refuse));
    assert!(!ends(Some(OnExceeded::Refuse), OnExceeded::End));
}

#[test]
fn cost_follows_from_the_endpoint_s_prices() {
    let mut rules = rules(Budgets { cost_per_day_nano: Some(NANO), ..NONE }, NONE);
    let price = |units| Price::per_million(units).unwrap();
    let prices = Prices { input: price(3.0), cached: price(0.3), output: price(15.0) };
    rules.prices.insert("priced".into(), prices.into());
    let mut ledger = Ledger::new(rules, Bounds::default());
    let (mut book, now) = (Book::default(), Clock::new().now());
    let mut record = |call: &ModelCall| ledger.record(&id("a"), &role(), &mut book, call, now).0;
    assert!(record(&call("free", "m", 1_000_000_000, 0)).is_empty());
    let crossings = record(&call("priced", "m", 250_000, 5_000));
    assert_eq!(crossings[0].to_string(), "budget cost_per_day of role r: 0.825 of 1 used");
    assert_eq!(ledger.of_agent(&id("a")).cost_nano, 825_000_000);
    let cost = |endpoint: &str| {
        let of_models = &ledger.endpoints()[endpoint].models;
        of_models.values().map(|figures| figures.cost_nano).collect::<Vec<_>>()
    };
    assert_eq!((cost("free"), cost("priced")), (vec![None], vec![Some(825_000_000)]));
}

#[test]
fn calls_are_counted_by_endpoint_outcome_and_duration() {
    let mut ledger = ledger(NONE, NONE);
    let (mut book, now) = (Book::default(), Clock::new().now());
    let failed = ModelCall {
        outcome: "timeout",
        usage: None,
        estimate: TokenUsage { output: 2, ..TokenUsage::default() },
        duration: Duration::from_secs(400),
        ..tokens(0)
    };
    for call in [&tokens(5), &tokens(6), &failed] {
        ledger.record(&id("a"), &role(), &mut book, call, now);
    }
    let figures = &ledger.endpoints()["e"];
    assert_eq!(figures.durations, [0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 1]);
    assert_eq!((figures.calls, figures.duration_ms, figures.models.len()), (3, 401_400, 1));
    let of_model = &figures.models[&(role(), "m".into())];
    assert_eq!(of_model.outcomes, [("ok", 2), ("timeout", 1)].into());
    assert_eq!(of_model.tokens.total(), 13);
    let counts = ledger.of_agent(&id("a"));
    assert_eq!((counts.calls, counts.failed), (3, 1));
    assert_eq!(book.counts(), counts);
}

#[test]
fn roles_and_models_are_counted_apart_as_far_as_there_is_room() {
    let mut rules = Rules::default();
    let price = |units| Price::per_million(units).unwrap();
    let of = |units| Prices { input: price(units), cached: price(units), output: price(units) };
    let mut list = PriceList::from(of(1.0));
    list.set("dear", of(5.0));
    rules.prices.insert("e".into(), list);
    let mut ledger = Ledger::new(rules, Bounds::default());
    let (mut book, now) = (Book::default(), Clock::new().now());
    let mut record = |role: &str, model: &str| {
        let call = call("e", model, 1_000_000, 0);
        ledger.record(&id("a"), &role.into(), &mut book, &call, now);
    };
    record("r", "dear");
    record("q", "dear");
    record("q", "cheap");
    for n in 0..100 {
        record("r", &format!("m{n}"));
    }
    record("r", "dear");
    let figures = &ledger.endpoints()["e"];
    let of = |role: &str, model: &str| &figures.models[&(role.into(), model.into())];
    assert_eq!(figures.calls, 104);
    assert_eq!(figures.models.len(), EndpointFigures::MODELS + 1);
    assert_eq!(of("r", "dear").cost_nano, Some(10 * NANO));
    assert_eq!(of("q", "dear").cost_nano, Some(5 * NANO));
    assert_eq!(of("q", "cheap").cost_nano, Some(NANO));
    assert_eq!(of("r", OTHER).outcomes["ok"], 103 - EndpointFigures::MODELS as u64);
}

#[test]
fn a_restart_of_the_host_finds_the_day_and_the_counts_and_reports_nothing_twice() {
    let budgets = Budgets { tokens_per_day: Some(1000), ..NONE };
    let mut before = ledger(budgets, NONE);
    let (mut book, mut clock) = (Book::default(), Clock::new());
    assert_eq!(used(&mut before, &mut book, 900, clock.now()), [BudgetKind::TokensPerDay]);
    let (rows, days) = (before.rows(), before.days(clock.now()));

    let mut after = ledger(budgets, NONE);
    let later = clock.passes(3600);
    let change = after.restore(rows.clone(), days.clone(), later);
    assert_eq!(change, UsageChange::default());
    assert_eq!(after.rows(), rows);
    assert_eq!(after.days(later), days);
    let mut book = Book::default();
    assert!(used(&mut after, &mut book, 99, later).is_empty());
    used(&mut after, &mut book, 1, later);
    assert!(after.admit("r", &mut book, later).is_err());

    let mut tomorrow = ledger(budgets, NONE);
    let later = clock.passes(24 * 60 * 60);
    tomorrow.restore(rows, days, later);
    tomorrow.admit("r", &mut Book::default(), later).unwrap();
    assert_eq!(tomorrow.of_agent(&id("a")).tokens.input, 900);
}

#[test]
fn lower_bounds_after_a_restart_merge_what_is_too_much() {
    let mut before = ledger(NONE, NONE);
    let (mut book, mut clock) = (Book::default(), Clock::new());
    for (agent, model) in [("a", "1"), ("a", "2"), ("a", "3"), ("b", "1"), ("c", "1")] {
        let call = call("e", model, 1, 0);
        before.record(&id(agent), &role(), &mut book, &call, clock.passes(1));
    }
    let rows = before.rows();
    let bounds = Bounds { agents: 2, per_agent: 2, others: 2 };
    let mut after = Ledger::new(rules(NONE, NONE), bounds);
    let change = after.restore(rows.clone(), Vec::new(), clock.now());
    let sum = |rows: &[UsageRow]| rows.iter().map(|row| row.counts.calls).sum::<u64>();
    assert_eq!((sum(&after.rows()), sum(&change.rows)), (5, 5));
    let kept: Vec<_> = change.rows.iter().map(|row| &row.key).collect();
    assert!(change.gone.iter().all(|key| !kept.contains(&key)));
    assert!(rows.iter().all(|row| kept.contains(&&row.key) || change.gone.contains(&row.key)));
}

#[test]
fn loop_rules_are_those_of_the_role() {
    let mut rules = rules(NONE, NONE);
    let loops = LoopRules { same_tool_calls: NonZeroU32::new(3), idle_continues: None };
    rules.roles.get_mut("r").unwrap().loops = loops;
    let ledger = Ledger::new(rules, Bounds::default());
    assert_eq!((ledger.loop_rules("r"), ledger.loop_rules("x")), (loops, LoopRules::default()));
}

#[derive(Debug, Clone)]
enum Step {
    Passes(u64),
    Call { agent: usize, model: usize, tokens: u64 },
    Admit,
    BeginTurn,
    BeginMessage,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (0u64..50_000).prop_map(Step::Passes),
        2 => (0u64..100).prop_map(Step::Passes),
        6 => (0usize..5, 0usize..5, 0u64..300)
            .prop_map(|(agent, model, tokens)| Step::Call { agent, model, tokens }),
        4 => Just(Step::Admit),
        1 => Just(Step::BeginTurn),
        1 => Just(Step::BeginMessage),
    ]
}

fn budgets() -> impl Strategy<Value = Budgets> {
    let bound = |most: u64| prop::option::of(0..most);
    (bound(500), bound(2000), bound(500), bound(5), bound(3000)).prop_map(
        |(tokens_per_minute, tokens_per_day, tokens_per_message, calls_per_turn, cost)| Budgets {
            tokens_per_minute,
            tokens_per_day,
            tokens_per_message,
            calls_per_turn,
            cost_per_day_nano: cost,
        },
    )
}

proptest! {
    /// Whatever is merged, nothing is lost, and changes that are applied one after the other give all rows.
    #[test]
    fn all_sums_are_equal(
        steps in prop::collection::vec(step(), 0..80),
        agents in 0usize..4, per_agent in 0usize..4, others in 0usize..5,
    ) {
        let bounds = Bounds { agents, per_agent, others };
        let mut rules = rules(NONE, NONE);
        let price = Price::per_million(0.7).unwrap();
        let prices = Prices { input: price, cached: price, output: price };
        rules.prices.insert("e".into(), prices.into());
        let mut ledger = Ledger::new(rules, bounds);
        let mut books: Vec<_> = (0..5).map(|_| Book::default()).collect();
        let (mut clock, mut kept) = (Clock::new(), BTreeMap::new());
        let (mut calls, mut sum) = (0, 0);
        for step in steps {
            match step {
                Step::Passes(seconds) => _ = clock.passes(seconds),
                Step::Call { agent, model, tokens } => {
                    let call = call("e", &format!("m{model}"), tokens, 0);
                    (calls, sum) = (calls + 1, sum + tokens);
                    let id = id(&format!("a{agent}"));
                    let now = clock.now();
                    let (_, change) = ledger.record(&id, &role(), &mut books[agent], &call, now);
                    for key in change.gone {
                        prop_assert!(kept.remove(&key).is_some());
                    }
                    kept.extend(change.rows.into_iter().map(|row| (row.key.clone(), row)));
                }
                Step::Admit | Step::BeginTurn | Step::BeginMessage => {}
            }
            let rows = ledger.rows();
            let total: ModelCounts = rows.iter().map(|row| row.counts).sum();
            let of_books: ModelCounts = books.iter().map(Book::counts).sum();
            prop_assert_eq!(total, of_books);
            prop_assert_eq!((total.calls, total.tokens.total()), (calls, sum));
            prop_assert_eq!(kept.values().cloned().collect::<Vec<_>>(), rows.clone());
            prop_assert!(ledger.agents.len() <= agents.max(1));
            prop_assert!(rows.len() <= agents * per_agent.max(1) + others.max(1));
        }
    }

    /// Against plain sums: a call is admitted exactly while less than every budget is used. A caller that was refused stays
    /// refused until a window, a turn or a message passes, and each window has one report of each kind.
    #[test]
    fn admission_follows_the_sums(
        steps in prop::collection::vec(step(), 0..120),
        of_role in budgets(), of_container in budgets(),
    ) {
        let mut rules = rules(of_role, of_container);
        let price = Price::per_million(1000.0).unwrap();
        let prices = Prices { input: price, cached: price, output: price };
        rules.prices.insert("e".into(), prices.into());
        let mut ledger = Ledger::new(rules, Bounds::default());
        let (mut book, mut clock) = (Book::default(), Clock::new());
        let (mut message, mut turn, mut log) = (0, 0, Vec::<(Now, u64)>::new());
        let (mut refused, mut reported, mut first_refusals) = (false, Vec::new(), Vec::new());
        for step in steps {
            match step {
                Step::Passes(seconds) => {
                    clock.passes(seconds);
                    refused = false;
                }
                Step::BeginTurn => {
                    book.begin_turn();
                    (turn, refused) = (0, false);
                }
                Step::BeginMessage => {
                    book.begin_message();
                    (message, turn, refused) = (0, 0, false);
                }
                Step::Call { tokens, .. } => {
                    let now = clock.now();
                    let call = call("e", "m", tokens, 0);
                    let (near, _) = ledger.record(&id("a"), &role(), &mut book, &call, now);
                    message += tokens;
                    log.push((now, tokens));
                    for crossing in near {
                        prop_assert!(crossing.used * 100 >= crossing.bound * 80);
                        if crossing.kind == BudgetKind::TokensPerDay {
                            reported.push((now.day(), crossing.scope == Scope::Container));
                        }
                    }
                }
                Step::Admit => {
                    let now = clock.now();
                    let today = log.iter().filter(|(at, _)| at.day() == now.day());
                    let day: u64 = today.map(|(_, tokens)| tokens).sum();
                    let within = |seconds| -> u64 {
                        let span = Duration::from_secs(seconds);
                        let is_in = |at: &Now| now.at.duration_since(at.at) < span;
                        log.iter().filter(|(at, _)| is_in(at)).map(|(_, tokens)| tokens).sum()
                    };
                    let both = |bound: fn(&Budgets) -> Option<u64>, used: u64| {
                        [&of_role, &of_container].into_iter().any(|it| bound(it).is_some_and(|it| used >= it))
                    };
                    let surely = both(|it| it.tokens_per_day, day)
                        || both(|it| it.cost_per_day_nano, day * 1_000_000)
                        || both(|it| it.tokens_per_message, message)
                        || both(|it| it.calls_per_turn, turn);
                    match ledger.admit("r", &mut book, now) {
                        Ok(()) => {
                            prop_assert!(!surely && !both(|it| it.tokens_per_minute, within(60)));
                            prop_assert!(!refused, "it was refused a moment ago");
                            turn += 1;
                        }
                        Err(refusal) => {
                            prop_assert!(surely || both(|it| it.tokens_per_minute, within(65)));
                            prop_assert!(refusal.budget.used >= refusal.budget.bound);
                            refused = true;
                            if refusal.is_first && refusal.budget.kind == BudgetKind::TokensPerDay {
                                let scope = refusal.budget.scope == Scope::Container;
                                first_refusals.push((now.day(), scope));
                            }
                        }
                    }
                }
            }
        }
        for mut told in [reported, first_refusals] {
            let count = told.len();
            told.sort_unstable();
            told.dedup();
            prop_assert_eq!(told.len(), count);
        }
    }
}
