//! Between the thread that looks at memory and those who can do something about it.

use std::time::Duration;

use bulkhead_types::memory::Eviction;
use bulkhead_types::{AgentId, Incarnation};

use crate::reading::Reading;
use crate::shedding::{Candidate, Shedder, Step};

/// Share of the limit up to which guests may grow between two checks. The rest is the host's, for what it
/// needs to end one of them.
const GROWTH_SHARE: f64 = 0.95;

/// Between two times at which the host lets go of all that it holds for nobody, at least: what was let go of
/// shows in the next reading, and in the one after it there is nothing more.
const RELEASE_AGAIN: Duration = Duration::from_secs(5);

/// What an evicted agent gets to end in order, unless somebody waits for its memory.
const GRACE: Duration = Duration::from_secs(1);

/// What runs the agents.
pub trait Relief: Send + Sync {
    /// All guests together may grow by so many bytes until this is called again, and so may all native programs. `None`:
    /// by any number.
    fn give_room(&self, bytes: Option<u64>);
    /// What a guest needs that waits for room, when there was none at the last [`Relief::give_room`].
    fn wanted(&self) -> Option<u64>;
    /// There will be no more room than `above` bytes: guests that wait for more are refused.
    fn deny_growths(&self, above: u64);
    /// Whether an incarnation is still active.
    fn is_alive(&self, agent_id: &AgentId, incarnation: Incarnation) -> bool;
    /// All that are active and were not asked to end.
    fn candidates(&self) -> Vec<Candidate>;
    /// Ends the native programs with the most memory, so many that `bytes` become free, as far as they have so much. Whether
    /// one goes, was told to and is not gone yet, or is too new for its memory to be known.
    fn evict_tools(&self, bytes: u64) -> bool;
    /// Ends one. Returns at once.
    fn evict(
        &self,
        agent_id: &AgentId,
        incarnation: Incarnation,
        eviction: Eviction,
        grace: Duration,
    );
    /// Lets go of what the host holds for nobody and has no use for any more. Returns when it is gone, with how many
    /// bytes are still kept for the next agents outside the heap.
    fn tidy(&self) -> u64;
    /// Lets go of all that the host holds for nobody: memory is short, and somebody would have to go for it.
    /// Returns when it is gone, which takes milliseconds.
    fn release(&self);
    /// Whether nothing new may come, because others are ended for want of memory.
    fn hold_starts(&self, held: bool);
}

/// Acts on every reading.
#[derive(Debug)]
pub struct Guard {
    shedder: Shedder,
    sheds: bool,
    /// A guest waited at the last check as well, for more than there was. The first check after a growth only finds that out.
    starved: bool,
    /// When the host let go of what it held for nobody.
    released: Option<Duration>,
}

impl Guard {
    /// `sheds`: agents are ended when memory is short. Otherwise nothing is done at all.
    pub fn new(sheds: bool) -> Self {
        Self { shedder: Shedder::default(), sheds, starved: false, released: None }
    }

    /// Does what follows from a reading at `now`. Says whether the next check should come soon.
    pub fn act(&mut self, now: Duration, reading: &Reading, relief: &dyn Relief) -> bool {
        if !self.sheds {
            return false;
        }
        let (Some(limit), Some(used)) = (reading.limit, reading.used_bytes) else {
            // What was read before still holds best.
            relief.hold_starts(false);
            return false;
        };
        let mark = (limit.bytes as f64 * GROWTH_SHARE) as u64;
        // Another limit may be nearer: of a group above, or the machine's. It gets the same reserve.
        let elsewhere = reading.available_bytes.unwrap_or(u64::MAX);
        let room = mark.saturating_sub(used).min(elsewhere.saturating_sub(limit.bytes - mark));
        relief.give_room(Some(room));
        let wanted = relief.wanted();
        // One that would fit waits until it is seen what others did with their room.
        let is_short = wanted.is_some_and(|bytes| bytes > room);
        let starved = is_short && self.starved;
        self.starved = is_short;
        if reading.is_high() && self.may_release(now) {
            relief.release();
            // Nobody goes for what is gone now.
            return true;
        }
        let is_alive = |agent_id: &AgentId, incarnation| relief.is_alive(agent_id, incarnation);
        // For a shortage of another limit nobody goes.
        let beyond = (used + wanted.unwrap_or(0)).saturating_sub(mark);
        let tools = |bytes| relief.evict_tools(bytes);
        let step = self.shedder.step(now, reading, beyond, is_alive, tools, || relief.candidates());
        relief.hold_starts(matches!(step, Step::Wait | Step::Evict { .. }));
        match step {
            Step::Evict { agent_id, incarnation, eviction } => {
                let share = reading.used_share().unwrap_or_default();
                let hurry = wanted.is_some() || share >= GROWTH_SHARE;
                let grace = if hurry { Duration::ZERO } else { GRACE };
                relief.evict(&agent_id, incarnation, eviction, grace);
                true
            }
            Step::Wait => true,
            // Nobody goes for it, so it does not fit: the guest that wants more is refused, and no neighbour pays.
            Step::Calm | Step::Helpless => {
                if starved {
                    relief.deny_growths(room);
                }
                wanted.is_some() || reading.is_close()
            }
        }
    }

