//! The container's ledger: what everybody used, and whether one more call may begin.

mod pot;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bulkhead_types::{
    AgentId, ModelCall, ModelCounts, Timestamp, TokenUsage, UsageChange, UsageDay, UsageKey,
    UsageRow,
};

use crate::book::Book;
use crate::breaker::LoopRules;
use crate::budget::{BudgetKind, Budgets, Crossing, Exhausted, OnExceeded, Refusal, Scope};
use crate::price::PriceList;
use crate::window::{Day, Now};
use pot::{Pot, Used};

/// Stands for the role, the endpoint and the model of calls past the bound of entries.
pub const OTHER: &str = "other";

/// What holds for one role.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RoleRules {
    /// What it may use.
    pub budgets: Budgets,
    /// What follows when that, or what the container may use, is used up. `None`: what the container says.
    pub on_exceeded: Option<OnExceeded>,
    /// How often its agents may repeat themselves.
    pub loops: LoopRules,
}

/// What holds for the container and its roles. A role that is not among them has the container's budgets only.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    /// What all agents may use together, and each for a message and a turn.
    pub container: Budgets,
    /// What follows when a budget is used up, of roles that do not say.
    pub on_exceeded: OnExceeded,
    /// By name.
    pub roles: BTreeMap<Arc<str>, RoleRules>,
    /// By endpoint. Without any a call costs nothing.
    pub prices: BTreeMap<Arc<str>, PriceList>,
}

/// How many entries are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Agents with entries of their own. The one whose last call is longest ago makes room: its entries are added to
    /// those of no agent.
    pub agents: usize,
    /// Entries of one agent: an agent may name any model that its endpoint allows. What is past it goes to [`OTHER`].
    pub per_agent: usize,
    /// Entries of no agent.
    pub others: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { agents: 2048, per_agent: 8, others: 1024 }
    }
}

/// Calls of one endpoint since the host began.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EndpointFigures {
    /// By role and model, at most [`EndpointFigures::MODELS`] and one of [`OTHER`] for each role.
    pub models: BTreeMap<(Arc<str>, Arc<str>), ModelFigures>,
    /// Calls by duration: longer than the bound before, and at most as long as [`EndpointFigures::BUCKETS_MS`] says at
    /// the same place. Behind them those that are longer than all.
    pub durations: [u64; Self::BUCKETS_MS.len() + 1],
    /// Of all calls, in milliseconds.
    pub duration_ms: u64,
    /// All of them.
    pub calls: u64,
}

/// Calls of one endpoint by agents of one role for one model since the host began.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ModelFigures {
    /// Calls by outcome, as in [`ModelCall`].
    pub outcomes: BTreeMap<&'static str, u64>,
    /// Of all answers.
    pub tokens: TokenUsage,
    /// Billionths of the unit of the prices. `None`: it has no prices.
    pub cost_nano: Option<u64>,
}

impl EndpointFigures {
    /// Models of roles that are counted apart: an agent may name any model that its endpoint allows.
    pub const MODELS: usize = 64;

    /// In milliseconds. Models answer within a second or think for minutes.
    pub const BUCKETS_MS: [u64; 10] =
        [250, 500, 1000, 2500, 5000, 10_000, 30_000, 60_000, 120_000, 300_000];

    fn count(
        &mut self,
        role: &Arc<str>,
        call: &ModelCall,
        tokens: TokenUsage,
        cost_nano: Option<u64>,
    ) {
        let mut key = (Arc::clone(role), Arc::from(&*call.model));
        if self.models.len() >= Self::MODELS && !self.models.contains_key(&key) {
            key.1 = OTHER.into();
        }
        let of_model = self.models.entry(key).or_default();
        *of_model.outcomes.entry(call.outcome).or_default() += 1;
        of_model.tokens = of_model.tokens.plus(tokens);
        if let Some(cost_nano) = cost_nano {
            let sum = of_model.cost_nano.unwrap_or(0).saturating_add(cost_nano);
            of_model.cost_nano = Some(sum);
        }
        let ms = bulkhead_types::time::millis(call.duration);
        let bucket = Self::BUCKETS_MS.partition_point(|bound| *bound < ms);
        self.durations[bucket] += 1;
        self.duration_ms = self.duration_ms.saturating_add(ms);
        self.calls += 1;
    }
}

