//! What a guest reaches through its host interface, as its agent sees it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bulkhead_account::AccountReading;
use bulkhead_feed::Delta;
use bulkhead_log::Budget;
use bulkhead_runtime::{ModelStep, Nudge, Port, PortError, ToolProcess};
use bulkhead_telemetry::CurrentTurn;
use bulkhead_types::event::{AgentTag, MemorySoftLimit, ToolExited, ToolStarted};
use bulkhead_types::time::millis;
use bulkhead_types::{
    AgentId, Body, EndedTool, Event, Exception, Level, ModelCall, RunningTool, Secret, Sender,
    Settings, SourceFrame,
};
use bulkhead_usage::Exhausted;
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::incarnation::StartContext;
use crate::model_use::ModelUse;
use crate::refusal::SendError;
use crate::state_publisher::StatePublisher;

/// Events and messages that an agent may send a second, with a burst of ten times as many.
const SENDS_PER_SECOND: u32 = 100;
const SEND_BURST: u32 = 10 * SENDS_PER_SECOND;

pub(crate) struct AgentPort {
    publisher: Arc<StatePublisher>,
    start: Arc<StartContext>,
    turn: CurrentTurn,
    budget: Mutex<Budget>,
    model_use: Arc<ModelUse>,
}

impl AgentPort {
    pub(crate) fn new(
        publisher: Arc<StatePublisher>,
        start: Arc<StartContext>,
        turn: CurrentTurn,
        model_use: Arc<ModelUse>,
    ) -> Self {
        let budget = Budget::new(SEND_BURST, SENDS_PER_SECOND, Instant::now());
        Self { publisher, start, turn, budget: Mutex::new(budget), model_use }
    }

    fn tag(&self) -> AgentTag {
        self.start.tag(&self.publisher)
    }

    fn record(&self, event: Event) {
        self.start.container.sink.record(event);
    }

    fn take_token(&self) -> Result<(), PortError> {
        let mut budget = self.budget.lock();
        budget
            .take(Instant::now())
            .map(drop)
            .map_err(|wait| PortError::RateLimited(millis(wait).saturating_add(1)))
    }
}

impl Port for AgentPort {
    fn emit(&self, name: &str, data: Box<RawValue>) -> Result<(), PortError> {
        self.take_token()?;
        self.publisher.touch();
        self.model_use.produced();
        self.start.ring.push(name, data);
        Ok(())
    }

    fn send(&self, agent_id: &str, body: Body) -> Result<String, PortError> {
        self.take_token()?;
        let to = AgentId::parse(agent_id).map_err(|error| PortError::Invalid(error.to_string()))?;
        let sender = Sender::Agent(self.start.spec.id.clone());
        let trace = self.turn.get().trace_context();
        let sent = self.start.container.peers.send(&to, sender, body, trace);
        let sent = sent.map_err(|error| match error {
            SendError::NoSuchAgent(id) => PortError::NotFound(id.to_string()),
            SendError::TooLarge { max_bytes, .. } => PortError::TooLarge(max_bytes as u64),
            refused => PortError::Unavailable(refused.to_string()),
        })?;
        self.model_use.produced();
        Ok(sent)
    }

    fn set_active_tools(&self, tools: Vec<String>) {
        self.publisher.set_active_tools(tools);
    }

    fn nudges(&self) -> Vec<Nudge> {
        self.start.mailbox.take_nudges()
    }

    fn log_line(
        &self,
        level: Level,
        stream: &'static str,
        message: String,
        fields: BTreeMap<String, String>,
        dropped: u64,
    ) {
        let agent = self.tag();
        let event = Event::AgentLog { agent, level, stream, dropped, message, fields };
        self.start.container.sink.record_for(event, &self.start.account);
    }

    fn unhandled_rejection(&self, exceptions: Vec<Exception>, dropped: u64) {
        let Some(thrown) = exceptions.first() else { return };
        let data = Rejection { message: thrown.summary(), frames: &thrown.frames };
        self.start.ring.push_value("agent.unhandled_rejection", &data);
        let event = Event::AgentUnhandledRejection {
            agent: self.tag(),
            message: data.message,
            exceptions,
            dropped,
        };
        self.start.container.sink.record_for(event, &self.start.account);
    }

