//! `bulkhead:agent/host`: what an agent may ask of its host.

use std::collections::BTreeMap;

use bulkhead_types::time::millis;
use bulkhead_types::{Level, message::MAX_BODY_BYTES};
use serde_json::value::RawValue;
use wasmtime::Result;

use crate::bindings::bulkhead::agent::agent_types;
use crate::bindings::bulkhead::agent::host::{
    AgentSettings, Event, Host, HostError, Level as GuestLevel, MemoryUsage, Nudge,
};
use crate::interfaces::exceptions;
use crate::interrupt::HostFault;
use crate::port::PortError;
use crate::source_maps;
use crate::state::{State, is_the_hosts};

const MAX_EVENT_NAME_BYTES: usize = 64;
const MAX_EVENT_DATA_BYTES: usize = 64 * 1024;
const MAX_TOOLS: usize = 32;
const MAX_TOOL_BYTES: usize = 128;
const MAX_LOG_FIELDS: usize = 32;
const MAX_LOG_FIELD_BYTES: usize = 1024;

impl agent_types::Host for State {}

impl Host for State {
    fn emit(&mut self, event: Event) -> Result<Result<(), HostError>> {
        let emit = || {
            check_event_name(&event.name)?;
            if event.data.len() > MAX_EVENT_DATA_BYTES {
                return Err(HostError::TooLarge(MAX_EVENT_DATA_BYTES as u64));
            }
            let data = RawValue::from_string(event.data)
                .map_err(|error| HostError::Invalid(format!("data is no JSON: {error}")))?;
            self.port.emit(&event.name, data).map_err(HostError::from)
        };
        Ok(emit())
    }

    fn send(&mut self, agent_id: String, body: String) -> Result<Result<String, HostError>> {
        if body.len() > MAX_BODY_BYTES {
            return Ok(Err(HostError::TooLarge(MAX_BODY_BYTES as u64)));
        }
        let sent = self.port.send(&agent_id, body.into()).map_err(HostError::from);
        if sent.is_ok() {
            self.meter.charge_turn();
        }
        Ok(sent)
    }

    fn set_active_tools(&mut self, tools: Vec<String>) -> Result<()> {
        // Copied: what is kept must not hold on to what was truncated.
        let tools =
            tools.iter().take(MAX_TOOLS).map(|tool| truncated(tool, MAX_TOOL_BYTES)).collect();
        self.port.set_active_tools(tools);
        Ok(())
    }

    fn nudges(&mut self) -> Result<Vec<Nudge>> {
        let nudges = self.port.nudges().into_iter();
        Ok(nudges.map(|n| Nudge { id: n.id, body: n.body, source: n.source }).collect())
    }

    fn settings(&mut self) -> Result<AgentSettings> {
        let settings = self.port.settings();
        Ok(AgentSettings {
            revision: settings.revision,
            model: settings.model,
            small_model: settings.small_model,
            system_prompt: settings.system_prompt,
            dashboard_context: settings.dashboard_context,
        })
    }

    fn config(&mut self, key: String) -> Result<Option<String>> {
        if self.spec.fault_injection {
            inject_fault(&key)?;
        }
        if is_the_hosts(&key) {
            return Ok(None);
        }
        let value = self.port.live_value(&key).or_else(|| self.spec.config.get(&key).cloned());
        Ok(value.map(|value| value.expose().to_owned()))
    }

    fn log(
        &mut self,
        level: GuestLevel,
        message: String,
        fields: Vec<(String, String)>,
    ) -> Result<()> {
        // No name of a guest's is one that the host uses.
        let cut_field = |(key, value): &(String, String)| {
            (
                format!("guest.{}", truncated(key, MAX_TOOL_BYTES)),
                truncated(value, MAX_LOG_FIELD_BYTES),
            )
        };
        let fields: BTreeMap<_, _> = fields.iter().take(MAX_LOG_FIELDS).map(cut_field).collect();
        self.logs.line(level.into(), "log", &message, fields);
        Ok(())
    }

    async fn unhandled_rejection(&mut self, exceptions: Vec<agent_types::Exception>) -> Result<()> {
        let mut exceptions = exceptions::lifted(exceptions);
        if exceptions.is_empty() {
            return Ok(());
        }
        if let Some(source) = self.source.clone() {
            self.blocking.thread().await;
            exceptions = self.blocking.charged(|| source_maps::mapped(&source, exceptions));
        }
        if let Some(dropped) = self.logs.admit(exceptions::json_bytes(&exceptions)) {
            self.port.unhandled_rejection(exceptions, dropped);
        }
        Ok(())
    }

    fn deadline(&mut self) -> Result<u64> {
        Ok(millis(self.meter.time_left()))
    }

