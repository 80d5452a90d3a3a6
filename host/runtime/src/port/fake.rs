//! A port of the unit tests. Tests outside this crate have `Nobody` of `tests/engine-fixture`, which cannot serve here:
//! it implements the trait of the crate without its unit tests, and that is another trait.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bulkhead_account::AccountReading;
use bulkhead_types::{Body, EndedTool, Exception, Level, ModelCall, RunningTool, Secret, Settings};
use bulkhead_usage::Exhausted;
use serde_json::value::RawValue;

use super::{ModelStep, Nudge, Port, PortError, ToolProcess};

/// Keeps the lines that reach it, each with the number of those dropped before it.
#[derive(Default)]
pub(crate) struct FakePort {
    pub lines: Mutex<Vec<(String, u64)>>,
    pub settings: Settings,
    pub town: BTreeMap<String, Secret>,
}

impl Port for FakePort {
    fn emit(&self, _name: &str, _data: Box<RawValue>) -> Result<(), PortError> {
        Ok(())
    }
    fn send(&self, agent_id: &str, _body: Body) -> Result<String, PortError> {
        Err(PortError::NotFound(agent_id.to_owned()))
    }
    fn set_active_tools(&self, _tools: Vec<String>) {}
    fn nudges(&self) -> Vec<Nudge> {
        Vec::new()
    }
    fn log_line(
        &self,
        _level: Level,
        _stream: &'static str,
        message: String,
        _fields: BTreeMap<String, String>,
        dropped: u64,
    ) {
        self.lines.lock().unwrap().push((message, dropped));
    }
    fn unhandled_rejection(&self, _: Vec<Exception>, _: u64) {}
    fn memory_soft_limit(&self, _memory: &AccountReading) {}
    fn asked(&self, _: ModelCall) {}
    fn secret_used(&self, _: &str, _: &str) {}
    fn may_ask(&self, _: &str, _: &str) -> Result<(), Exhausted> {
        Ok(())
    }
    fn saw(&self, _: ModelStep<'_>) {}
    fn tool_started(&self, _: RunningTool, _: Arc<dyn ToolProcess>) {}
    fn tool_ended(&self, _: EndedTool) {}
    fn tools_abandoned(&self) {}
    fn settings(&self) -> Settings {
        self.settings.clone()
    }
    fn live_value(&self, key: &str) -> Option<Secret> {
        self.town.get(key).cloned()
    }
    fn live_values(&self) -> BTreeMap<String, Secret> {
        self.town.clone()
    }
}
