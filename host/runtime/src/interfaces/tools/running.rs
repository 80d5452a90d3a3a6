//! A program that runs.

use std::sync::Arc;

use bulkhead_telemetry::{ProgramEnd, ProgramSpan};
use bulkhead_tools::{Child, End, Ended, Finished, Handle, KillReason, Usage};
use bulkhead_types::time::millis;
use bulkhead_types::{EndedTool, HostKind, RunningTool, ToolEnd};
use parking_lot::Mutex;
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream};

use super::streams::{Reader, Writer};
use crate::bindings::bulkhead::agent::tools as wit;
use crate::descriptors::Taken;
use crate::interfaces::http::UnderWay;
use crate::meter::Meter;
use crate::port::{Port, ToolProcess};

/// What a program takes from its agent while it runs.
pub(super) struct Place {
    pub _under_way: UnderWay,
    pub _pipes: Taken,
}

/// A program as its agent has it. Dropping it kills it.
pub struct Running {
    child: Child,
    meter: Arc<Meter>,
    ended: Option<Ended>,
    _place: Place,
}

impl Running {
    pub(super) fn new(child: Child, place: Place, meter: Arc<Meter>) -> Self {
        Self { child, meter, ended: None, _place: place }
    }

    pub(super) fn take_stdin(&mut self) -> Option<DynOutputStream> {
        self.child.stdin.take().map(|pipe| Box::new(Writer::new(pipe)) as DynOutputStream)
    }

    pub(super) fn take_stdout(&mut self) -> Option<DynInputStream> {
        self.child.stdout.take().map(|output| Box::new(Reader::new(output)) as DynInputStream)
    }

    pub(super) fn take_stderr(&mut self) -> Option<DynInputStream> {
        self.child.stderr.take().map(|output| Box::new(Reader::new(output)) as DynInputStream)
    }

    /// Waits for its end. Nobody reads meanwhile what it writes.
    pub(super) async fn wait(&mut self) -> wit::Ended {
        let ended = match &self.ended {
            Some(ended) => ended.clone(),
            None => self.child.wait().await,
        };
        let answer = wit::Ended { end: end(ended.end), usage: usage(&ended.usage) };
        self.ended = Some(ended);
        answer
    }

    pub(super) fn kill(&self) {
        self.child.kill(KillReason::Cancelled);
    }

    /// Feeds it, reads what it writes as far as the agent has memory for it, and waits for its end.
    pub(super) async fn finish(self, stdin: Vec<u8>) -> wit::Finished {
        let held = Mutex::new(self.meter.memory().account().nothing(HostKind::Tools));
        let admit = |bytes: usize| {
            let mut held = held.lock();
            held.grow(bytes as u64).is_ok()
        };
        let Finished { ended, stdout, stderr, .. } = self.child.finish(&stdin, admit).await;
        wit::Finished { end: end(ended.end), usage: usage(&ended.usage), stdout, stderr }
    }
}

/// Tells the agent's host of a program: that it runs, and how it ended.
pub(super) fn report(port: &Arc<dyn Port>, tool: RunningTool, span: ProgramSpan, child: &Child) {
    let (number, program, hears) = (tool.tool, tool.program.clone(), Arc::clone(port));
    port.tool_started(tool, Arc::new(Process(child.handle())));
    child.on_end(move |Ended { end, usage }| {
        let (end, code, signal) = kind(end);
        let is_error = code != Some(0);
        span.end(ProgramEnd {
            code,
            cpu_ms: millis(usage.cpu),
            peak_memory_bytes: usage.peak_memory_bytes,
            error: is_error.then_some(end.as_str()),
        });
        hears.tool_ended(EndedTool {
            tool: number,
            program,
            end,
            code,
            signal,
            wall: usage.wall,
            cpu: usage.cpu,
            peak_memory_bytes: usage.peak_memory_bytes,
            output_bytes: usage.stdout_bytes + usage.stderr_bytes,
        });
    });
}

/// A program as the rest of the host has it.
struct Process(Handle);

impl ToolProcess for Process {
    fn memory_bytes(&self) -> Option<u64> {
        self.0.memory_bytes()
    }

    fn evict(&self) {
        self.0.kill(KillReason::Shed);
    }

    fn cancel(&self) {
        self.0.kill(KillReason::Cancelled);
    }
}

pub(super) fn kind(end: End) -> (ToolEnd, Option<i32>, Option<i32>) {
    let kind = match end {
        End::Exited(code) => return (ToolEnd::Exited, Some(code), None),
        End::Signalled(signal) => return (ToolEnd::Signalled, None, Some(signal)),
        End::WallDeadline => ToolEnd::WallDeadline,
        End::CpuDeadline => ToolEnd::CpuDeadline,
        End::MemoryLimit => ToolEnd::MemoryLimit,
        End::OutputLimit => ToolEnd::OutputLimit,
        End::PidsLimit => ToolEnd::PidsLimit,
        End::DiskLimit => ToolEnd::WorkspaceLimit,
        End::Cancelled => ToolEnd::Cancelled,
        End::Shed => ToolEnd::Evicted,
        End::LauncherDied => ToolEnd::Lost,
    };
    (kind, None, None)
}

fn end(end: End) -> wit::End {
    match end {
        End::Exited(code) => wit::End::Exited(byte(code)),
        End::Signalled(signal) => wit::End::Signalled(byte(signal)),
        End::WallDeadline => wit::End::WallDeadline,
        End::CpuDeadline => wit::End::CpuDeadline,
        End::MemoryLimit => wit::End::MemoryLimit,
        End::OutputLimit => wit::End::OutputLimit,
        End::PidsLimit => wit::End::PidsLimit,
        End::DiskLimit => wit::End::WorkspaceLimit,
        End::Cancelled => wit::End::Cancelled,
        End::Shed => wit::End::Evicted,
        End::LauncherDied => wit::End::Lost,
    }
}

fn usage(usage: &Usage) -> wit::Usage {
    wit::Usage {
        wall_ms: millis(usage.wall),
        cpu_ms: millis(usage.cpu),
        peak_memory_bytes: usage.peak_memory_bytes,
        output_bytes: usage.stdout_bytes + usage.stderr_bytes,
    }
}

/// Codes and signals fit into one.
fn byte(number: i32) -> u8 {
    u8::try_from(number).unwrap_or(u8::MAX)
}
