//! Which endpoint a request goes to, and whether its agent may use it.
//!
//! | the agent's values | endpoint |
//! | --- | --- |
//! | none of `model.*` | one of its role's `models` |
//! | `model.NAME.api-key` | the same; the endpoint NAME gets this key |
//! | `model.api-key` | the same; the endpoint `default` gets this key |
//! | `model.base-url` | the agent's own takes the place of the first one: its own address, under the rules of the role's `http_allow`, and its own key |
//!
//! Values come from the town, from the start request or from the role, as in `host.config`, where a guest cannot read
//! them.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

use bulkhead_llm::{Bounds, DEFAULT_ENDPOINT, Dialect, Endpoint, Message, Models, Role, Settings};
use bulkhead_log::Budget;
use bulkhead_net::{
    Addresses, BaseUrl, Boxed, ConnectError, Connector, Credential, Destination, Judged,
};
use bulkhead_telemetry::CurrentTurn;
use bulkhead_types::time::millis;
use bulkhead_types::{AgentSpec, HostKind, HttpPolicy, Level, Secret};
use bulkhead_usage::Exhausted;
use tokio::runtime::Handle;

use super::answer::{Answer, Place};
use super::ask::Asked;
use super::invalid;
use super::report::{Report, begin_span};
use crate::bindings::bulkhead::agent::model::{ExhaustedBudget, ModelError};
use crate::descriptors::Descriptors;
use crate::interfaces::http::{
    CONNECTION_BYTES, Lookups, SharedResolver, TLS_BYTES, UnderWay, carry,
};
use crate::logs::Logs;
use crate::meter::Meter;
use crate::port::{ModelStep, Port};

/// Answers that one agent may have under way.
const MAX_UNDER_WAY: usize = 4;

/// What a turn keeps for itself, so that its guest sees a call's end and not its own.
const MARGIN: Duration = Duration::from_millis(500);

/// The way of one incarnation to models.
pub(crate) struct Access {
    pub models: Models,
    pub spec: Arc<AgentSpec>,
    pub port: Arc<dyn Port>,
    pub logs: Arc<Logs>,
    pub meter: Arc<Meter>,
    pub connector: Connector,
    pub lookups: Lookups,
    pub threads: Handle,
    pub sockets: Arc<Descriptors>,
    pub under_way: Arc<AtomicUsize>,
    /// Lines about calls that failed. A guest may try again at once.
    pub lines: Budget,
    /// It was said that a key among its values has no use.
    pub told_of_key: bool,
    /// The turn that it asks in.
    pub turn: CurrentTurn,
    /// The agent's own endpoint, as of this revision of its settings.
    pub own: Option<(u64, Arc<Endpoint>)>,
}

/// Where a request goes.
struct Way {
    endpoint: Arc<Endpoint>,
    name: Arc<str>,
    model: String,
    key: Option<Secret>,
    addresses: Arc<dyn Addresses + Send>,
}

impl Access {
    pub(crate) fn lines() -> Budget {
        Budget::new(1, 1, Instant::now())
    }

    /// Begins an answer.
    pub(super) fn begin(&mut self, asked: Asked) -> Result<Answer, ModelError> {
        let way = self.way(asked.endpoint.as_deref(), asked.model).map_err(|denied| {
            self.failed(&denied);
            ModelError::Denied(denied)
        })?;
        if let Some(rule) = way.endpoint.refuses(&asked.request) {
            return Err(invalid(rule));
        }
        let place = self.place(asked.bytes)?;
        // Last of all: a call that is admitted counts.
        self.port.may_ask(&way.name, &way.model).map_err(|exhausted| self.exhausted(exhausted))?;
        let left = self.meter.time_left().saturating_sub(MARGIN);
        let within = asked.timeout.map_or(left, |timeout| timeout.min(left));
        let deadline = tokio::time::Instant::now() + within.min(FAR);
        let mut request = bulkhead_llm::Request { model: way.model.clone(), ..asked.request };
        for id in results(&request.messages) {
            self.port.saw(ModelStep::ToolResult { id });
        }
        let turn = self.turn.get();
        let span = begin_span(&turn, (&way.name, &way.endpoint), &mut request);
        let chat = way.endpoint.chat(request, way.key, deadline, way.addresses);
        let report = Report {
            port: Arc::clone(&self.port),
            logs: Arc::clone(&self.logs),
            endpoint: way.name,
            model: way.model,
            request_tokens: asked.tokens,
            begun: Instant::now(),
            bytes: 0,
            span,
            output: Vec::new(),
        };
        let (threads, meter) = (self.threads.clone(), Arc::clone(&self.meter));
        let carry = move |reading| carry(&threads, &meter, reading);
        Ok(Answer::begin(chat, place, Arc::clone(&self.meter), turn, report, carry))
    }

