//! The calls of the API and their paths.
//!
//! `T` is `/api/towns/{townId}`, `A` is `T/rigs/{rigId}/agents/{agentId}`; an agent without a rig has `-`
//! in its place.

use std::fmt;
use std::str::FromStr;

use hyper::Method;
use percent_encoding::percent_decode_str;

/// A call of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Call {
    /// `GET T/container-registry`
    Registry,
    /// `POST T/container-registry`
    PostRegistry,
    /// `POST T/container-heartbeat`
    ContainerHeartbeat,
    /// `POST T/container-ready`
    ContainerReady,
    /// `POST T/container-eviction`
    ContainerEviction,
    /// `POST T/refresh-container-token`
    RefreshToken,
    /// `POST T/rigs/{rigId}/agent-events`
    AgentEvents,
    /// `POST A/heartbeat`
    Heartbeat,
    /// `GET A/db-snapshot`
    Snapshot,
    /// `POST A/db-snapshot`
    PostSnapshot,
    /// `GET A/pending-nudges`
    PendingNudges,
    /// `POST A/nudge-delivered`
    NudgeDelivered,
    /// `POST A/completed`
    Completed,
    /// `POST A/eviction-context`
    EvictionContext,
}

impl Call {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::Registry,
        Self::PostRegistry,
        Self::ContainerHeartbeat,
        Self::ContainerReady,
        Self::ContainerEviction,
        Self::RefreshToken,
        Self::AgentEvents,
        Self::Heartbeat,
        Self::Snapshot,
        Self::PostSnapshot,
        Self::PendingNudges,
        Self::NudgeDelivered,
        Self::Completed,
        Self::EvictionContext,
    ];

    /// Its name on a command line and in a log.
    pub fn name(self) -> &'static str {
        match self {
            Self::Registry => "registry",
            Self::PostRegistry => "post-registry",
            Self::ContainerHeartbeat => "container-heartbeat",
            Self::ContainerReady => "container-ready",
            Self::ContainerEviction => "container-eviction",
            Self::RefreshToken => "refresh-token",
            Self::AgentEvents => "agent-events",
            Self::Heartbeat => "heartbeat",
            Self::Snapshot => "snapshot",
            Self::PostSnapshot => "post-snapshot",
            Self::PendingNudges => "pending-nudges",
            Self::NudgeDelivered => "nudge-delivered",
            Self::Completed => "completed",
            Self::EvictionContext => "eviction-context",
        }
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Call {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|call| call.name() == text);
        found.ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(|call| call.name()).collect();
            format!("no such call: {text:?}; there are {}", names.join(", "))
        })
    }
}

/// A call and whom it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Which call.
    pub call: Call,
    /// The town.
    pub town: String,
    /// The rig, of calls about a rig or an agent. None: `-` stood in its place.
    pub rig: Option<String>,
    /// The agent, of calls about one.
    pub agent: Option<String>,
}

impl Target {
    /// What a method and a path ask for; none when the API has no such call. `prefix` stands before the paths
    /// of the API, without a slash at its end.
    pub fn parse(prefix: &str, method: &Method, path: &str) -> Option<Self> {
        let rest = path.strip_prefix(prefix)?.strip_prefix("/api/towns/")?;
        let decoded = |part| percent_decode_str(part).decode_utf8().ok();
        let parts = rest.split('/').map(decoded).collect::<Option<Vec<_>>>()?;
        let parts: Vec<_> = parts.iter().map(AsRef::as_ref).collect();
        let (town, rig, agent, call) = match parts[..] {
            [town, "rigs", rig, "agents", agent, call] => {
                (town, rig, agent, of_agent(method, call)?)
            }
            [town, "rigs", rig, "agent-events"] if method == Method::POST => {
                (town, rig, "", Call::AgentEvents)
            }
            [town, call] => (town, "", "", of_town(method, call)?),
            _ => return None,
        };
        let given = |part: &str| (!part.is_empty()).then(|| part.to_owned());
        let rig = given(rig).filter(|rig| rig != "-");
        Some(Self { call, town: given(town)?, rig, agent: given(agent) })
    }
}

fn of_town(method: &Method, name: &str) -> Option<Call> {
    let post = method == Method::POST;
    Some(match name {
        "container-registry" if method == Method::GET => Call::Registry,
        "container-registry" if post => Call::PostRegistry,
        "container-heartbeat" if post => Call::ContainerHeartbeat,
        "container-ready" if post => Call::ContainerReady,
        "container-eviction" if post => Call::ContainerEviction,
        "refresh-container-token" if post => Call::RefreshToken,
        _ => return None,
    })
}

fn of_agent(method: &Method, name: &str) -> Option<Call> {
    let (get, post) = (method == Method::GET, method == Method::POST);
    Some(match name {
        "heartbeat" if post => Call::Heartbeat,
        "db-snapshot" if get => Call::Snapshot,
        "db-snapshot" if post => Call::PostSnapshot,
        "pending-nudges" if get => Call::PendingNudges,
        "nudge-delivered" if post => Call::NudgeDelivered,
        "completed" if post => Call::Completed,
        "eviction-context" if post => Call::EvictionContext,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_town_rig_and_agent() {
        let parse = |path| Target::parse("/v1", &Method::POST, path);
        let found = parse("/v1/api/towns/my%20town/rigs/r/agents/a:1/heartbeat").unwrap();
        assert_eq!((found.call, found.town.as_str()), (Call::Heartbeat, "my town"));
        assert_eq!((found.rig.as_deref(), found.agent.as_deref()), (Some("r"), Some("a:1")));
        let found = parse("/v1/api/towns/t/rigs/-/agent-events").unwrap();
        assert_eq!((found.call, found.rig, found.agent), (Call::AgentEvents, None, None));
        for other in ["/api/towns/t/container-ready", "/v1/api/towns/t", "/v1/api/towns//heartbeat"]
        {
            assert_eq!(parse(other), None, "{other}");
        }
    }

    #[test]
    fn the_method_counts() {
        let parse = |method| Target::parse("", &method, "/api/towns/t/container-registry");
        assert_eq!(parse(Method::GET).map(|found| found.call), Some(Call::Registry));
        assert_eq!(parse(Method::POST).map(|found| found.call), Some(Call::PostRegistry));
        assert_eq!(parse(Method::PUT), None);
    }

    #[test]
    fn a_name_leads_back_to_its_call() {
        for call in Call::ALL {
            assert_eq!(call.name().parse(), Ok(call));
        }
        assert!("beat".parse::<Call>().unwrap_err().contains("heartbeat"));
    }
}
