//! Words about native programs that agents run.

use bulkhead_types::event::ToolExited;
use bulkhead_types::{Event, ToolEnd};

use super::ms;
use crate::words::bytes;

/// How it ended: a verb and what belongs to it. Of another event nothing.
pub(super) fn ended(event: &Event) -> String {
    let Event::ToolExited(ToolExited {
        end,
        code,
        signal,
        wall_ms,
        cpu_ms,
        peak_memory_bytes,
        output_bytes,
        ..
    }) = event
    else {
        return String::new();
    };
    let took = ms(*wall_ms);
    match end {
        ToolEnd::Exited => format!("returned {} after {took}", code.unwrap_or_default()),
        ToolEnd::Signalled => format!("died of signal {} after {took}", signal.unwrap_or_default()),
        ToolEnd::WallDeadline => format!("was ended: {took} are over"),
        ToolEnd::CpuDeadline => format!("was ended: it used {} of CPU time", ms(*cpu_ms)),
        ToolEnd::MemoryLimit => {
            format!(
                "was ended: it wanted more memory than it may have ({})",
                bytes(*peak_memory_bytes)
            )
        }
        ToolEnd::OutputLimit => format!("was ended: it wrote {}", bytes(*output_bytes)),
        ToolEnd::PidsLimit => "failed: it wanted more processes than it may have".to_owned(),
        ToolEnd::WorkspaceLimit => "was ended: the workspace is full".to_owned(),
        ToolEnd::Cancelled => format!("was cancelled after {took}"),
        ToolEnd::Evicted => {
            format!("was ended with {} because memory is short", bytes(*peak_memory_bytes))
        }
        ToolEnd::Lost => "was lost: what runs programs died".to_owned(),
    }
}
