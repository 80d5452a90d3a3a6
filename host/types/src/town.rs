//! Figures of the town's client, for metrics.

/// The figures of the town's client at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TownFigures {
    /// Calls of this run by name and outcome: `ok` or a cause. Every name has its `ok`; other outcomes are
    /// there when they happened.
    pub calls: Vec<(&'static str, &'static str, u64)>,
    /// What waits to be reported, by what it is: `events`, `completions`, `nudges`, `snapshots`.
    pub waiting: Vec<(&'static str, u64)>,
    /// What was lost in this run, by what it is.
    pub dropped: Vec<(&'static str, u64)>,
    /// Calls about an agent that were given up in this run, by the name of the call. Only those above zero.
    pub given_up: Vec<(&'static str, u64)>,
    /// The town answers; also true before the first call.
    pub reachable: bool,
    /// A newer run has taken over the town.
    pub fenced: bool,
}
