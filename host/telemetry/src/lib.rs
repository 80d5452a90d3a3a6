//! Traces of what agents do, by OpenTelemetry's conventions for generative AI, sent to a collector by OTLP.
//!
//! ```text
//!   turn, model call, tool ─▶ span ─▶ queue (bounded) ─▶ thread `bulkhead-telemetry` ─▶ collector
//! ```
//!
//! - [`Settings`]: what OpenTelemetry's variables say; off unless they name a collector
//! - [`Telemetry`]: makes spans, and sends them
//! - [`TurnSpan`], [`TurnScope`], [`CurrentTurn`], [`ChatSpan`]: what is recorded; empty when it is off
//! - [`TraceContext`]: the trace of a request, from HTTP headers and into them
//!
//! Callers that end a span wait for nobody: what finds no room is dropped and counted ([`Figures`]).

mod conventions;
mod exporter;
mod queue;
mod settings;
mod span;
mod telemetry;
mod trace_context;
mod transport;
mod worker;

pub use conventions::Conventions;
pub use queue::Figures;
pub use settings::{Error, Settings};
pub use span::{
    Answered, Chat, ChatSpan, CurrentTurn, Delivery, ProgramEnd, ProgramSpan, Turn, TurnScope,
    TurnSpan,
};
pub use telemetry::Telemetry;
pub use trace_context::TraceContext;

#[cfg(test)]
mod tests;