    fn memory_soft_limit(&self, memory: &AccountReading) {
        self.record(Event::MemorySoftLimit(MemorySoftLimit {
            agent: self.tag(),
            used_bytes: memory.used_bytes(),
            host_bytes: memory.host.total(),
            soft_bytes: memory.soft_bytes,
            limit_bytes: memory.limit_bytes,
        }));
    }

    fn cpu_throttle_begins(&self, cpu_us: u64) {
        let cpu_max_percent = self.start.spec.limits.cpu_max_percent;
        self.record(Event::AgentCpuThrottled { agent: self.tag(), cpu_max_percent, cpu_us });
    }

    fn cpu_throttled(&self, waited: Duration) {
        self.start.container.context.counts().cpu_throttled(&self.start.spec.role, waited);
    }

    fn may_ask(&self, _endpoint: &str, _model: &str) -> Result<(), Exhausted> {
        self.model_use.may_ask()
    }

    fn asked(&self, call: ModelCall) {
        self.publisher.touch();
        self.model_use.asked(&call);
    }

    fn saw(&self, step: ModelStep<'_>) {
        if let ModelStep::ToolCall { name, arguments, .. } = step {
            self.model_use.saw_tool_call(name, arguments);
        }
        if self.start.spec.live_output {
            self.start.ring.say(|| delta(step));
        }
    }

    fn tool_started(&self, tool: RunningTool, process: Arc<dyn ToolProcess>) {
        self.publisher.touch();
        self.model_use.produced();
        self.start.container.tools.started();
        let event = Event::ToolStarted(ToolStarted {
            agent: self.tag(),
            tool: tool.tool,
            program: tool.program.clone(),
            arguments: tool.arguments.clone(),
        });
        self.publisher.tools().started(tool, process);
        self.start.container.sink.record_for(event, &self.start.account);
    }

    fn tool_ended(&self, tool: EndedTool) {
        self.publisher.touch();
        self.publisher.tools().ended(tool.tool);
        self.start.container.tools.ended(&tool);
        let event = Event::ToolExited(ToolExited {
            agent: self.tag(),
            tool: tool.tool,
            program: tool.program,
            end: tool.end,
            code: tool.code,
            signal: tool.signal,
            wall_ms: millis(tool.wall),
            cpu_ms: millis(tool.cpu),
            peak_memory_bytes: tool.peak_memory_bytes,
            output_bytes: tool.output_bytes,
        });
        self.start.container.sink.record_for(event, &self.start.account);
    }

    fn tools_abandoned(&self) {
        self.publisher.tools().close();
    }

    fn secret_used(&self, name: &str, to: &str) {
        let event = Event::SecretUsed {
            agent: self.tag(),
            secret: name.to_owned(),
            destination: to.to_owned(),
        };
        self.start.container.sink.record_for(event, &self.start.account);
    }

    fn settings(&self) -> Settings {
        let mut settings = self.start.settings.current();
        // Either count rises by itself, so the sum rises with every change of the whole.
        settings.revision += self.start.credentials.swaps();
        settings
    }

    fn live_value(&self, key: &str) -> Option<Secret> {
        let of_the_town = self.start.settings.town_value(key);
        of_the_town.or_else(|| self.start.credentials.get(key))
    }

    fn live_values(&self) -> BTreeMap<String, Secret> {
        let mut values = self.start.credentials.all();
        values.extend(self.start.settings.all_town_values());
        values
    }
}

/// An exception that nobody caught, for those who follow the agent.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Rejection<'a> {
    message: String,
    frames: &'a [SourceFrame],
}

/// Of the arguments of a tool, those who follow the agent see so many bytes.
const SHOWN_ARGUMENTS: usize = 1024;

fn delta(step: ModelStep<'_>) -> Delta {
    match step {
        ModelStep::Text(text) => Delta::Text(text.to_owned()),
        ModelStep::Reasoning(text) => Delta::Reasoning(text.to_owned()),
        ModelStep::ToolCall { id, name, arguments } => Delta::ToolBegin {
            id: id.to_owned(),
            name: name.to_owned(),
            arguments: arguments[..arguments.floor_char_boundary(SHOWN_ARGUMENTS)].to_owned(),
        },
        ModelStep::ToolResult { id } => Delta::ToolEnd { id: id.to_owned() },
    }
}