    fn way(&mut self, endpoint: Option<&str>, model: Option<String>) -> Result<Way, String> {
        let spec = Arc::clone(&self.spec);
        let first = spec.models.first();
        let is_first = endpoint.is_none_or(|name| first.is_some_and(|first| **first == *name));
        // What others choose for the agent is a model of its first endpoint.
        let chosen = || self.port.settings().model.or_else(|| self.value("model.name"));
        let model = model.or_else(|| if is_first { chosen() } else { None });
        if is_first && let Some(url) = self.value("model.base-url") {
            let endpoint = self.own(&url)?;
            let model = model.ok_or("the agent's own endpoint has no model.name")?;
            let addresses = self.judged();
            return Ok(Way { endpoint, name: "own".into(), model, key: None, addresses });
        }
        let role = &spec.role;
        let named = |name: &str| spec.models.iter().find(|it| ***it == *name);
        let name = match endpoint {
            Some(name) => named(name).ok_or_else(|| {
                format!("role {role:?} may use {}, and not {name:?}", list(&spec.models))
            })?,
            None => first
                .ok_or_else(|| format!("role {role:?} may use no model: its `models` are empty"))?,
        };
        let found = self.models.get(name);
        let found = found.ok_or_else(|| format!("there is no [models.{name}] any more"))?;
        let model = model.unwrap_or_else(|| found.default_model.clone());
        if !found.allowed.admits(&model) {
            return Err(format!("[models.{name}] does not allow the model {model:?}"));
        }
        let endpoint = Arc::clone(&found.endpoint);
        let key = self.key_of(name);
        Ok(Way {
            endpoint,
            name: Arc::clone(name),
            model,
            key,
            addresses: Arc::new(SharedResolver(self.lookups.clone())),
        })
    }

    /// The key for a configured endpoint among the agent's values, which is no other endpoint's: each may be of another
    /// provider. The one that names no endpoint is for the one that the environment can set.
    fn key_of(&mut self, name: &str) -> Option<Secret> {
        if let Some(key) = self.value(&format!("model.{name}.api-key")) {
            return Some(key.into());
        }
        // The agent's own endpoint has it.
        if self.value("model.base-url").is_some() {
            return None;
        }
        let key = self.value("model.api-key")?;
        if name == DEFAULT_ENDPOINT {
            return Some(key.into());
        }
        let has_use = self.spec.models.iter().any(|name| **name == *DEFAULT_ENDPOINT);
        if !has_use && !std::mem::replace(&mut self.told_of_key, true) {
            let text = format!(
                "model.api-key is not used: it is for [models.{DEFAULT_ENDPOINT}], which the role {:?} does not list; \
                 the key for {name:?} is model.{name}.api-key",
                self.spec.role
            );
            self.logs.line(Level::Warn, "model", &text, Default::default());
        }
        None
    }

    /// A value of the agent's that its guest does not see. An empty one is none.
    fn value(&self, key: &str) -> Option<String> {
        let value = self.port.live_value(key).or_else(|| self.spec.config.get(key).cloned())?;
        Some(value.expose().trim().to_owned()).filter(|value| !value.is_empty())
    }

