//! Which workspaces go, by policy. No clock, no disk.

use std::cmp::Reverse;
use std::time::Duration;

use bulkhead_types::AgentId;
use bulkhead_types::time::Timestamp;

use crate::inventory::Kept;

/// How long workspaces of agents that do not run are kept. By default for good.
///
/// | | pushed | not pushed |
/// | --- | --- | --- |
/// | `keep` | goes | goes: somebody said for how long it stays |
/// | `keep_pushed` | goes | stays |
/// | `max_bytes` | goes first | stays, unless `space_over_work` |
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Policy {
    /// For how long any workspace stays after its last use, whatever is in it.
    pub keep: Option<Duration>,
    /// For how long one stays of which everything is pushed; zero: not at all.
    pub keep_pushed: Option<Duration>,
    /// What all of them may have on disk together. Those in use do not count.
    pub max_bytes: Option<u64>,
    /// Whether work that is nowhere else goes too, for `max_bytes`.
    pub space_over_work: bool,
}

/// Why a workspace goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// Nobody used it for too long.
    Expired,
    /// Everything in it is on the remote.
    Pushed,
    /// All of them together are too large.
    Space,
}

impl Why {
    /// For answers and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Pushed => "pushed",
            Self::Space => "space",
        }
    }
}

/// One workspace that goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removal {
    /// Whose.
    pub agent: AgentId,
    /// Why.
    pub why: Why,
    /// When it was used last. If it was used since, it stays.
    pub used: Timestamp,
}

/// What goes, and what that leaves.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Choice {
    /// Expired and pushed ones in the order of the inventory, then those that make room, longest unused first.
    pub removals: Vec<Removal>,
    /// Bytes above [`Policy::max_bytes`] that nothing is left for. Somebody has to push or remove work.
    pub excess_bytes: u64,
}

/// Chooses what goes. Never what is in use.
pub fn choose(
    inventory: &[Kept],
    policy: &Policy,
    now: Timestamp,
    in_use: &dyn Fn(&AgentId) -> bool,
) -> Choice {
    let idle: Vec<_> = inventory.iter().filter(|kept| !in_use(&kept.agent)).collect();
    let due = |kept: &Kept| policy.due(kept, now);
    let gone = idle.iter().filter_map(|kept| Some(removal(kept, due(kept)?)));
    let mut choice = Choice { removals: gone.collect(), excess_bytes: 0 };
    let stay: Vec<_> = idle.into_iter().filter(|kept| due(kept).is_none()).collect();
    if let Some(max_bytes) = policy.max_bytes {
        make_room(stay, max_bytes, policy.space_over_work, &mut choice);
    }
    choice
}

impl Policy {
    fn due(&self, kept: &Kept, now: Timestamp) -> Option<Why> {
        let unused = now.since(kept.used);
        let is_over = |limit: Option<Duration>| limit.is_some_and(|limit| unused >= limit);
        if kept.pushed.is_pushed() && is_over(self.keep_pushed) {
            return Some(Why::Pushed);
        }
        is_over(self.keep).then_some(Why::Expired)
    }
}

/// Pushed ones first, then those unused for longest.
fn make_room(mut stay: Vec<&Kept>, max_bytes: u64, any: bool, choice: &mut Choice) {
    let total: u128 = stay.iter().map(|kept| u128::from(kept.bytes)).sum();
    let mut excess = total.saturating_sub(max_bytes.into());
    stay.retain(|kept| kept.bytes > 0 && (any || kept.pushed.is_pushed()));
    stay.sort_by_key(|kept| (Reverse(kept.pushed.is_pushed()), kept.used));
    for kept in stay {
        if excess == 0 {
            break;
        }
        excess = excess.saturating_sub(kept.bytes.into());
        choice.removals.push(removal(kept, Why::Space));
    }
    choice.excess_bytes = u64::try_from(excess).unwrap_or(u64::MAX);
}

