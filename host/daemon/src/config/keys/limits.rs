//! `[limits]`, `[memory]` and `[budget]`: of the container as a whole.

use super::super::words::number;
use super::{Key, derived, key};

pub const LIMITS: &[Key] = &[
    key(
        "max_agents",
        "1000",
        "maximum number of live agents. [Limits of the system](#how-many-agents-fit) may lower it. A start above it gets \
         503 with the figures",
    ),
    key(
        "memory_pool",
        "true",
        "agents get their memory from a [pool](#the-memory-pool) that is reserved at boot, where the address space has \
         room for it. `false`: by `mmap` for each agent, which makes starts and calls slower",
    ),
    key("max_agent_memory_mb", "1024", "largest memory limit that a role or a start request may set"),
    derived(
        "agent_memory_mb",
        "64, for agents in Python 96, or `max_agent_memory_mb` where that is less",
        "memory limit of an agent when neither its role nor its start request sets one. The default for Python has the 30 MB \
         of the interpreter's own, which agents share and which count for each",
    ),
    key("agent_memory_soft_percent", "80", "soft memory mark of a role that sets none, 1 to 100"),
    key(
        "agent_cpu_max_percent",
        "100",
        "percent of one core that an agent may use over time when its role sets none, 1 to 100. 100: no bound",
    ),
    key(
        "fast_lane_memory_mb",
        "32",
        "threads of low priority serve an agent with more linear memory than this, because nothing can interrupt a bulk \
         memory operation. CPU use has the same effect: above 3 ms an agent moves to such threads. It moves back after \
         sleeping twenty times what exceeds 1.5 ms, at most two seconds. On an idle machine this makes no difference",
    ),
    key("component_mb", "64", "largest component file"),
    key(
        "component_functions",
        "500000",
        "maximum number of functions with a body, in all core modules of a component. It is checked before compilation. A \
         start above it gets 422 `component-too-complex` with the number. A JavaScript engine of 12 MB has 12,716",
    ),
    key(
        "component_function_kb",
        "1024",
        "largest function body in KiB, checked like the number. Compile time grows faster than function size. The same \
         engine has one of 168 KiB",
    ),
    key(
        "component_instances",
        "256",
        "maximum number of core module instances of a component, nested ones included. It is checked before compilation, \
         like the next two. A start above it gets 422 `component-does-not-fit` with the number. The engine's memory for \
         them above 64 KiB counts as memory of the agent",
    ),
    key(
        "component_memories",
        "16",
        "maximum number of linear memories of a component. Each slot of the pool has room for those of the largest \
         configured component; a larger one reduces the number of slots",
    ),
    key("component_tables", "64", "maximum number of tables of a component"),
    key("keep_ended", "1000", "number of ended agents that stay readable"),
    key(
        "ended_mb",
        "16",
        "maximum memory for all ended agents together: their events, their specs, and 8 KiB each for other data. See \
         [Ended agents](#ended-agents)",
    ),
    key(
        "shutdown_ms",
        "20000",
        "the final part of `drain_ms`, in which agents are asked to stop, each with its role's grace period. Afterwards \
         they are killed. Of a larger one as much as `drain_ms` counts",
    ),
    key(
        "drain_ms",
        "300000",
        "time for the whole shutdown after SIGTERM, `shutdown_ms` included. Keep it below the platform's grace period. \
         `container.cold_start` logs the effective value as `drainMs`",
    )
    .text("BULKHEAD_DRAIN_MS", |file, text| {
        file.limits.drain_ms = number(&text)?;
        Ok(())
    }),
    key(
        "hydration_parallel",
        "32",
        "number of agents that are restarted concurrently at boot. A start slower than one second stops counting against it",
    ),
    key(
        "hydration_ms",
        "10000",
        "how long `/readyz` waits for agents that are restarted at boot. At most a third of it is for the town's registry. \
         Slower starts continue, each within its role's `start_ms`",
    ),
    key(
        "compile_ms",
        "600000",
        "how long a start waits for its component to be read and compiled. This does not count against the role's \
         `start_ms`. Compilation stops when no start waits for it any more. `bulkhead check` and `bulkhead compile` fill \
         the cache beforehand",
    ),
    key(
        "compile_cpu_ms",
        "300000",
        "CPU time for compiling one component, over all threads, 1000 to 86400000. It is rounded up to whole seconds \
         (`RLIMIT_CPU`)",
    ),
    derived(
        "compile_memory_mb",
        "half of the container's memory, 192 to 2048",
        "address space that a compiler may add, 64 to 1048576 (`RLIMIT_AS`). The JavaScript engine needs 375 MB. \
         `memory.budget_mb` counts as the container's memory where it is less",
    ),
];

pub const MEMORY: &[Key] = &[
    derived(
        "budget_mb",
        "none",
        "memory limit of the host, when it is below the kernel's. It applies to the use of this process; the kernel's \
         limits apply to the use of their cgroup",
    ),
    key(
        "sample_ms",
        "5000",
        "interval between memory samples of all agents, 100 to 600000. `GET /memory` and `GET /agents/{id}/memory` keep the \
         last 120 samples, and the maximum of every 12 samples for the last 180 such groups",
    ),
    key("report_ms", "30000", "interval between `container.memory_usage` lines, 100 to 600000"),
    key("reserve_mb", "64", "part of the limit reserved for the host, unless it uses more"),
    key(
        "overcommit",
        "10",
        "how many times the remaining memory may be committed, 1 to 1000. A start is refused with 503 when the memory \
         limits of all agents, its own included, would exceed that. Most agents stay far below their limit",
    ),
    key(
        "shed",
        "true",
        "near the limit agents are evicted one by one, so that the kernel does not kill all of them together",
    ),
];

pub const BUDGET: &[Key] = &[
    derived(
        "tokens_per_minute",
        "none",
        "tokens read and written within the last minute. 0, here and below: nothing is allowed",
    ),
    derived("tokens_per_day", "none", "tokens read and written on one day in UTC"),
    derived(
        "tokens_per_message",
        "none",
        "tokens read and written by one agent for one message, in all its turns",
    ),
    derived(
        "calls_per_turn",
        "none",
        "calls that one agent begins in one turn, also those that fail",
    ),
    derived(
        "cost_per_day",
        "none",
        "cost on one day in UTC, in the unit of the prices of `[models.NAME]`",
    ),
    key(
        "on_exceeded",
        r#""refuse""#,
        "what follows when a budget is used up, of roles that do not say. `refuse`: the agent gets `budget-exceeded` and \
         goes on. `end`: the same, and the agent ends as `budget_exceeded`",
    ),
];
