//! The names that spans and their attributes have.
//!
//! OpenTelemetry's conventions for generative AI are in development: names change between versions. What is written
//! follows one of two.

/// Which version of the conventions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Conventions {
    /// Semantic conventions 1.36.0, what instrumentations write unless told otherwise.
    #[default]
    V1_36,
    /// Those for generative AI 0.1.0, as of October 2026.
    Latest,
}

impl Conventions {
    pub(crate) fn provider(self) -> &'static str {
        match self {
            Self::V1_36 => "gen_ai.system",
            Self::Latest => "gen_ai.provider.name",
        }
    }
}

pub(crate) const OPERATION: &str = "gen_ai.operation.name";
pub(crate) const AGENT_ID: &str = "gen_ai.agent.id";
pub(crate) const AGENT_NAME: &str = "gen_ai.agent.name";
pub(crate) const MODEL: &str = "gen_ai.request.model";
pub(crate) const MAX_TOKENS: &str = "gen_ai.request.max_tokens";
pub(crate) const TEMPERATURE: &str = "gen_ai.request.temperature";
pub(crate) const FINISH_REASONS: &str = "gen_ai.response.finish_reasons";
pub(crate) const INPUT_TOKENS: &str = "gen_ai.usage.input_tokens";
pub(crate) const OUTPUT_TOKENS: &str = "gen_ai.usage.output_tokens";
/// Since after 1.36.
pub(crate) const CACHED_TOKENS: &str = "gen_ai.usage.cache_read.input_tokens";
/// Since after 1.36.
pub(crate) const REASONING_TOKENS: &str = "gen_ai.usage.reasoning.output_tokens";
/// Since after 1.36, where messages were events.
pub(crate) const INPUT_MESSAGES: &str = "gen_ai.input.messages";
/// Since after 1.36.
pub(crate) const OUTPUT_MESSAGES: &str = "gen_ai.output.messages";
pub(crate) const TOOL_NAME: &str = "gen_ai.tool.name";
pub(crate) const TOOL_CALL_ID: &str = "gen_ai.tool.call.id";
pub(crate) const TOOL_TYPE: &str = "gen_ai.tool.type";
pub(crate) const EXECUTABLE: &str = "process.executable.name";
pub(crate) const EXIT_CODE: &str = "process.exit.code";
pub(crate) const PROGRAM_CPU_MS: &str = "bulkhead.program.cpu_ms";
pub(crate) const PROGRAM_PEAK_BYTES: &str = "bulkhead.program.peak_memory_bytes";
pub(crate) const SERVER_ADDRESS: &str = "server.address";
pub(crate) const SERVER_PORT: &str = "server.port";
pub(crate) const ERROR_TYPE: &str = "error.type";
pub(crate) const ROLE: &str = "bulkhead.agent.role";
pub(crate) const INCARNATION: &str = "bulkhead.incarnation";
pub(crate) const MESSAGE_ID: &str = "bulkhead.message.id";
pub(crate) const ATTEMPT: &str = "bulkhead.message.attempt";
pub(crate) const OUTCOME: &str = "bulkhead.turn.outcome";
pub(crate) const ENDPOINT: &str = "bulkhead.model.endpoint";
pub(crate) const TRIES: &str = "bulkhead.model.tries";