    fn own(&mut self, url: &str) -> Result<Arc<Endpoint>, String> {
        let revision = self.port.settings().revision;
        if let Some((of, endpoint)) = &self.own
            && *of == revision
        {
            return Ok(Arc::clone(endpoint));
        }
        let url = url.trim_end_matches('/');
        let base = BaseUrl::parse(url)
            .map_err(|error| format!("the agent's model.base-url cannot be used: {error}"))?;
        let to = &base.destination;
        self.spec.http.admit_name(&to.host, to.port).map_err(|denied| denied.to_string())?;
        let dialect = match self.value("model.dialect").as_deref() {
            None | Some("openai") => Dialect::OpenAi,
            Some("anthropic") => Dialect::Anthropic,
            Some(_) => return Err("the agent's model.dialect has to be openai or anthropic".into()),
        };
        let key = self.value("model.api-key").map(|key| Credential::fixed(key.into()));
        let settings = Settings {
            name: "own".into(),
            base,
            dialect,
            headers: Vec::new(),
            connector: self.connector.clone(),
            bounds: Bounds::default(),
        };
        let endpoint = Arc::new(Endpoint::new(settings, key.unwrap_or_default()));
        self.own = Some((revision, Arc::clone(&endpoint)));
        Ok(endpoint)
    }

    /// The addresses of the agent's own endpoint.
    fn judged(&self) -> Arc<dyn Addresses + Send> {
        let found = SharedResolver(self.lookups.clone());
        Arc::new(OwnAddresses { policy: self.spec.http.clone(), found })
    }

    fn place(&mut self, request_bytes: u64) -> Result<Place, ModelError> {
        let Some(under_way) = UnderWay::begin(&self.under_way, MAX_UNDER_WAY) else {
            let text =
                format!("{MAX_UNDER_WAY} answers of this agent are under way, which is the most");
            self.failed(&text);
            return Err(ModelError::Unavailable(text));
        };
        let socket = self.sockets.one().map_err(|none| self.no_room(none.to_string()))?;
        // Beside the request itself, its JSON.
        let bytes = CONNECTION_BYTES + TLS_BYTES + 2 * request_bytes;
        let held = self.meter.memory().charge(HostKind::Http, bytes);
        let held = held.map_err(|over| self.no_room(over.to_string()))?;
        Ok(Place { _under_way: under_way, _socket: socket, _held: held })
    }

    fn no_room(&mut self, text: String) -> ModelError {
        self.failed(&text);
        ModelError::Unavailable(text)
    }

    /// One line a second at most.
    fn failed(&mut self, why: &str) {
        if self.lines.take(Instant::now()).is_ok() {
            let text = format!("model call refused: {why}");
            self.logs.line(Level::Warn, "model", &text, Default::default());
        }
    }

    fn exhausted(&mut self, Exhausted { message, retry }: Exhausted) -> ModelError {
        self.failed(&message);
        ModelError::BudgetExceeded(ExhaustedBudget { message, retry_ms: retry.map(millis) })
    }
}

/// Longer than any call takes. A deadline has to be a time that there is.
const FAR: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// The calls whose results the request brings: those after the model's last words.
fn results(messages: &[Message]) -> impl Iterator<Item = &str> {
    let newest = messages.iter().rev().take_while(|message| message.role != Role::Assistant);
    newest.filter_map(|message| message.tool_call_id.as_deref())
}

fn list(names: &[Arc<str>]) -> String {
    match names {
        [] => "no model".into(),
        [name] => format!("the model endpoint {name:?}"),
        names => {
            let names: Vec<_> = names.iter().map(|name| format!("{name:?}")).collect();
            format!("the model endpoints {}", names.join(", "))
        }
    }
}

/// Those that the policy of the agent's role admits.
struct OwnAddresses {
    policy: HttpPolicy,
    found: SharedResolver,
}

impl Addresses for OwnAddresses {
    fn of<'a>(&'a self, to: &'a Destination) -> Boxed<'a, Result<Vec<SocketAddr>, ConnectError>> {
        Box::pin(async move {
            let admit =
                |to: &Destination, at: IpAddr| self.policy.admit_address(&to.host, to.port, at);
            Judged { found: self.found.clone(), admit }.of(to).await
        })
    }
}
