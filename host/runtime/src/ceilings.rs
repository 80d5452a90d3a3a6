//! How many agents this process can hold, whatever is configured: what the system allows it of each thing that
//! an agent takes. Known at boot, so that the agent that is one too many gets an answer, and none fails in the
//! middle of its work.

use rustix::process::{Resource, getrlimit};

use crate::capacity::Allocator;

/// Mappings that one agent takes: two for its stack in the pool, four while it is active. Measured: 10,000
/// live agents make 61,076 mappings.
const MAPS_PER_AGENT: usize = 6;

/// Mappings that each further linear memory of an agent takes: its image, what it has grown to, and the rest.
const MAPS_PER_MEMORY: usize = 3;

/// Mappings left for the program, its libraries, its heap and its threads.
const MAPS_RESERVED: usize = 4096;

/// The kernel's default where `/proc/sys/vm/max_map_count` cannot be read.
const DEFAULT_MAX_MAP_COUNT: usize = 65_530;

/// Descriptors left for the host: its database, the log, the connections of its clients. Half of all where
/// there are few.
const FILES_RESERVED: usize = 512;

/// Descriptors for each agent beside those that it has from its context on: for what agents open, no matter which.
const OPENED_PER_AGENT: usize = 1;

/// Address space left for the heap, which reserves 64 MiB for each of up to eight arenas a core, and for the
/// stacks of threads.
const ADDRESS_RESERVED: u64 = 1280 * 1024 * 1024;

/// Address space of an agent beside its memories: its stack, its tables, what the engine keeps for it.
const ADDRESS_PER_AGENT: u64 = 4 * 1024 * 1024;

/// What one agent takes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PerAgent {
    /// Linear memories.
    pub memories: usize,
    /// Address space that each of them reserves, in bytes.
    pub memory_bytes: u64,
    /// File descriptors that it has from its context on.
    pub files: usize,
}

/// A bound on the number of agents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ceiling {
    pub agents: usize,
    /// The thing, its limit, and what an agent takes of it.
    pub reason: String,
}

/// All of them, with memories from `allocator`. What has no limit is not among them.
pub(crate) fn ceilings(agent: PerAgent, allocator: Allocator) -> Vec<Ceiling> {
    let max_map_count = read_max_map_count().unwrap_or(DEFAULT_MAX_MAP_COUNT);
    let mut ceilings = vec![maps(max_map_count, agent.memories)];
    ceilings.extend(getrlimit(Resource::Nofile).current.map(|limit| files(limit, agent.files)));
    if allocator == Allocator::OnDemand
        && let Some(limit) = getrlimit(Resource::As).current
    {
        ceilings.push(address_space(limit, read_address_space().unwrap_or(0), agent));
    }
    ceilings
}

fn maps(max_map_count: usize, memories: usize) -> Ceiling {
    let each = MAPS_PER_AGENT + memories.saturating_sub(1) * MAPS_PER_MEMORY;
    Ceiling {
        agents: max_map_count.saturating_sub(MAPS_RESERVED) / each,
        reason: format!("vm.max_map_count is {max_map_count}, and an agent takes {each} mappings"),
    }
}

fn files(limit: u64, each: usize) -> Ceiling {
    let (files, reserved) = files_and_reserve(limit);
    let each = each + OPENED_PER_AGENT;
    Ceiling {
        agents: (files - reserved) / each,
        reason: format!(
            "RLIMIT_NOFILE is {files}, the host keeps {reserved}, and an agent takes {each}"
        ),
    }
}

fn files_and_reserve(limit: u64) -> (usize, usize) {
    let files = usize::try_from(limit).unwrap_or(usize::MAX);
    (files, FILES_RESERVED.min(files / 2))
}

/// Descriptors for what guests open, all together, beside the host's and those that so many agents have from their
/// context on.
pub(crate) fn guest_files(agents: usize, each: usize) -> usize {
    let limit = getrlimit(Resource::Nofile).current;
    limit.map_or(usize::MAX, |limit| left_for_guests(limit, agents, each))
}

fn left_for_guests(limit: u64, agents: usize, each: usize) -> usize {
    let (files, reserved) = files_and_reserve(limit);
    (files - reserved).saturating_sub(agents.saturating_mul(each))
}

fn address_space(limit: u64, used: u64, agent: PerAgent) -> Ceiling {
    const MIB: u64 = 1024 * 1024;
    let each = agent.memory_bytes * agent.memories as u64 + ADDRESS_PER_AGENT;
    let left = limit.saturating_sub(used).saturating_sub(ADDRESS_RESERVED);
    Ceiling {
        agents: usize::try_from(left / each).unwrap_or(usize::MAX),
        reason: format!(
            "RLIMIT_AS is {} MiB, {} are used and {} kept for the host, and an agent takes {}",
            limit / MIB,
            used / MIB,
            ADDRESS_RESERVED / MIB,
            each / MIB
        ),
    }
}

fn read_max_map_count() -> Option<usize> {
    std::fs::read_to_string("/proc/sys/vm/max_map_count").ok()?.trim().parse().ok()
}

/// Address space of this process, in bytes.
pub(crate) fn read_address_space() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split_ascii_whitespace().next()?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_default_holds_ten_thousand_agents() {
        let fit = maps(DEFAULT_MAX_MAP_COUNT, 1).agents;
        assert!((10_000..11_000).contains(&fit), "{fit}");
        assert!(maps(DEFAULT_MAX_MAP_COUNT, 3).agents < fit * 6 / 11);
    }

    #[test]
    fn the_usual_limit_of_files_holds_some_hundred_agents_and_a_tiny_one_a_few() {
        assert_eq!(files(1024, 2).agents, 170);
        assert_eq!(files(100, 2).agents, 16);
        assert_eq!(files(1_048_576, 2).agents, 349_354);
    }

    #[test]
    fn what_guests_open_leaves_the_host_and_every_agent_their_part() {
        assert_eq!(left_for_guests(1024, 170, 2), 1024 - 512 - 340);
        assert_eq!(left_for_guests(1024, 10, 2), 1024 - 512 - 20);
        assert_eq!(left_for_guests(90, 15, 2), 15);
        assert_eq!(left_for_guests(3, 1, 2), 0);
    }

    #[test]
    fn address_space_is_divided_by_what_the_limits_of_agents_need() {
        let gib = 1 << 30;
        let agent = PerAgent { memories: 1, memory_bytes: 64 << 20, files: 2 };
        let ceiling = address_space(4 * gib, gib, agent);
        assert_eq!(ceiling.agents, (3072 - 1280) / 68);
        assert!(ceiling.reason.contains("RLIMIT_AS is 4096 MiB"), "{}", ceiling.reason);
        assert_eq!(address_space(gib, 2 * gib, agent).agents, 0);
        let large = PerAgent { memories: 2, memory_bytes: 1 << 30, files: 2 };
        assert_eq!(address_space(8 * gib, 0, large).agents, 3);
    }
}