    fn may_release(&mut self, now: Duration) -> bool {
        let due = self.released.is_none_or(|at| now.saturating_sub(at) >= RELEASE_AGAIN);
        if due {
            self.released = Some(now);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use super::*;
    use crate::reading::{Limit, LimitSource};

    #[derive(Default)]
    struct Agents {
        wanted: Option<u64>,
        has_tool: bool,
        actions: Mutex<Vec<String>>,
    }

    impl Agents {
        fn note(&self, text: String) {
            self.actions.lock().push(text);
        }
    }

    impl Relief for Agents {
        fn give_room(&self, bytes: Option<u64>) {
            self.note(format!("room {bytes:?}"));
        }
        fn wanted(&self) -> Option<u64> {
            self.wanted
        }
        fn deny_growths(&self, above: u64) {
            self.note(format!("denied above {above}"));
        }
        fn evict_tools(&self, bytes: u64) -> bool {
            if self.has_tool {
                self.note(format!("evicted tools of {bytes}"));
            }
            self.has_tool
        }
        fn is_alive(&self, _agent_id: &AgentId, _incarnation: Incarnation) -> bool {
            true
        }
        fn candidates(&self) -> Vec<Candidate> {
            vec![Candidate {
                agent_id: AgentId::parse("a").unwrap(),
                incarnation: Incarnation(7),
                used_bytes: 50,
                limit_bytes: 100,
                weight: 1.0,
                idle: false,
                mayor: false,
            }]
        }
        fn evict(
            &self,
            agent_id: &AgentId,
            number: Incarnation,
            _eviction: Eviction,
            grace: Duration,
        ) {
            self.note(format!("evict {agent_id} {} {grace:?}", number.0));
        }
        fn tidy(&self) -> u64 {
            0
        }
        fn release(&self) {
            self.note("release".to_owned());
        }
        fn hold_starts(&self, held: bool) {
            self.note(format!("held {held}"));
        }
    }

    fn act(agents: &Agents, used: u64) -> (bool, Vec<String>) {
        let reading = Reading {
            limit: Some(Limit { bytes: 1000, source: LimitSource::Budget }),
            used_bytes: Some(used),
            ..Reading::default()
        };
        let mut guard = Guard { released: Some(Duration::ZERO), ..Guard::new(true) };
        let soon = guard.act(Duration::ZERO, &reading, agents);
        (soon, std::mem::take(&mut agents.actions.lock()))
    }

    #[test]
    fn what_the_host_holds_for_nobody_goes_before_anybody_has_to() {
        let agents = Agents::default();
        let mut guard = Guard::new(true);
        let mut act = |seconds, used| {
            let limit = Some(Limit { bytes: 1000, source: LimitSource::Budget });
            let reading = Reading { limit, used_bytes: Some(used), ..Reading::default() };
            assert!(guard.act(Duration::from_secs(seconds), &reading, &agents), "looks again soon");
            std::mem::take(&mut *agents.actions.lock()).pop().unwrap()
        };
        assert_eq!(act(0, 899), "held false");
        assert_eq!(act(1, 900), "release");
        assert_eq!(act(2, 850), "held false", "that was enough");
        assert_eq!(act(3, 900), "evict a 7 1s", "there cannot be more yet");
        assert_eq!(act(9, 900), "release");
    }

    #[test]
    fn with_enough_memory_there_is_only_room() {
        let agents = Agents::default();
        let actions = ["room Some(450)".to_owned(), "held false".to_owned()];
        assert_eq!(act(&agents, 500), (false, actions.to_vec()));
        assert!(act(&agents, 800).0, "close enough to look again soon");
    }

    #[test]
    fn nobody_gets_room_that_another_limit_does_not_have() {
        let room = |available_bytes| {
            let reading = Reading {
                limit: Some(Limit { bytes: 1000, source: LimitSource::Cgroup2 }),
                used_bytes: Some(500),
                available_bytes,
                ..Reading::default()
            };
            let agents = Agents::default();
            Guard::new(true).act(Duration::ZERO, &reading, &agents);
            agents.actions.into_inner().swap_remove(0)
        };
        assert_eq!(room(None), "room Some(450)");
        assert_eq!(room(Some(500)), "room Some(450)", "its own");
        // A group above it, or the machine, which others fill as well.
        assert_eq!(room(Some(70)), "room Some(20)");
        assert_eq!(room(Some(40)), "room Some(0)");
    }

    #[test]
    fn who_wants_more_than_another_limit_has_is_denied_and_nobody_goes_for_it() {
        let agents = Agents { wanted: Some(100), ..Agents::default() };
        for used_bytes in [Some(500), Some(850)] {
            let reading = Reading {
                limit: Some(Limit { bytes: 1000, source: LimitSource::Cgroup2 }),
                used_bytes,
                available_bytes: Some(40),
                ..Reading::default()
            };
            let mut guard = Guard::new(true);
            guard.act(Duration::ZERO, &reading, &agents);
            guard.act(Duration::ZERO, &reading, &agents);
            let actions = std::mem::take(&mut *agents.actions.lock());
            assert_eq!(actions.last().unwrap(), "denied above 0", "{actions:?}");
            assert!(!actions.iter().any(|it| it.starts_with("evict")), "{actions:?}");
        }
    }

    #[test]
    fn an_eviction_has_a_grace_unless_somebody_waits_for_it() {
        let last = |agents: &Agents, used| act(agents, used).1.pop().unwrap();
        assert_eq!(last(&Agents::default(), 900), "evict a 7 1s");
        assert_eq!(last(&Agents::default(), 950), "evict a 7 0ns");
        assert_eq!(last(&Agents { wanted: Some(9), ..Agents::default() }, 900), "evict a 7 0ns");
    }

    #[test]
    fn a_growth_that_does_not_fit_is_denied_and_no_neighbour_pays_for_it() {
        let agents = Agents { wanted: Some(500), ..Agents::default() };
        let reading = Reading {
            limit: Some(Limit { bytes: 1000, source: LimitSource::Budget }),
            used_bytes: Some(500),
            ..Reading::default()
        };
        let mut guard = Guard::new(true);
        assert!(guard.act(Duration::ZERO, &reading, &agents), "the next check acts");
        assert!(guard.act(Duration::ZERO, &reading, &agents));
        let actions = agents.actions.lock();
        assert_eq!(actions.last().unwrap(), "denied above 450");
        assert!(!actions.iter().any(|actions| actions.starts_with("evict")));
    }

    #[test]
    fn a_growth_that_fits_is_never_denied() {
        let agents = Agents { wanted: Some(450), ..Agents::default() };
        for _ in 0..3 {
            let (soon, actions) = act(&agents, 500);
            assert!(soon, "it is served when it is seen what others took");
            assert_eq!(actions, ["room Some(450)", "held false"]);
        }
    }

    #[test]
    fn a_look_that_sees_nothing_opens_nothing() {
        let agents = Agents::default();
        assert!(!Guard::new(true).act(Duration::ZERO, &Reading::default(), &agents));
        assert_eq!(*agents.actions.lock(), ["held false"]);
    }

    #[test]
    fn a_program_with_much_memory_goes_before_any_agent() {
        let reading = |used: u64| Reading {
            limit: Some(Limit { bytes: 1000, source: LimitSource::Budget }),
            used_bytes: Some(used),
            ..Reading::default()
        };
        let agents = Agents { has_tool: true, ..Agents::default() };
        let mut guard = Guard::new(true);
        // At first what is held for nobody goes.
        for second in 0..3 {
            assert!(guard.act(Duration::from_secs(second), &reading(950), &agents));
        }
        let actions = std::mem::take(&mut *agents.actions.lock());
        let evicted = |actions: &[String]| {
            actions.iter().filter(|it| it.starts_with("evicted tools")).count()
        };
        assert_eq!(evicted(&actions), 2, "{actions:?}");
        assert!(!actions.iter().any(|it| it.starts_with("evict ")), "{actions:?}");
        // And until there is enough again, as with agents.
        guard.act(Duration::from_secs(3), &reading(850), &agents);
        assert_eq!(evicted(&std::mem::take(&mut *agents.actions.lock())), 1);
        guard.act(Duration::from_secs(4), &reading(500), &agents);
        assert_eq!(evicted(&agents.actions.lock()), 0, "not where memory is not short");
    }

    #[test]
    fn one_that_does_not_shed_does_nothing() {
        let agents = Agents { wanted: Some(1), ..Agents::default() };
        assert!(!Guard::new(false).act(Duration::ZERO, &Reading::default(), &agents));
        assert_eq!(agents.actions.lock().len(), 0);
    }
}
