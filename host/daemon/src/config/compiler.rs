//! How components are compiled, and what they may be made of.

use bulkhead_runtime::{CodeBounds, CompileConfig, CompilerProgram, InstanceBounds};

use super::file::{CompileMebibytes, CompileMillis, Count, Limits};

/// Of the container's memory, what one compile may take: one in so many.
const COMPILE_MEMORY_PART: u64 = 2;

/// What one may take however little memory there is, in bytes: a small component takes a third of it.
const COMPILE_MEMORY_LEAST: u64 = 192 * 1024 * 1024;

/// How components are compiled: each in a process that is this program.
pub fn check(limits: &Limits) -> CompileConfig {
    let default = CompileConfig { program: Some(this_program()), ..CompileConfig::default() };
    let functions = limits.component_functions.map(|functions| functions.0);
    let function_bytes = limits.component_function_kb.map(|kb| kb.0 * 1024);
    CompileConfig {
        cpu: limits.compile_cpu_ms.map_or(default.cpu, CompileMillis::millis),
        memory_bytes: limits
            .compile_memory_mb
            .map_or(default.memory_bytes, CompileMebibytes::mebibytes),
        bounds: CodeBounds {
            functions: functions.unwrap_or(default.bounds.functions),
            function_bytes: function_bytes.unwrap_or(default.bounds.function_bytes),
        },
        ..default
    }
}

/// What an instance of a component may be made of.
pub fn instance_bounds(limits: &Limits) -> InstanceBounds {
    let default = InstanceBounds::default();
    let bound = |configured: Option<Count>, default| {
        configured.map_or(default, |count| u32::try_from(count.0).unwrap_or(u32::MAX))
    };
    InstanceBounds {
        instances: bound(limits.component_instances, default.instances),
        memories: bound(limits.component_memories, default.memories),
        tables: bound(limits.component_tables, default.tables),
    }
}

/// This very program, whatever became of its file since, as one that compiles a component.
fn this_program() -> CompilerProgram {
    CompilerProgram { path: "/proc/self/exe".into(), args: vec!["compile-component".into()] }
}

/// What one compile may take in a container with this much memory, when the configuration does not say it.
pub fn fit_into(compiler: &mut CompileConfig, limit_bytes: Option<u64>) {
    let Some(limit) = limit_bytes else { return };
    let most = compiler.memory_bytes;
    compiler.memory_bytes = (limit / COMPILE_MEMORY_PART).max(COMPILE_MEMORY_LEAST).min(most);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_compile_may_take_half_of_the_container_within_bounds() {
        const MIB: u64 = 1024 * 1024;
        let in_container = |mib: Option<u64>| {
            let mut compiler = check(&Limits::default());
            fit_into(&mut compiler, mib.map(|mib| mib * MIB));
            compiler.memory_bytes / MIB
        };
        let sizes = [None, Some(64), Some(512), Some(1024), Some(100_000)];
        assert_eq!(sizes.map(in_container), [2048, 192, 256, 512, 2048]);
    }
}
