//! `GET /api/towns/{townId}/container-registry`: the agents that the town wants in its container.

use std::collections::BTreeMap;

use bulkhead_model::{AgentId, Secret};
use serde::Deserialize;
use serde_json::value::RawValue;

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

/// One agent that the town wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TownAgent {
    /// Its start.
    pub request: StartRequest,
    /// Its environment.
    pub env: TownEnv,
}

/// The agents that the town wants.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TownRegistry {
    /// Those whose row can be read, each id once.
    pub agents: Vec<TownAgent>,
    /// Those that are there and cannot be read, and why.
    pub unreadable: Vec<(AgentId, String)>,
    /// Rows that do not even say which agent they are about. While there are any, an agent that is not
    /// listed may be one of them.
    pub nameless: usize,
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
                registry.nameless += 1;
                continue;
            };
            // The first row counts.
            if !seen.insert(agent_id.clone()) {
                continue;
            }
            match read(row.get()) {
                Ok(agent) => registry.agents.push(agent),
                Err(problem) => registry.unreadable.push((agent_id, problem)),
            }
        }
        Ok(registry)
    }

    /// Whether the town wants this agent, however its row reads.
    pub fn lists(&self) -> impl Iterator<Item = &AgentId> {
        let readable = self.agents.iter().map(|agent| &agent.request.agent_id);
        readable.chain(self.unreadable.iter().map(|(id, _)| id))
    }
}

fn read(row: &str) -> Result<TownAgent, String> {
    let issues = |issues: Vec<crate::Issue>| {
        let texts = issues.iter().map(|issue| format!("{}: {}", issue.path, issue.message));
        texts.collect::<Vec<_>>().join("; ")
    };
    let raw: Raw = parse_json(row.as_bytes()).map_err(issues)?;
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
    Ok(TownAgent { request, env })
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
        assert!(registry.unreadable.is_empty() && registry.nameless == 0);
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
        assert_eq!((registry.nameless, registry.agents.len()), (2, 1));
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
