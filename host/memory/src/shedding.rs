//! Who goes when memory is short: one agent at a time, so that not all go at once.
//!
//! ```text
//!           use ≥ 90 %, or pressure ≥ 15 % with use ≥ 80 %
//!   calm ─────────────────────────────────────────▶ shedding ──▶ evict the worst, wait until it is gone,
//!        ◀─────────────────────────────────────────     ▲              │ check again
//!           use < 80 %                                  └──────────────┘
//! ```
//!
//! The score of an agent is a product, the largest goes:
//!
//! | factor | from | to | why |
//! | --- | --- | --- | --- |
//! | use of its own limit | 0 | 1 | who is close to its limit would die soon anyway |
//! | what it would free, of what is needed | 0 | 1 | more than is needed is no merit |
//! | weight of its role | 0 | 10 | the operator knows what is dear |
//! | idle | 1 | 1.5 | it is not in the middle of something |
//!
//! The last active mayor is taken only when nothing else is there. Pressure alone, with much memory
//! left, is no reason: it can come from elsewhere on the machine, and nobody here could help it. Nor is use
//! of a limit that others share, when all agents together do not hold what is needed; or of one that is this container's
//! alone, when they hold a small part of it: whatever has the rest, they would all go, and memory would be short still. A guest that wants
//! more than there is while memory is not short is no reason either: it is denied, or it could have its
//! neighbours ended one after the other.

use std::cmp::Ordering;
use std::time::Duration;

use bulkhead_types::memory::{Alternative, Eviction};
use bulkhead_types::{AgentId, Incarnation};

use crate::pressure::HIGH_PSI;
use crate::reading::{HIGH_SHARE, LOW_SHARE, Reading};

/// Largest weight of a role.
pub const MAX_WEIGHT: f64 = 10.0;

/// What being idle counts.
const IDLE_FACTOR: f64 = 1.5;

/// Others that a record names, the next worst first.
const ALTERNATIVES: usize = 5;

/// Of what is needed. When all agents together hold less than this, nobody goes for it.
const SMALL_PART: f64 = 0.25;

/// How long an evicted agent may take to be gone before another one has to go. Its end is given no grace, so
/// this is only for a host that has too much to do.
const PATIENCE: Duration = Duration::from_secs(2);

/// An agent that could go.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// Who.
    pub agent_id: AgentId,
    /// Which incarnation.
    pub incarnation: Incarnation,
    /// All that it holds.
    pub used_bytes: u64,
    /// Its hard limit.
    pub limit_bytes: u64,
    /// Of its role, from 0 to [`MAX_WEIGHT`]. With 0 it goes after all others.
    pub weight: f64,
    /// It waits for work.
    pub idle: bool,
    /// Its role is the mayor's.
    pub mayor: bool,
}

/// What has to be done now.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Memory is not short.
    Calm,
    /// Somebody goes already.
    Wait,
    /// Nobody is there whose end would help.
    Helpless,
    /// This incarnation has to go.
    Evict {
        /// Who.
        agent_id: AgentId,
        /// Which incarnation.
        incarnation: Incarnation,
        /// Why this one.
        eviction: Eviction,
    },
}

/// Chooses who goes. Pure.
#[derive(Debug, Default)]
pub struct Shedder {
    sheds: bool,
    /// Which incarnation was asked to end, and when.
    leaving: Option<(AgentId, Incarnation, Duration)>,
}

impl Shedder {
    /// Memory is short, and agents go for it.
    pub fn sheds(&self) -> bool {
        self.sheds
    }