/// What everybody used.
#[derive(Debug)]
pub struct Ledger {
    rules: Rules,
    bounds: Bounds,
    container: Pot,
    /// Of every role in the rules.
    roles: BTreeMap<Arc<str>, Pot>,
    agents: HashMap<AgentId, Account>,
    /// Of agents that have no entry any more.
    others: Entries,
    /// Endpoints of the configuration, and `own`.
    endpoints: BTreeMap<Arc<str>, EndpointFigures>,
    /// Calls that were counted, to tell whose is the oldest.
    sequence: u64,
    merged: u64,
}

type Entries = BTreeMap<EntryKey, Entry>;

/// Role, endpoint, model.
type EntryKey = (Arc<str>, Arc<str>, Arc<str>);

#[derive(Debug, Clone, Copy)]
struct Entry {
    counts: ModelCounts,
    last_at: Timestamp,
}

/// The entries of one agent.
#[derive(Debug, Default)]
struct Account {
    entries: Entries,
    /// [`Ledger::sequence`] at its last call.
    last: u64,
}

impl Ledger {
    /// An empty one.
    pub fn new(rules: Rules, bounds: Bounds) -> Self {
        let roles = rules.roles.keys().map(|role| (Arc::clone(role), Pot::default())).collect();
        Self {
            rules,
            bounds,
            container: Pot::default(),
            roles,
            agents: HashMap::new(),
            others: Entries::new(),
            endpoints: BTreeMap::new(),
            sequence: 0,
            merged: 0,
        }
    }

    /// How often agents of a role may repeat themselves.
    pub fn loop_rules(&self, role: &str) -> LoopRules {
        self.rules.roles.get(role).map_or_else(LoopRules::default, |rules| rules.loops)
    }

    /// Goes on with what an earlier run of the host wrote down, and returns what changes about it: nothing, unless the
    /// bounds are lower now. Days that are over, and days of roles that there are no more, say nothing. Use that was
    /// near a budget then is not reported again.
    pub fn restore(
        &mut self,
        mut rows: Vec<UsageRow>,
        days: Vec<UsageDay>,
        now: Now,
    ) -> UsageChange {
        rows.sort_by_key(|row| row.last_at);
        for UsageRow { key, counts, last_at } in &rows {
            let UsageKey { agent, role, endpoint, model } = key.clone();
            let entry = Entry { counts: *counts, last_at: *last_at };
            self.add(agent.as_ref(), (role, endpoint, model), entry, &mut UsageChange::default());
        }
        for UsageDay { role, day, tokens, cost_nano } in days {
            let (pot, budgets) = match &role {
                None => (Some(&mut self.container), self.rules.container),
                Some(role) => {
                    let budgets = self.rules.roles.get(role).map(|rules| rules.budgets);
                    (self.roles.get_mut(role), budgets.unwrap_or_default())
                }
            };
            if let Some(pot) = pot {
                pot.day = Day { day, tokens, cost_nano };
                pot.turn(now);
                pot.near(&budgets, now).for_each(drop);
            }
        }
        let kept = self.rows();
        let is_kept = |key: &UsageKey| kept.binary_search_by(|row| row.key.cmp(key)).is_ok();
        let gone = rows.into_iter().map(|row| row.key).filter(|key| !is_kept(key));
        let gone: Vec<_> = gone.collect();
        let rows = if gone.is_empty() { Vec::new() } else { kept };
        UsageChange { rows, gone, days: Vec::new() }
    }

    /// Whether a call may begin, which is counted then. While less than each budget is used, it may.
    pub fn admit(&mut self, role: &str, book: &mut Book, now: Now) -> Result<(), Refusal> {
        let role_rules = self.rules.roles.get_key_value(role);
        let mut longest: Option<(Used, Scope, bool)> = None;
        let of_role = role_rules
            .zip(self.roles.get_mut(role))
            .map(|((role, rules), pot)| (Scope::Role(Arc::clone(role)), rules.budgets, pot));
        let of_container = (Scope::Container, self.rules.container, &mut self.container);
        for (scope, budgets, pot) in of_role.into_iter().chain([of_container]) {
            pot.turn(now);
            let own = [
                Used::of(
                    BudgetKind::TokensPerMessage,
                    book.message.tokens,
                    budgets.tokens_per_message,
                ),
                Used::of(BudgetKind::CallsPerTurn, book.calls, budgets.calls_per_turn),
            ];
            let shared = pot.used(&budgets, now);
            for used in own.into_iter().chain(shared).flatten().filter(Used::is_exhausted) {
                let is_longer = |(other, ..): &(Used, Scope, bool)| used.lasts() > other.lasts();
                if longest.as_ref().is_none_or(is_longer) {
                    let is_first = pot.is_first_refusal(used.kind, book);
                    longest = Some((used, scope.clone(), is_first));
                }
            }
        }
        let Some((used, scope, is_first)) = longest else {
            book.calls = book.calls.saturating_add(1);
            return Ok(());
        };
        if let Some(pot) = self.pot(&scope) {
            pot.refuses(used.kind, book, now);
        }
        let on_exceeded = self.rules.roles.get(role).and_then(|rules| rules.on_exceeded);
        let budget = used.crossing(scope);
        Err(Refusal {
            exhausted: Exhausted { message: budget.to_string(), retry: used.retry },
            budget,
            is_first,
            ends: on_exceeded.unwrap_or(self.rules.on_exceeded) == OnExceeded::End,
        })
    }

