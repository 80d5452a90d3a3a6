//! How many agents fit, and where their memory comes from.

/// Slots that a sweep holds at one time. The pool has so many more.
pub(crate) const SLOTS_AT_ONCE: u32 = 32;

/// How stores get their memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allocator {
    /// From a pool that was reserved at boot.
    Pooling,
    /// By `mmap` for each instance, because the address space has no room for the pool.
    OnDemand,
}

impl Allocator {
    /// The word for it in log lines.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pooling => "pooling",
            Self::OnDemand => "on_demand",
        }
    }
}

/// What the engine was built for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capacity {
    /// Live agents that fit.
    pub max_agents: usize,
    /// Largest memory of one agent, in bytes.
    pub max_agent_memory_bytes: u64,
    /// How they get their memory.
    pub allocator: Allocator,
    /// Sentences for the operator: what is not as it was configured, and why.
    pub notes: Vec<String>,
}