    /// What follows from a reading at `now`. `beyond` is what a guest that waits needs past the mark for
    /// growths. `is_alive` says whether an incarnation is still active; `candidates` are all that are.
    pub fn step(
        &mut self,
        now: Duration,
        reading: &Reading,
        beyond: u64,
        is_alive: impl FnOnce(&AgentId, Incarnation) -> bool,
        evict_tools: impl FnOnce(u64) -> bool,
        candidates: impl FnOnce() -> Vec<Candidate>,
    ) -> Step {
        let (Some(limit), Some(share)) = (reading.limit, reading.used_share()) else {
            self.sheds = false;
            return Step::Calm;
        };
        let waiting = reading.psi.map_or(0.0, |psi| psi.some_avg10);
        let short = share >= HIGH_SHARE || (waiting >= HIGH_PSI && share >= LOW_SHARE);
        self.sheds = short || (self.sheds && share >= LOW_SHARE);
        if !self.sheds {
            self.leaving = None;
            return Step::Calm;
        }
        if let Some((agent_id, incarnation, since)) = &self.leaving
            && now.saturating_sub(*since) < PATIENCE
            && is_alive(agent_id, *incarnation)
        {
            return Step::Wait;
        }
        let used = reading.used_bytes.unwrap_or_default();
        let low = (limit.bytes as f64 * LOW_SHARE) as u64;
        let needed = used.saturating_sub(low).max(beyond);
        if evict_tools(needed) {
            // A program is a result to its agent, and the agent goes on.
            return Step::Wait;
        }
        let candidates = candidates();
        let held = candidates.iter().map(|candidate| candidate.used_bytes).sum::<u64>();
        // What others use, on the machine or in this container, no agent can give back.
        let share = if limit.source.is_own() { SMALL_PART } else { 1.0 };
        if (held as f64) < needed as f64 * share {
            self.leaving = None;
            return Step::Helpless;
        }
        let Some((chosen, eviction)) = choose(candidates, needed) else {
            self.leaving = None;
            return Step::Helpless;
        };
        let Candidate { agent_id, incarnation, .. } = chosen;
        self.leaving = Some((agent_id.clone(), incarnation, now));
        let eviction =
            Eviction { container_used_bytes: used, container_limit_bytes: limit.bytes, ..eviction };
        Step::Evict { agent_id, incarnation, eviction }
    }
}

/// The worst of them, and why. `needed` bytes are to become free.
fn choose(candidates: Vec<Candidate>, needed: u64) -> Option<(Candidate, Eviction)> {
    let last_mayor = candidates.iter().filter(|candidate| candidate.mayor).count() == 1;
    let others = candidates.iter().any(|candidate| !candidate.mayor);
    let spared = |candidate: &Candidate| candidate.mayor && last_mayor && others;
    let mut scored: Vec<_> = candidates
        .into_iter()
        .filter(|candidate| !spared(candidate))
        .map(|candidate| (score(&candidate, needed), candidate))
        .collect();
    scored.sort_by(|(one, a), (other, b)| {
        let by_use = || b.used_bytes.cmp(&a.used_bytes);
        other.partial_cmp(one).unwrap_or(Ordering::Equal).then_with(by_use)
    });
    let mut scored = scored.into_iter();
    let (score, chosen) = scored.next()?;
    let alternatives = scored.take(ALTERNATIVES).map(|(score, candidate)| Alternative {
        agent_id: candidate.agent_id,
        score: thousandths(score),
        used_bytes: candidate.used_bytes,
    });
    let eviction = Eviction {
        score: thousandths(score),
        used_bytes: chosen.used_bytes,
        idle: chosen.idle,
        weight: chosen.weight,
        container_used_bytes: 0,
        container_limit_bytes: 0,
        alternatives: alternatives.collect(),
    };
    Some((chosen, eviction))
}

fn score(candidate: &Candidate, needed: u64) -> f64 {
    let share = |part: u64, whole: u64| (part as f64 / whole.max(1) as f64).min(1.0);
    let idle = if candidate.idle { IDLE_FACTOR } else { 1.0 };
    let frees = share(candidate.used_bytes, needed);
    share(candidate.used_bytes, candidate.limit_bytes) * frees * candidate.weight * idle
}