    /// Counts a call that is over. Returns the budgets of which 80 % are used now, each once in its window, and what
    /// is to be kept.
    pub fn record(
        &mut self,
        agent: &AgentId,
        role: &Arc<str>,
        book: &mut Book,
        call: &ModelCall,
        now: Now,
    ) -> (Vec<Crossing>, UsageChange) {
        let tokens = call.usage.unwrap_or(call.estimate);
        let list = self.rules.prices.get(&call.endpoint);
        let prices = list.and_then(|list| list.of(&call.model));
        let cost_nano = prices.map(|prices| prices.cost_nano(&tokens));
        let figures = self.endpoints.entry(Arc::clone(&call.endpoint)).or_default();
        figures.count(role, call, tokens, cost_nano);
        let counts = ModelCounts {
            calls: 1,
            failed: u64::from(call.outcome != "ok"),
            tokens,
            cost_nano: cost_nano.unwrap_or(0),
        };
        book.count(counts);
        let mut change = UsageChange::default();
        let key = (Arc::clone(role), Arc::clone(&call.endpoint), Arc::from(&*call.model));
        self.add(Some(agent), key, Entry { counts, last_at: now.wall }, &mut change);
        let (total, mut crossings) = (tokens.total(), Vec::new());
        let of_role = self
            .rules
            .roles
            .get(role)
            .zip(self.roles.get_mut(role))
            .map(|(rules, pot)| (Scope::Role(Arc::clone(role)), rules.budgets, pot));
        let of_container = (Scope::Container, self.rules.container, &mut self.container);
        for (scope, budgets, pot) in of_role.into_iter().chain([of_container]) {
            pot.add(total, counts.cost_nano, now);
            let of_message = Used::of(
                BudgetKind::TokensPerMessage,
                book.message.tokens,
                budgets.tokens_per_message,
            );
            let told = &mut book.message.near[usize::from(scope == Scope::Container)];
            let of_message = of_message
                .filter(|used| used.is_near() && !std::mem::replace(told, true))
                .into_iter();
            let near = of_message.chain(pot.near(&budgets, now));
            crossings.extend(near.map(|used| used.crossing(scope.clone())));
            let role = match scope {
                Scope::Role(role) => Some(role),
                Scope::Container => None,
            };
            let Day { day, tokens, cost_nano } = pot.day;
            change.days.push(UsageDay { role, day, tokens, cost_nano });
        }
        (crossings, change)
    }

    /// Adds to an entry, and makes room for it.
    fn add(
        &mut self,
        agent: Option<&AgentId>,
        key: EntryKey,
        entry: Entry,
        change: &mut UsageChange,
    ) {
        self.sequence += 1;
        let Some(agent) = agent else { return self.add_to_others(key, entry, change) };
        if !self.agents.contains_key(agent) && self.agents.len() >= self.bounds.agents {
            self.make_room(change);
        }
        if self.bounds.agents == 0 {
            return self.add_to_others(key, entry, change);
        }
        let account = self.agents.entry(agent.clone()).or_default();
        account.last = self.sequence;
        let (row, merged) = add(&mut account.entries, key, entry, self.bounds.per_agent);
        self.merged += u64::from(merged);
        change.rows.push(row.of(Some(agent.clone())));
    }

    fn add_to_others(&mut self, key: EntryKey, entry: Entry, change: &mut UsageChange) {
        let (row, merged) = add(&mut self.others, key, entry, self.bounds.others);
        self.merged += u64::from(merged);
        // Of several changes of a row the last one counts.
        let row = row.of(None);
        change.rows.retain(|other| other.key != row.key);
        change.rows.push(row);
    }

