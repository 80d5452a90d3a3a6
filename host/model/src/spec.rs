//! What an agent is asked to be, and the limits that it lives under.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{AgentId, RestartRules, Secret};

/// Everything that a start decides about an agent. Two starts are "the same" when their specs are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentSpec {
    /// Which agent.
    pub id: AgentId,
    /// The role's name in the configuration.
    pub role: Arc<str>,
    /// The component's name in the configuration.
    pub component: Arc<str>,
    /// The name that people see.
    pub name: String,
    /// The town of the request, if it named one.
    pub town_id: Option<String>,
    /// The repository that it works on.
    pub rig_id: Option<String>,
    /// What to do first. May be empty.
    pub prompt: String,
    /// Standing instructions at first; [`Settings`](crate::Settings) has them as they are now.
    pub system_prompt: Option<String>,
    /// The language model to use at first.
    pub model: Option<String>,
    /// A cheaper one for small tasks at first.
    pub small_model: Option<String>,
    /// What `host.config` answers where the town sets nothing. Secrets may be among the values.
    pub config: BTreeMap<String, Secret>,
    /// Environment (`wasi:cli/environment`), below what the town sets.
    pub env: BTreeMap<String, Secret>,
    /// Credentials that it is started with, in its configuration and its environment, above both of these. They
    /// are no part of what the agent is: they can be swapped while it lives.
    pub secrets: BTreeMap<String, Secret>,
    /// Its limits.
    pub limits: Limits,
    /// What it may reach over HTTP.
    pub http: HttpPolicy,
    /// Whether and when its state is kept.
    pub snapshots: SnapshotRules,
    /// Whether and when it comes back after an end.
    pub restart: RestartRules,
    /// `host.config("fault-injection/...")` injects host faults. For tests of the host only.
    pub fault_injection: bool,
    /// A crash leaves a core dump: all that the agent had in memory, secrets included.
    pub core_dump: bool,
    /// How readily it is ended when memory is short, in percent: 0 after all others.
    pub eviction_weight_percent: u32,
}

impl AgentSpec {
    /// What its texts take in memory, in bytes: those that a start request brings.
    pub fn text_bytes(&self) -> u64 {
        let values = |map: &BTreeMap<String, Secret>| -> usize {
            map.iter().map(|(key, value)| key.len() + value.expose().len()).sum()
        };
        let system_prompt = self.system_prompt.as_ref().map_or(0, String::len);
        let texts = self.name.len() + self.prompt.len() + system_prompt;
        (texts + values(&self.config) + values(&self.env) + values(&self.secrets)) as u64
    }

    /// Whether a start of `other` asks for the same agent. How long the callers are willing to wait
    /// makes no difference, nor with which credentials it works. Copies nothing.
    pub fn is_same_as(&self, other: &Self) -> bool {
        // Every field by its name: a new one has to be thought of here. What is long comes last.
        let Self {
            id,
            role,
            component,
            name,
            town_id,
            rig_id,
            prompt,
            system_prompt,
            model,
            small_model,
            config,
            env,
            secrets: _,
            limits,
            http,
            snapshots,
            restart,
            fault_injection,
            core_dump,
            eviction_weight_percent,
        } = self;
        *id == other.id
            && *role == other.role
            && *component == other.component
            && *name == other.name
            && *town_id == other.town_id
            && *rig_id == other.rig_id
            && *model == other.model
            && *small_model == other.small_model
            && limits.is_same_as(&other.limits)
            && *http == other.http
            && *snapshots == other.snapshots
            && *restart == other.restart
            && *fault_injection == other.fault_injection
            && *core_dump == other.core_dump
            && *eviction_weight_percent == other.eviction_weight_percent
            && *config == other.config
            && *env == other.env
            && *system_prompt == other.system_prompt
            && *prompt == other.prompt
    }
}

/// Bounds on what one agent may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Linear memories, tables and host bytes together.
    pub memory_bytes: u64,
    /// Percent of `memory_bytes` at which it is told that it gets close, 1 to 100.
    pub memory_soft_percent: u8,
    /// What happens when growth would pass `memory_bytes`.
    pub on_memory_limit: MemoryPolicy,
    /// CPU time of one call into the guest.
    pub cpu: Duration,
    /// Wall time of one turn.
    pub wall: Duration,
    /// Time in one host call.
    pub host_call: Duration,
    /// A whole start: waiting, compiling, instantiating, the guest's own `start`.
    pub start: Duration,
    /// Grace of a stop: what is left of the turn, and the guest's `shutdown`.
    pub shutdown: Duration,
    /// Messages that may wait.
    pub mailbox_messages: usize,
    /// Bytes of messages that may wait.
    pub mailbox_bytes: usize,
    /// How long it may have nothing to do before it is `completed`. `None`: it waits for ever.
    pub idle: Option<Duration>,
    /// Log lines a second, with a burst of ten times as many. More are dropped and counted.
    pub log_lines_per_second: u32,
}

