//! `GET /api/towns/{townId}/container-registry`: the agents that the town wants in its container.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use bulkhead_types::{AgentId, Secret};
use serde::Deserialize;
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value};

use crate::error::parse_json;
use crate::start::StartRequest;

/// Agents that one registry may have. More are no registry.
pub const MAX_AGENTS: usize = 100_000;

/// The environment of an agent, as the town has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TownEnv {
    /// Names and values.
    Values(BTreeMap<String, Secret>),
    /// Names alone: the town does not keep values.
    Names(Vec<String>),
}

/// A row as it came. Secrets may be in it: it is never printed.
#[derive(Clone)]
pub struct RawRow(Arc<RawValue>);

impl RawRow {
    /// The row, for the town it came from.
    pub fn json(&self) -> &RawValue {
        &self.0
    }

    /// The row of an agent that can be read, with the names of its environment and without their values.
    pub fn without_values(&self) -> Self {
        let mut names = Vec::new();
        let Ok(mut row) = serde_json::from_str::<Map<String, Value>>(self.0.get()) else {
            return self.clone();
        };
        let in_request = row.get_mut("request").and_then(Value::as_object_mut);
        let values = [in_request.and_then(|request| request.remove("envVars")), row.remove("env")];
        for values in values.into_iter().flatten() {
            match values {
                Value::Object(values) => {
                    names.extend(values.into_iter().map(|(name, _)| name.into()))
                }
                Value::Array(more) => names.extend(more),
                _ => {}
            }
        }
        row.insert("env".into(), Value::Array(names));
        // Made of JSON: nothing of it can fail.
        to_raw_value(&row).map_or_else(|_| self.clone(), |row| Self(row.into()))
    }
}

impl fmt::Debug for RawRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl PartialEq for RawRow {
    fn eq(&self, other: &Self) -> bool {
        self.0.get() == other.0.get()
    }
}

impl Eq for RawRow {}

/// A row of an agent that is there and cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnreadableRow {
    /// Which agent.
    pub agent_id: AgentId,
    /// What is wrong with it.
    pub problem: String,
    /// As it came.
    pub row: RawRow,
}

/// One agent that the town wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TownAgent {
    /// Its start.
    pub request: StartRequest,
    /// Its environment.
    pub env: TownEnv,
    /// As it came.
    pub row: RawRow,
}

/// The agents that the town wants.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TownRegistry {
    /// Those whose row can be read, each id once.
    pub agents: Vec<TownAgent>,
    /// Those that are there and cannot be read.
    pub unreadable: Vec<UnreadableRow>,
    /// Rows that do not even say which agent they are about. While there are any, an agent that is not
    /// listed may be one of them.
    pub nameless: Vec<RawRow>,
}

/// As it comes in.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    agent_id: AgentId,
    request: Option<Box<RawValue>>,
    env: Option<Box<RawValue>>,
}

/// The part of a row that says which agent it is about.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Named {
    agent_id: AgentId,
}

impl TownRegistry {
    /// Reads the rows. What is wrong with one of them costs no other. An error says what is wrong with the
    /// whole, and quotes none of it.
    pub fn parse(rows: &[Box<RawValue>]) -> Result<Self, String> {
        if rows.len() > MAX_AGENTS {
            let count = rows.len();
            return Err(format!("the registry has {count} agents, at most {MAX_AGENTS} are read"));
        }
        let mut registry = Self::default();
        let mut seen = std::collections::HashSet::new();
        for row in rows {
            let Ok(Named { agent_id }) = serde_json::from_str::<Named>(row.get()) else {
                registry.nameless.push(RawRow(row.clone().into()));
                continue;
            };
            // The first row counts.
            if !seen.insert(agent_id.clone()) {
                continue;
            }
            let row = RawRow(row.clone().into());
            match read(&row) {
                Ok(agent) => registry.agents.push(agent),
                Err(problem) => {
                    registry.unreadable.push(UnreadableRow { agent_id, problem, row });
                }
            }
        }
        Ok(registry)
    }

    /// Whether the town wants this agent, however its row reads.
    pub fn lists(&self) -> impl Iterator<Item = &AgentId> {
        let readable = self.agents.iter().map(|agent| &agent.request.agent_id);
        readable.chain(self.unreadable.iter().map(|row| &row.agent_id))
    }
}

