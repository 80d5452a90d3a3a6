//! What a world has.

/// Units of a clock that a TTL has. They stand for anything.
pub const TTL: u64 = 1000;

/// One world. Time goes by in ticks, without end. Between two ticks each process may do all that it can, some of it, or
/// nothing: a process that does nothing for some ticks is frozen.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// How many units the clock of each process goes on in a tick. As many as there are processes.
    pub speeds: Vec<u64>,
    /// By how many units the clock of each process is ahead of the clock of one that is right.
    pub ahead: Vec<u64>,
    /// Acquisitions. A world ends where one more begins.
    pub epochs: u64,
    /// How many requests or answers may be lost, or be too late for who waits for them.
    pub losses: u8,
    /// How many times a process may give the lease back.
    pub releases: u8,
    /// How many times a process that asks for the lease may crash, and begin again, while the work that it has permitted
    /// goes on.
    pub crashes: u8,
    /// Whether somebody receives what holders send.
    pub receives: bool,
    /// Whether the register compares before it swaps.
    pub compares: bool,
}

/// Two processes, of which the second one's clock is the faster one, by nearly what the margin allows.
pub fn two() -> Scenario {
    Scenario {
        speeds: vec![330, 338],
        ahead: vec![0, 0],
        epochs: 2,
        losses: 0,
        releases: 0,
        crashes: 0,
        receives: false,
        compares: true,
    }
}

/// The same with five ticks in a TTL, and so with a try to renew at each of two.
pub fn fine() -> Scenario {
    Scenario { speeds: vec![196, 204], ..two() }
}