    fn memory(&mut self) -> Result<MemoryUsage> {
        let usage = self.meter.usage();
        Ok(MemoryUsage {
            used_bytes: usage.memory_bytes,
            host_bytes: usage.host.total(),
            peak_bytes: usage.memory_peak_bytes,
            soft_bytes: usage.memory_soft_bytes,
            limit_bytes: usage.memory_limit_bytes,
        })
    }
}

fn check_event_name(name: &str) -> Result<(), HostError> {
    let rule = |text: &str| Err(HostError::Invalid(format!("event name {name:?} {text}")));
    if name.is_empty() || name.len() > MAX_EVENT_NAME_BYTES {
        return Err(HostError::Invalid("event name must have 1 to 64 characters".into()));
    }
    if !name
        .bytes()
        .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte))
    {
        return rule("has characters other than a-z 0-9 . _ -");
    }
    if name.starts_with("agent.") || name.starts_with("container.") {
        return rule("belongs to the host");
    }
    Ok(())
}

fn truncated(text: &str, bytes: usize) -> String {
    text[..text.floor_char_boundary(bytes)].to_owned()
}

/// Longer than the end of a host waits for anything.
const BLOCKED: std::time::Duration = std::time::Duration::from_secs(30);

/// Faults of the host on request, for roles that ask for it: the only way to test how the host takes
/// its own failures.
fn inject_fault(key: &str) -> Result<()> {
    match key {
        "fault-injection/panic" => panic!("a fault was injected into host.config"),
        "fault-injection/error" => {
            Err(HostFault("a fault was injected into host.config".into()).into())
        }
        "fault-injection/abort" => std::process::abort(),
        "fault-injection/block" => {
            std::thread::sleep(BLOCKED);
            Ok(())
        }
        _ => Ok(()),
    }
}

impl From<PortError> for HostError {
    fn from(error: PortError) -> Self {
        match error {
            PortError::Invalid(text) => Self::Invalid(text),
            PortError::TooLarge(max_bytes) => Self::TooLarge(max_bytes),
            PortError::NotFound(text) => Self::NotFound(text),
            PortError::Unavailable(text) => Self::Unavailable(text),
            PortError::RateLimited(ms) => Self::RateLimited(ms),
        }
    }
}

impl From<GuestLevel> for Level {
    fn from(level: GuestLevel) -> Self {
        match level {
            GuestLevel::Trace => Self::Trace,
            GuestLevel::Debug => Self::Debug,
            GuestLevel::Info => Self::Info,
            GuestLevel::Warn => Self::Warn,
            GuestLevel::Error => Self::Error,
        }
    }
}

#[cfg(test)]
mod tests {
    use bulkhead_types::{Secret, Settings};

    use super::*;
    use crate::descriptors::Descriptors;
    use crate::port::fake::FakePort;
    use crate::tests::spec;

    fn values(pairs: &[(&str, &str)]) -> BTreeMap<String, Secret> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned().into())).collect()
    }

    fn state(port: FakePort, config: &[(&str, &str)]) -> State {
        let spec = bulkhead_types::AgentSpec { config: values(config), ..spec() };
        crate::state::fake::state(spec, port, None, Descriptors::new(usize::MAX))
    }

    #[test]
    fn a_guest_reads_the_settings_of_this_moment() {
        let settings = Settings {
            revision: 7,
            model: Some("large".into()),
            small_model: None,
            system_prompt: Some("be brief".into()),
            dashboard_context: Some("three beads are open".into()),
        };
        let read = state(FakePort { settings, ..FakePort::default() }, &[]).settings().unwrap();
        assert_eq!((read.revision, read.model.as_deref()), (7, Some("large")));
        assert_eq!((read.small_model, read.system_prompt.as_deref()), (None, Some("be brief")));
        assert_eq!(read.dashboard_context.as_deref(), Some("three beads are open"));
    }

    #[test]
    fn the_towns_value_wins_over_what_the_start_brought() {
        let port = FakePort { town: values(&[("key", "fresh")]), ..FakePort::default() };
        let mut state = state(port, &[("key", "stale"), ("other", "role's")]);
        let mut config = |key: &str| state.config(key.to_owned()).unwrap();
        assert_eq!(config("key").as_deref(), Some("fresh"));
        assert_eq!(config("other").as_deref(), Some("role's"));
        assert_eq!(config("unset"), None);
    }

    #[test]
    fn event_names_of_the_host_are_refused() {
        assert!(check_event_name("step.done-2").is_ok());
        for name in ["", "agent.exit", "container.x", "Upper", "a b", &"a".repeat(65)] {
            assert!(check_event_name(name).is_err(), "{name}");
        }
    }
}