fn removal(kept: &Kept, why: Why) -> Removal {
    Removal { agent: kept.agent.clone(), why, used: kept.used }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use proptest::prelude::*;

    use super::*;
    use crate::pushed::Pushed;

    const NOW: Timestamp = Timestamp(1_000_000_000);

    fn kept(agent: &str, unused: u64, bytes: u64, pushed: bool) -> Kept {
        Kept {
            agent: AgentId::parse(agent).unwrap(),
            path: PathBuf::new(),
            bytes,
            entries: 1,
            truncated: false,
            used: Timestamp(NOW.0 - i64::try_from(unused).unwrap() * 1000),
            rig: None,
            branch: None,
            pushed: if pushed { Pushed::Yes } else { Pushed::no("work") },
        }
    }

    fn seconds(seconds: u64) -> Option<Duration> {
        Some(Duration::from_secs(seconds))
    }

    /// `pushed` and `work`, and an older and larger pair.
    fn four() -> Vec<Kept> {
        vec![
            kept("pushed", 10, 100, true),
            kept("work", 10, 100, false),
            kept("oldpushed", 20, 200, true),
            kept("oldwork", 20, 200, false),
        ]
    }

    #[test]
    fn what_goes_by_which_policy() {
        let none = Policy::default();
        let room = |max_bytes, space_over_work| Policy {
            max_bytes: Some(max_bytes),
            space_over_work,
            ..none
        };
        let cases: &[(&str, Policy, &str, u64)] = &[
            ("nothing", none, "", 0),
            ("not yet", Policy { keep: seconds(21), keep_pushed: seconds(21), ..none }, "", 0),
            (
                "exactly now, work too",
                Policy { keep: seconds(20), ..none },
                "oldpushed expired, oldwork expired",
                0,
            ),
            ("pushed", Policy { keep_pushed: seconds(20), ..none }, "oldpushed pushed", 0),
            (
                "pushed at once",
                Policy { keep_pushed: seconds(0), ..none },
                "pushed pushed, oldpushed pushed",
                0,
            ),
            (
                "pushed before expired",
                Policy { keep: seconds(20), keep_pushed: seconds(5), ..none },
                "pushed pushed, oldpushed pushed, oldwork expired",
                0,
            ),
            ("all fit", room(600, true), "", 0),
            ("one byte too much", room(599, true), "oldpushed space", 0),
            ("pushed ones only", room(0, false), "oldpushed space, pushed space", 300),
            ("work after them", room(150, true), "oldpushed space, pushed space, oldwork space", 0),
            (
                "what is expired makes room",
                Policy { keep: seconds(20), ..room(200, false) },
                "oldpushed expired, oldwork expired",
                0,
            ),
        ];
        for (case, policy, expected, excess) in cases {
            let choice = choose(&four(), policy, NOW, &|_| false);
            let words = choice.removals.iter();
            let words: Vec<_> =
                words.map(|it| format!("{} {}", it.agent.as_str(), it.why.as_str())).collect();
            assert_eq!((&*words.join(", "), choice.excess_bytes), (*expected, *excess), "{case}");
        }
    }

    #[test]
    fn what_is_in_use_stays_and_takes_no_room() {
        let all = Policy { keep: seconds(0), keep_pushed: seconds(0), ..Policy::default() };
        assert_eq!(choose(&four(), &all, NOW, &|_| true), Choice::default());
        let room = Policy { max_bytes: Some(300), ..Policy::default() };
        let choice = choose(&four(), &room, NOW, &|agent| agent.as_str().starts_with("old"));
        assert_eq!(choice, Choice::default());
    }

    #[test]
    fn a_use_in_the_future_is_a_use_now() {
        let future = [Kept { used: Timestamp(i64::MAX), ..kept("a", 0, 1, true) }];
        let policy = Policy { keep: seconds(1), ..Policy::default() };
        assert_eq!(choose(&future, &policy, NOW, &|_| false), Choice::default());
    }

    fn inventory() -> impl Strategy<Value = Vec<Kept>> {
        let one = (0..50u64, prop_oneof![0..1000u64, Just(u64::MAX)], any::<bool>());
        prop::collection::vec(one, 0..12).prop_map(|all| {
            let numbered = all.into_iter().enumerate();
            numbered
                .map(|(n, (unused, bytes, pushed))| kept(&format!("a{n}"), unused, bytes, pushed))
                .collect()
        })
    }

    fn policy() -> impl Strategy<Value = Policy> {
        let time = || prop::option::of((0..50u64).prop_map(Duration::from_secs));
        (time(), time(), prop::option::of(0..3000u64), any::<bool>()).prop_map(
            |(keep, keep_pushed, max_bytes, space_over_work)| Policy {
                keep,
                keep_pushed,
                max_bytes,
                space_over_work,
            },
        )
    }

    proptest! {
        #[test]
        fn nothing_goes_that_may_stay(all in inventory(), policy in policy(), used in 0..4u32) {
            let in_use = |agent: &AgentId| agent.as_str().ends_with(char::from_digit(used, 10).unwrap());
            let choice = choose(&all, &policy, NOW, &in_use);
            let find = |removal: &Removal| all.iter().find(|kept| kept.agent == removal.agent).unwrap();
            let mut seen = std::collections::BTreeSet::new();
            for removal in &choice.removals {
                let kept = find(removal);
                prop_assert!(!in_use(&kept.agent) && seen.insert(kept.agent.clone()));
                let expired = policy.keep.is_some_and(|keep| NOW.since(kept.used) >= keep);
                prop_assert!(kept.pushed.is_pushed() || expired || policy.space_over_work);
            }
            // Without the last one that makes room there is too little.
            let stays = |kept: &&Kept| !in_use(&kept.agent) && !seen.contains(&kept.agent);
            let left: u128 = all.iter().filter(stays).map(|kept| u128::from(kept.bytes)).sum();
            let limit = policy.max_bytes.map_or(u128::MAX, u128::from);
            if let Some(last) = choice.removals.last().filter(|last| last.why == Why::Space) {
                prop_assert!(left + u128::from(find(last).bytes) > limit);
            }
            prop_assert_eq!(choice.excess_bytes > 0, left > limit);
        }
    }
}