impl Limits {
    /// Whether they bound the same, but for the patience of a start.
    fn is_same_as(&self, other: &Self) -> bool {
        // No field owns memory: the copy is a few hundred bytes on the stack.
        Self { start: other.start, ..self.clone() } == *other
    }
}

impl Default for Limits {
    /// For an agent that talks to a language model: little memory, long waits.
    fn default() -> Self {
        Self {
            memory_bytes: 64 * 1024 * 1024,
            memory_soft_percent: 80,
            on_memory_limit: MemoryPolicy::End,
            cpu: Duration::from_secs(10),
            wall: Duration::from_secs(300),
            host_call: Duration::from_secs(120),
            start: Duration::from_secs(30),
            shutdown: Duration::from_secs(5),
            mailbox_messages: 256,
            mailbox_bytes: 4 * 1024 * 1024,
            idle: None,
            log_lines_per_second: 50,
        }
    }
}

/// Whether and when an agent's state is kept, to be given to its next life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotRules {
    /// When.
    pub when: SnapshotPolicy,
    /// From a turn to the snapshot that has it. Turns meanwhile are in the same one.
    pub debounce: Duration,
    /// Largest snapshot. A larger one is refused, and the last good one stays.
    pub max_bytes: usize,
}

impl Default for SnapshotRules {
    fn default() -> Self {
        let debounce = Duration::from_secs(1);
        Self { when: SnapshotPolicy::Off, debounce, max_bytes: 1024 * 1024 }
    }
}

/// When an agent's state is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SnapshotPolicy {
    /// Never. Each life begins anew.
    Off,
    /// When the agent is asked to end.
    Stop,
    /// After turns as well.
    Turn,
}

impl SnapshotPolicy {
    /// Whether a turn is answered by a snapshot.
    pub fn after_turns(self) -> bool {
        self == Self::Turn
    }

    /// Whether an agent that is asked to end is asked for a snapshot before.
    pub fn at_the_end(self) -> bool {
        self != Self::Off
    }
}

/// What happens when growth would pass the memory limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MemoryPolicy {
    /// The incarnation ends as `memory_limit`, with the backtrace of the growth.
    End,
    /// The guest sees `memory.grow` fail.
    Deny,
}

/// What an agent may reach over HTTP. Empty: nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HttpPolicy {
    /// Allowed destinations.
    pub allow: Vec<HttpRule>,
}

/// One allowed destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpRule {
    /// Lower case. `*.example.com` stands for every name below `example.com`.
    pub host: String,
    /// `None` stands for 80 and 443.
    pub port: Option<u16>,
}

/// Why a text is no [`HttpRule`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no destination; write host, host:port, *.domain or [v6]:port")]
pub struct HttpRuleError {
    text: String,
}

impl HttpRule {
    /// Parses `host`, `host:port`, `*.domain` or `[v6]:port`.
    pub fn parse(text: &str) -> Result<Self, HttpRuleError> {
        let error = || HttpRuleError { text: text.to_owned() };
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
                (host, Some(port.parse().map_err(|_| error())?))
            }
            _ => (text, None),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        let name = host.strip_prefix("*.").unwrap_or(&host);
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.' || c == '_';
        if name.is_empty() || !(name.chars().all(is_name) || name.parse::<Ipv6Addr>().is_ok()) {
            return Err(error());
        }
        Ok(Self { host, port })
    }

    fn covers(&self, host: &str, port: u16) -> bool {
        let port_fits = match self.port {
            Some(wanted) => wanted == port,
            None => port == 80 || port == 443,
        };
        let host_fits = match self.host.strip_prefix("*.") {
            Some(domain) => host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.')),
            None => self.host == host,
        };
        port_fits && host_fits
    }
}

/// Why a request may not leave.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HttpDenied {
    /// No rule names the destination.
    #[error("{host}:{port} is not in the role's allow list")]
    NotAllowed {
        /// Lower case, without brackets.
        host: String,
        /// Where the request wanted to go.
        port: u16,
    },
    /// A name resolved to an address inside the container's own network.
    #[error("{host} resolved to {address}, which is not public")]
    NotPublic {
        /// The name of the request.
        host: String,
        /// What the resolver said.
        address: IpAddr,
    },
}

