//! Names, descriptions and hints of the tools.

use rmcp::handler::server::wrapper::Parameters;
use rmcp::model::CallToolResult;
use rmcp::{tool, tool_router};

use super::arguments::{
    LogFiles, LogText, MessageTo, NewAgent, OneAgent, OneCrash, SomeAgents, SomeCrashes,
    SomeEvents, WhoseMemory, WhoseUsage,
};
use super::{Server, diagnosis};
use crate::result::result;

#[tool_router(vis = "pub(super)")]
impl Server {
    /// Lists agents.
    #[tool(
        description = "List the agents of the host: id, role, status (running, backoff, quarantined, ...), memory, and why \
                       those that are down ended.",
        annotations(title = "List agents", read_only_hint = true, open_world_hint = false)
    )]
    async fn list_agents(&self, Parameters(asked): Parameters<SomeAgents>) -> CallToolResult {
        result(self.agents(asked).await)
    }

    /// Shows one agent.
    #[tool(
        description = "Show all that the host knows of one agent: status, incarnation, mailbox, memory, use of models, \
                       restarts, last exit.",
        annotations(title = "Status of an agent", read_only_hint = true, open_world_hint = false)
    )]
    async fn agent_status(&self, Parameters(asked): Parameters<OneAgent>) -> CallToolResult {
        result(self.of_agent(&asked.agent, "status").await)
    }

    /// Explains an end.
    #[tool(
        description = "Explain in plain words why an agent died: reason and message of its last crash, the frames of its \
                       own code with file and line, memory, last log lines, what the host decided (restart, quarantine), \
                       and what to do next. Start here when an agent is down or restarts.",
        annotations(title = "Why did it die?", read_only_hint = true, open_world_hint = false)
    )]
    async fn why_did_it_die(&self, Parameters(asked): Parameters<OneAgent>) -> CallToolResult {
        result(self.autopsy(&asked.agent).await)
    }

    /// Shows a crash record.
    #[tool(
        description = "Show a whole crash record as JSON: all frames, memory samples, last log lines and events.",
        annotations(title = "Crash record", read_only_hint = true, open_world_hint = false)
    )]
    async fn crash_record(&self, Parameters(asked): Parameters<OneCrash>) -> CallToolResult {
        result(self.crash(&asked.crash_id).await)
    }

    /// Lists crash records.
    #[tool(
        description = "List crash records, newest first, also of earlier runs of the host: id, agent, reason, message, \
                       fingerprint (equal for one cause) and what was decided.",
        annotations(title = "List crashes", read_only_hint = true, open_world_hint = false)
    )]
    async fn list_crashes(&self, Parameters(asked): Parameters<SomeCrashes>) -> CallToolResult {
        result(self.crashes(asked).await)
    }

    /// Shows memory.
    #[tool(
        description = "Show the memory of the container or of one agent: use, limit, trend, and for the container pressure \
                       and the largest agents.",
        annotations(title = "Memory", read_only_hint = true, open_world_hint = false)
    )]
    async fn memory(&self, Parameters(asked): Parameters<WhoseMemory>) -> CallToolResult {
        result(self.memory_of(asked).await)
    }

    /// Shows events.
    #[tool(
        description = "Show events of an agent (turns, tools, what it published): the newest, or those after an id.",
        annotations(title = "Events of an agent", read_only_hint = true, open_world_hint = false)
    )]
    async fn events(&self, Parameters(asked): Parameters<SomeEvents>) -> CallToolResult {
        result(self.events_of(asked).await)
    }

    /// Shows the use of models.
    #[tool(
        description = "Show the use of language models by agent and model, with cost, and how much of each budget is used.",
        annotations(title = "Use of models", read_only_hint = true, open_world_hint = false)
    )]
    async fn usage(&self, Parameters(asked): Parameters<WhoseUsage>) -> CallToolResult {
        result(self.usage_of(asked).await)
    }

    /// Diagnoses a log.
    #[tool(
        description = "Explain from the text of a container's log, of this host or of the original container, why the \
                       container restarts.",
        annotations(title = "Diagnose a log", read_only_hint = true, open_world_hint = false)
    )]
    async fn diagnose_log(&self, Parameters(asked): Parameters<LogText>) -> CallToolResult {
        result(diagnosis::of_text(asked).await)
    }

    /// Diagnoses log files.
    #[tool(
        description = "Explain from log files on this machine, plain or gzip, why a container restarts.",
        annotations(title = "Diagnose log files", read_only_hint = true, open_world_hint = false)
    )]
    async fn diagnose_files(&self, Parameters(asked): Parameters<LogFiles>) -> CallToolResult {
        result(diagnosis::of_files(asked).await)
    }

    /// Sends a message.
    #[tool(
        description = "Send an agent a message and wait for the reply. What it does with it is up to the agent.",
        annotations(
            title = "Send a message",
            read_only_hint = false,
            destructive_hint = false,
            idempotent_hint = false,
            open_world_hint = true
        )
    )]
    async fn send_message(&self, Parameters(asked): Parameters<MessageTo>) -> CallToolResult {
        result(self.send(asked).await)
    }

    /// Starts an agent.
    #[tool(
        description = "Start an agent. One that is up is left alone, unless `if_running` says otherwise.",
        annotations(
            title = "Start an agent",
            read_only_hint = false,
            destructive_hint = true,
            idempotent_hint = false,
            open_world_hint = true
        )
    )]
    async fn start_agent(&self, Parameters(asked): Parameters<NewAgent>) -> CallToolResult {
        result(self.start(asked).await)
    }

    /// Stops an agent.
    #[tool(
        description = "Stop an agent. It is not restarted automatically.",
        annotations(
            title = "Stop an agent",
            read_only_hint = false,
            destructive_hint = true,
            idempotent_hint = true,
            open_world_hint = false
        )
    )]
    async fn stop_agent(&self, Parameters(asked): Parameters<OneAgent>) -> CallToolResult {
        result(self.stop(&asked.agent).await)
    }
}