    fn make_room(&mut self, change: &mut UsageChange) {
        let oldest = self.agents.iter().min_by_key(|(_, account)| account.last);
        let Some(id) = oldest.map(|(id, _)| id.clone()) else { return };
        let entries = self.agents.remove(&id).map(|account| account.entries).unwrap_or_default();
        for ((role, endpoint, model), entry) in entries {
            change.gone.push(UsageKey {
                agent: Some(id.clone()),
                role: Arc::clone(&role),
                endpoint: Arc::clone(&endpoint),
                model: Arc::clone(&model),
            });
            self.merged += 1;
            self.add_to_others((role, endpoint, model), entry, change);
        }
    }

    fn pot(&mut self, scope: &Scope) -> Option<&mut Pot> {
        match scope {
            Scope::Container => Some(&mut self.container),
            Scope::Role(role) => self.roles.get_mut(role),
        }
    }

    /// All entries, by agent, role, endpoint and model; those of no agent come first.
    pub fn rows(&self) -> Vec<UsageRow> {
        let others = self.others.iter().map(|(key, entry)| row(None, key, entry));
        let own = self.agents.iter().flat_map(|(id, account)| {
            account.entries.iter().map(|(key, entry)| row(Some(id), key, entry))
        });
        let mut rows: Vec<_> = others.chain(own).collect();
        rows.sort_by(|a, b| a.key.cmp(&b.key));
        rows
    }

    /// What an agent used, in all its incarnations and roles, as long as it has entries.
    pub fn of_agent(&self, agent: &AgentId) -> ModelCounts {
        let account = self.agents.get(agent);
        account.map_or_else(ModelCounts::default, |account| {
            account.entries.values().map(|entry| entry.counts).sum()
        })
    }

    /// The days of the container and of all roles, as they stand now.
    pub fn days(&mut self, now: Now) -> Vec<UsageDay> {
        let roles = self.roles.iter_mut().map(|(role, pot)| (Some(Arc::clone(role)), pot));
        let all = std::iter::once((None, &mut self.container)).chain(roles);
        all.map(|(role, pot)| {
            pot.turn(now);
            let Day { day, tokens, cost_nano } = pot.day;
            UsageDay { role, day, tokens, cost_nano }
        })
        .collect()
    }

    /// All budgets that there are, and how much of them is used. Those of a message and a turn have no use of their
    /// own here.
    pub fn budgets(&mut self, now: Now) -> Vec<Crossing> {
        let roles = self
            .rules
            .roles
            .iter()
            .map(|(role, rules)| (Scope::Role(Arc::clone(role)), rules.budgets));
        let all: Vec<_> =
            std::iter::once((Scope::Container, self.rules.container)).chain(roles).collect();
        let mut budgets = Vec::new();
        for (scope, of_scope) in all {
            if let Some(pot) = self.pot(&scope) {
                pot.turn(now);
                let used = pot.used(&of_scope, now).into_iter().flatten();
                budgets.extend(used.map(|used| used.crossing(scope.clone())));
            }
        }
        budgets
    }

    /// Whether anything has a price.
    pub fn is_priced(&self) -> bool {
        !self.rules.prices.is_empty()
    }

    /// Calls by endpoint since the host began.
    pub fn endpoints(&self) -> &BTreeMap<Arc<str>, EndpointFigures> {
        &self.endpoints
    }

    /// Entries that were added to those of no agent or to [`OTHER`], and calls that went there at once, since the
    /// host began.
    pub fn merged(&self) -> u64 {
        self.merged
    }
}

/// Adds to the entry of `key`, or past the bound to that of [`OTHER`], and returns how it is now.
fn add(entries: &mut Entries, key: EntryKey, entry: Entry, most: usize) -> (Row, bool) {
    let other = || -> Arc<str> { OTHER.into() };
    // One is kept for what has none.
    let has_room = entries.contains_key(&key) || entries.len() + 1 < most;
    let key = if has_room { key } else { (other(), other(), other()) };
    let sum =
        entries.entry(key.clone()).or_insert(Entry { counts: ModelCounts::default(), ..entry });
    sum.counts = sum.counts.plus(entry.counts);
    sum.last_at = sum.last_at.max(entry.last_at);
    (Row(key, *sum), !has_room)
}

struct Row(EntryKey, Entry);

impl Row {
    fn of(self, agent: Option<AgentId>) -> UsageRow {
        row(agent.as_ref(), &self.0, &self.1)
    }
}

fn row(agent: Option<&AgentId>, (role, endpoint, model): &EntryKey, entry: &Entry) -> UsageRow {
    let key = UsageKey {
        agent: agent.cloned(),
        role: Arc::clone(role),
        endpoint: Arc::clone(endpoint),
        model: Arc::clone(model),
    };
    UsageRow { key, counts: entry.counts, last_at: entry.last_at }
}

#[cfg(test)]
mod tests;