impl HttpPolicy {
    /// May a request go to this host and port, as far as its name tells?
    pub fn admit_name(&self, host: &str, port: u16) -> Result<(), HttpDenied> {
        let host = host.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        if self.allow.iter().any(|rule| rule.covers(&host, port)) {
            return Ok(());
        }
        Err(HttpDenied::NotAllowed { host, port })
    }

    /// May a connection for `host` go to `address`? A name may only lead to public addresses; an
    /// address that a rule spells out, and `localhost`, were listed on purpose.
    pub fn admit_address(&self, host: &str, address: IpAddr) -> Result<(), HttpDenied> {
        let literal = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().is_ok();
        let localhost = host.eq_ignore_ascii_case("localhost") && address.is_loopback();
        if literal || localhost || is_public(address) {
            return Ok(());
        }
        Err(HttpDenied::NotPublic { host: host.to_owned(), address })
    }
}

/// Whether an address is outside loopback, private, link-local and other special ranges (IANA
/// special-purpose registries).
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => is_public_v4(v4),
            None => {
                let special = v6.is_loopback()
                    || v6.is_unspecified()
                    || v6.is_multicast()
                    || v6.is_unique_local()
                    || v6.is_unicast_link_local();
                let [first, second, ..] = v6.segments();
                // 64:ff9b::/96, 2002::/16 and 2001::/32 (Teredo) carry an IPv4 address that could be
                // private, as the deprecated ::/96 does. 100::/64 discards, fec0::/10 was site-local.
                let carries_v4 = first == 0x64
                    || first == 0x2002
                    || (first == 0x2001 && second == 0)
                    || v6.segments()[..6] == [0; 6];
                let gone = first == 0x100 || first & 0xffc0 == 0xfec0;
                !special && !carries_v4 && !gone
            }
        },
    }
}

fn is_public_v4(v4: Ipv4Addr) -> bool {
    let [a, b, c, _] = v4.octets();
    let protocol_assignments = a == 192 && b == 0 && c == 0;
    let shared = a == 100 && (64..128).contains(&b);
    let benchmarking = a == 198 && (b == 18 || b == 19);
    !(v4.is_loopback()
        || v4.is_private()
        || v4.is_link_local()
        || v4.is_multicast()
        || v4.is_broadcast()
        || v4.is_documentation()
        || a == 0
        || a >= 240
        || shared
        || protocol_assignments
        || benchmarking)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(rules: &[&str]) -> HttpPolicy {
        HttpPolicy { allow: rules.iter().map(|rule| HttpRule::parse(rule).unwrap()).collect() }
    }

    #[test]
    fn an_empty_policy_lets_nothing_out() {
        assert!(HttpPolicy::default().admit_name("example.com", 443).is_err());
    }

    #[test]
    fn a_rule_without_port_stands_for_the_web_ports_only() {
        let policy = policy(&["example.com", "127.0.0.1:9100"]);
        assert!(policy.admit_name("Example.COM", 443).is_ok());
        assert!(policy.admit_name("example.com", 8443).is_err());
        assert!(policy.admit_name("127.0.0.1", 9100).is_ok());
        assert!(policy.admit_name("127.0.0.1", 80).is_err());
    }

    #[test]
    fn a_wildcard_covers_names_below_and_not_lookalikes() {
        let policy = policy(&["*.example.com"]);
        assert!(policy.admit_name("api.example.com", 443).is_ok());
        assert!(policy.admit_name("example.com", 443).is_err());
        assert!(policy.admit_name("evilexample.com", 443).is_err());
    }

    #[test]
    fn a_listed_name_may_not_lead_inside() {
        let policy = policy(&["example.com", "localhost:1"]);
        for inside in [
            "127.0.0.1",
            "10.0.0.1",
            "169.254.169.254",
            "::1",
            "fe80::1",
            "::ffff:10.0.0.1",
            "::10.0.0.1",
            "2001::1",
            "fec0::1",
            "192.0.0.8",
        ] {
            assert!(
                policy.admit_address("example.com", inside.parse().unwrap()).is_err(),
                "{inside}"
            );
        }
        assert!(policy.admit_address("example.com", "93.184.216.34".parse().unwrap()).is_ok());
        assert!(policy.admit_address("localhost", "127.0.0.1".parse().unwrap()).is_ok());
        assert!(policy.admit_address("127.0.0.1", "127.0.0.1".parse().unwrap()).is_ok());
    }

    #[test]
    fn nonsense_is_no_rule() {
        for text in ["", "http://x", "x:y", "a b", "*.", "x:99999"] {
            assert!(HttpRule::parse(text).is_err(), "{text:?}");
        }
        let v6 = HttpRule::parse("[::1]:80").unwrap();
        assert_eq!((v6.host.as_str(), v6.port), ("::1", Some(80)));
    }
}
