//! What happens to one slot at the same time.

use bulkhead_types::IfRunning;

/// One thing that somebody does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// A start.
    Start {
        /// Starts of the same number ask for the same agent.
        spec: u8,
        /// How its actor fares.
        fate: Fate,
        /// What becomes of an incarnation that is up.
        if_running: IfRunning,
    },
    /// A stop.
    Stop,
    /// The container goes away.
    Drain,
}

/// How an actor fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Fate {
    /// Its component does not load.
    pub load_fails: bool,
    /// Its start gives up while it waits for the turn.
    pub impatient: bool,
    /// It dies in its guest's `start`, once for each.
    pub start_crashes: u8,
    /// It dies at work, once for each. Then it works until it is asked to end.
    pub crashes: u8,
}

/// Actors that do their steps one after the other, all at the same time. A slot that holds an agent that
/// nobody stops is stopped at the end.
#[derive(Debug, Clone, Default)]
pub struct Scenario {
    /// Done, and answered, before the others begin.
    pub first: Vec<Step>,
    /// One list for each actor.
    pub then: Vec<Vec<Step>>,
    /// The slot has to be vacant after these, without a stop at the end.
    pub ends_by_itself: bool,
}

/// A start that fares well.
pub fn start(spec: u8) -> Step {
    Step::Start { spec, fate: Fate::default(), if_running: IfRunning::Join }
}

/// A start whose actor dies so often at work and is restarted.
pub fn crashing(spec: u8, crashes: u8) -> Step {
    let fate = Fate { crashes, ..Fate::default() };
    Step::Start { spec, fate, if_running: IfRunning::Join }
}