fn thousandths(score: f64) -> f64 {
    (score * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use bulkhead_types::memory::Psi;
    use proptest::prelude::*;

    use super::*;
    use crate::reading::{Limit, LimitSource};

    fn reading(used: u64, some_avg10: f64) -> Reading {
        Reading {
            limit: Some(Limit { bytes: 1000, source: LimitSource::Cgroup2 }),
            used_bytes: Some(used),
            psi: Some(Psi { some_avg10, full_avg10: 0.0 }),
            ..Reading::default()
        }
    }

    fn agent(id: &str, used_bytes: u64) -> Candidate {
        Candidate {
            agent_id: AgentId::parse(id).unwrap(),
            incarnation: Incarnation(1),
            used_bytes,
            limit_bytes: 100,
            weight: 1.0,
            idle: false,
            mayor: false,
        }
    }

    fn step(shedder: &mut Shedder, used: u64, agents: &[Candidate]) -> Step {
        shedder.step(
            Duration::ZERO,
            &reading(used, 0.0),
            0,
            |_, _| false,
            |_| false,
            || agents.to_vec(),
        )
    }

    fn evicted(step: Step) -> Option<(String, Eviction)> {
        match step {
            Step::Evict { agent_id, eviction, .. } => Some((agent_id.to_string(), eviction)),
            _ => None,
        }
    }

    #[test]
    fn it_begins_at_the_high_mark_and_ends_below_the_low_one() {
        let agents = [agent("a", 50)];
        let mut shedder = Shedder::default();
        assert_eq!(step(&mut shedder, 899, &agents), Step::Calm);
        assert!(evicted(step(&mut shedder, 900, &agents)).is_some());
        assert!(evicted(step(&mut shedder, 800, &agents)).is_some(), "not low enough");
        assert_eq!(step(&mut shedder, 799, &agents), Step::Calm);
        assert_eq!(step(&mut shedder, 899, &agents), Step::Calm);
    }

    #[test]
    fn pressure_counts_where_memory_is_nearly_used_up() {
        let look = |used, psi| {
            let none = || vec![agent("a", 10)];
            let mut shedder = Shedder::default();
            shedder.step(Duration::ZERO, &reading(used, psi), 0, |_, _| false, |_| false, none)
        };
        assert_eq!(look(799, 90.0), Step::Calm);
        assert!(evicted(look(800, 15.0)).is_some());
    }

    #[test]
    fn one_goes_at_a_time() {
        let agents = || vec![agent("a", 60), agent("b", 50)];
        let mut shedder = Shedder::default();
        let mut at = |ms, is_alive| {
            let now = Duration::from_millis(ms);
            evicted(shedder.step(now, &reading(950, 0.0), 0, |_, _| is_alive, |_| false, agents))
                .map(|(id, _)| id)
        };
        assert_eq!(at(0, true).as_deref(), Some("a"));
        assert_eq!(at(100, true), None);
        assert_eq!(at(200, false).as_deref(), Some("a"), "it is gone: the list says who is there");
        assert_eq!(at(2100, true), None);
        assert!(at(2200, true).is_some(), "it takes too long");
    }

    #[test]
    fn the_record_says_the_score_and_the_alternatives() {
        let idle = Candidate { idle: true, ..agent("idle", 60) };
        let dear = Candidate { weight: 0.1, ..agent("dear", 100) };
        let agents = [agent("small", 5), idle, agent("busy", 80), dear];
        let (id, eviction) = evicted(step(&mut Shedder::default(), 900, &agents)).unwrap();
        // 100 bytes are needed: 0.6 × 0.6 × 1.5 = 0.54, 0.8 × 0.8 = 0.64.
        assert_eq!((id.as_str(), eviction.score), ("busy", 0.64));
        let next: Vec<_> =
            eviction.alternatives.iter().map(|a| (a.agent_id.as_str(), a.score)).collect();
        assert_eq!(next, [("idle", 0.54), ("dear", 0.1), ("small", 0.003)]);
        assert_eq!((eviction.container_used_bytes, eviction.container_limit_bytes), (900, 1000));
    }

    #[test]
    fn the_last_mayor_goes_last() {
        let mayor = |id| Candidate { mayor: true, ..agent(id, 90) };
        let chosen = |agents: &[Candidate]| {
            evicted(step(&mut Shedder::default(), 950, agents)).map(|(id, _)| id)
        };
        assert_eq!(chosen(&[mayor("m"), agent("a", 0)]).as_deref(), Some("a"));
        assert_eq!(chosen(&[mayor("m"), mayor("n"), agent("a", 1)]).as_deref(), Some("m"));
        assert_eq!(chosen(&[mayor("m")]).as_deref(), Some("m"));
        assert_eq!(chosen(&[]), None);
    }

    #[test]
    fn what_others_use_is_no_reason_to_end_anybody() {
        let agents = [agent("a", 50)];
        let by = |source, used| {
            let limit = Some(Limit { bytes: 1000, source });
            let reading = Reading { limit, ..reading(used, 0.0) };
            let all = || agents.to_vec();
            Shedder::default().step(Duration::ZERO, &reading, 0, |_, _| false, |_| false, all)
        };
        assert_eq!(by(LimitSource::Meminfo, 910), Step::Helpless);
        assert_eq!(by(LimitSource::Cgroup1Above, 910), Step::Helpless);
        assert!(evicted(by(LimitSource::Cgroup1, 910)).is_some(), "each byte counts");
    }

    #[test]
    fn nobody_goes_for_a_small_part_of_what_is_needed() {
        let agents: Vec<_> = (0..8).map(|n| agent(&format!("a{n}"), 1)).collect();
        let step = |used, agents: &[Candidate]| step(&mut Shedder::default(), used, agents);
        // Eight agents of 1 beside something of 950: 150 are needed, and they have 8.
        assert_eq!(step(950, &agents), Step::Helpless);
        let large = [agent("large", 25)];
        assert_eq!(step(901, &large), Step::Helpless, "101 are needed");
        assert!(evicted(step(900, &large)).is_some(), "a quarter of what is needed helps");
    }

    #[test]
    fn who_frees_what_a_waiting_guest_needs_goes_first() {
        let agents = [agent("small", 95), Candidate { limit_bytes: 200, ..agent("large", 150) }];
        let mut shedder = Shedder::default();
        let all = || agents.to_vec();
        let step =
            shedder.step(Duration::ZERO, &reading(900, 0.0), 300, |_, _| false, |_| false, all);
        assert_eq!(evicted(step).map(|(id, _)| id).as_deref(), Some("large"));
    }

    #[test]
    fn without_a_limit_nobody_goes() {
        let mut shedder = Shedder::default();
        let step = shedder.step(
            Duration::ZERO,
            &Reading::default(),
            1,
            |_, _| false,
            |_| false,
            || vec![agent("a", 1)],
        );
        assert_eq!(step, Step::Calm);
    }

    proptest! {
        /// An evicted agent frees what it holds; then it ends, and each one goes once.
        #[test]
        fn it_ends_with_enough_memory_or_without_agents(
            sizes in prop::collection::vec((0u64..100, any::<bool>(), 0.0f64..10.0), 0..40),
            rest in 0u64..1200,
        ) {
            let mut agents: Vec<_> = sizes
                .iter()
                .enumerate()
                .map(|(n, (used, idle, weight))| Candidate {
                    idle: *idle,
                    weight: *weight,
                    ..agent(&format!("a{n}"), *used)
                })
                .collect();
            let (mut shedder, mut gone) = (Shedder::default(), HashSet::new());
            for round in 0..=sizes.len() {
                let used = rest + agents.iter().map(|agent| agent.used_bytes).sum::<u64>();
                match step(&mut shedder, used, &agents) {
                    Step::Evict { agent_id, .. } => {
                        agents.retain(|agent| agent.agent_id != agent_id);
                        prop_assert!(gone.insert(agent_id));
                        prop_assert!(round < sizes.len());
                    }
                    Step::Calm => prop_assert!(used < 900),
                    Step::Helpless => {
                        let held = agents.iter().map(|agent| agent.used_bytes).sum::<u64>();
                        prop_assert!(held * 4 < used - 800 || agents.is_empty());
                        break;
                    }
                    Step::Wait => prop_assert!(false, "nobody is left behind"),
                }
            }
        }
    }
}