fn read(row: &RawRow) -> Result<TownAgent, String> {
    let issues = |issues: Vec<crate::Issue>| {
        let texts = issues.iter().map(|issue| format!("{}: {}", issue.path, issue.message));
        texts.collect::<Vec<_>>().join("; ")
    };
    let raw: Raw = parse_json(row.json().get().as_bytes()).map_err(issues)?;
    let request = raw.request.ok_or("request: is required")?;
    let mut request = StartRequest::parse(request.get().as_bytes())
        .map_err(|found| format!("request: {}", issues(found)))?;
    if request.agent_id != raw.agent_id {
        return Err(format!("request: it is about {}", request.agent_id));
    }
    let env = env(raw.env.as_deref())?;
    if let TownEnv::Values(values) = &env {
        request.env_vars.extend(values.clone());
    }
    Ok(TownAgent { request, env, row: row.clone() })
}

fn env(json: Option<&RawValue>) -> Result<TownEnv, String> {
    let Some(json) = json.map(RawValue::get).filter(|json| *json != "null") else {
        return Ok(TownEnv::Values(BTreeMap::new()));
    };
    // The parser's words may quote a value.
    if json.starts_with('[') {
        let names = serde_json::from_str(json).map(TownEnv::Names);
        return names.map_err(|_| "env: expected names, or names with values".to_owned());
    }
    let values = serde_json::from_str(json).map(TownEnv::Values);
    values.map_err(|_| "env: expected texts by name".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> TownRegistry {
        TownRegistry::parse(&serde_json::from_str::<Vec<_>>(json).unwrap()).unwrap()
    }

    #[test]
    fn a_row_is_a_start_with_its_environment() {
        let registry = parse(
            r#"[{"agentId":"a","request":{"agentId":"a","role":"mayor","rigId":"r","gitUrl":"u"},
                 "workdir":"/w","env":{"K":"v"}},
                {"agentId":"b","request":{"agentId":"b","role":"polecat"},"env":["K","L"]},
                {"agentId":"c","request":{"agentId":"c","role":"polecat"}}]"#,
        );
        let [a, b, c] = registry.agents.as_slice() else { panic!("{registry:?}") };
        assert_eq!(
            (a.request.env_vars["K"].expose(), a.request.rig_id.as_deref()),
            ("v", Some("r"))
        );
        assert_eq!(b.env, TownEnv::Names(vec!["K".into(), "L".into()]));
        assert_eq!(c.env, TownEnv::Values(BTreeMap::new()));
        assert!(registry.unreadable.is_empty() && registry.nameless.is_empty());
    }

    #[test]
    fn a_row_goes_back_with_all_that_it_says_but_the_values_of_the_environment() {
        let registry = parse(
            r#"[{"agentId":"a","request":{"agentId":"a","role":"r","gitUrl":"u",
                 "envVars":{"K":"hunter1"}},"env":{"L":"hunter2"},"note":7}]"#,
        );
        let row = registry.agents[0].row.without_values();
        let expected = serde_json::json!({
            "agentId": "a", "request": {"agentId": "a", "role": "r", "gitUrl": "u"},
            "env": ["K", "L"], "note": 7,
        });
        assert_eq!(serde_json::from_str::<Value>(row.json().get()).unwrap(), expected);
        assert!(!format!("{registry:?}").contains("hunter"));
    }

    #[test]
    fn a_bad_row_costs_no_other_and_is_still_listed() {
        let registry = parse(
            r#"[7, {"agentId":"a/b"}, {"agentId":"x"}, {"agentId":"y","request":{"agentId":"y"}},
                {"agentId":"z","request":{"agentId":"q","role":"r"}},
                {"agentId":"e","request":{"agentId":"e","role":"r"},"env":{"K":["hunter2"]}},
                {"agentId":"ok","request":{"agentId":"ok","role":"r"}},
                {"agentId":"ok","request":{"agentId":"ok","role":"other"}}]"#,
        );
        assert_eq!((registry.nameless.len(), registry.agents.len()), (2, 1));
        let nameless: Vec<_> = registry.nameless.iter().map(|row| row.json().get()).collect();
        assert_eq!(nameless, ["7", r#"{"agentId":"a/b"}"#], "as they came");
        assert_eq!(registry.agents[0].request.role, "r");
        let problems = format!("{:?}", registry.unreadable);
        assert!(
            problems.contains("is required") && problems.contains("it is about q"),
            "{problems}"
        );
        assert!(!problems.contains("hunter2"), "{problems}");
        let listed: Vec<_> = registry.lists().map(ToString::to_string).collect();
        assert_eq!(listed, ["ok", "x", "y", "z", "e"]);
    }
}
