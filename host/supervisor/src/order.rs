//! A start as it is written down, so that a later run of the host can make it again.
//!
//! It is what was asked for and not what came of it: limits, the component's file and the role's secrets come
//! from the configuration of the run that starts it. The values of `envVars` and `secrets` are in it. They leave the
//! process in no other way than into the database, whose files only its owner may read.

use std::collections::{BTreeMap, BTreeSet};

use bulkhead_api::StartRequest;
use bulkhead_store::database::Private;
use bulkhead_telemetry::TraceContext;
use bulkhead_types::{AgentId, Secret};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

/// Where a start comes from.
pub(crate) enum Origin {
    /// Somebody asked for it, perhaps as part of a trace.
    Asked(Option<TraceContext>),
    /// The configuration wants it at boot. The digest names what it wants.
    Configured { digest: String },
    /// An earlier run had it, no matter who asked for it then.
    EarlierRun { configured: Option<String> },
}

impl Origin {
    /// The span that caused it.
    pub(crate) fn trace(&self) -> Option<&TraceContext> {
        match self {
            Self::Asked(trace) => trace.as_ref(),
            Self::Configured { .. } | Self::EarlierRun { .. } => None,
        }
    }

    /// What the configuration wanted, when the start goes back to it.
    pub(crate) fn digest(&self) -> Option<&str> {
        match self {
            Self::Asked(_) => None,
            Self::Configured { digest } => Some(digest),
            Self::EarlierRun { configured } => configured.as_deref(),
        }
    }
}

/// The body of the request once more, and whether the configuration made it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Record<'a> {
    agent_id: &'a AgentId,
    role: &'a str,
    name: &'a str,
    prompt: &'a str,
    town_id: Option<&'a str>,
    rig_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    git_url: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    branch: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    default_branch: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    start_point: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lightweight: Option<bool>,
    system_prompt: Option<&'a str>,
    model: Option<&'a str>,
    small_model: Option<&'a str>,
    env_vars: BTreeMap<&'a str, &'a str>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    secrets: BTreeMap<&'a str, &'a str>,
    component: Option<&'a str>,
    memory_limit_mb: Option<u64>,
    deadline_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    configured: Option<&'a str>,
}

/// The part of a record that no request has.
#[derive(Deserialize)]
struct Mark {
    configured: Option<String>,
}

/// What to write down of a request.
pub(crate) fn record<'a>(request: &'a StartRequest, configured: Option<&'a str>) -> Private {
    let exposed = |values: &'a BTreeMap<String, Secret>| {
        values.iter().map(|(key, value)| (key.as_str(), value.expose())).collect()
    };
    let git = &request.git;
    let record = Record {
        agent_id: &request.agent_id,
        role: &request.role,
        name: &request.name,
        prompt: &request.prompt,
        town_id: request.town_id.as_deref(),
        rig_id: request.rig_id.as_deref(),
        git_url: git.url.as_deref(),
        branch: git.branch.as_deref(),
        default_branch: git.default_branch.as_deref(),
        start_point: git.start_point.as_deref(),
        lightweight: Some(git.lightweight).filter(|is| *is),
        system_prompt: request.system_prompt.as_deref(),
        model: request.model.as_deref(),
        small_model: request.small_model.as_deref(),
        env_vars: exposed(&request.env_vars),
        secrets: exposed(&request.secrets),
        component: request.component.as_deref(),
        memory_limit_mb: request.memory_limit_mb,
        deadline_ms: request.deadline_ms,
        configured,
    };
    // Strings, numbers and maps with string keys: nothing of it can fail.
    serde_json::to_string(&record).unwrap_or_default().into()
}

/// The request that was written down, and what the configuration wanted when it made it. An error names what
/// is wrong with the record, and no value of it.
pub(crate) fn read(record: &str) -> Result<(StartRequest, Option<String>), String> {
    let request = StartRequest::parse(record.as_bytes()).map_err(|issues| {
        let issues = issues.iter().map(|issue| format!("{}: {}", issue.path, issue.message));
        format!("its record is no start: {}", issues.collect::<Vec<_>>().join("; "))
    })?;
    let mark = serde_json::from_str::<Mark>(record).ok();
    Ok((request, mark.and_then(|mark| mark.configured)))
}

/// What may be shown of a record: the start without the values of its environment and its secrets, and the names
/// of both.
pub(crate) fn public(record: &str) -> Option<(Box<RawValue>, Vec<String>)> {
    let mut fields: serde_json::Map<String, Value> = serde_json::from_str(record).ok()?;
    fields.remove("configured");
    let mut env = BTreeSet::new();
    for values in ["envVars", "secrets"] {
        if let Some(Value::Object(values)) = fields.remove(values) {
            env.extend(values.into_iter().map(|(name, _)| name));
        }
    }
    let env = env.into_iter().collect();
    // What a request does not say is not said.
    fields.retain(|_, value| !value.is_null());
    Some((serde_json::value::to_raw_value(&fields).ok()?, env))
}

/// What of a record may leave the machine: the start without its environment and its secrets, and what the configuration
/// wanted. `read` reads it like a record.
pub fn without_secrets(record: &str) -> Option<Box<RawValue>> {
    let mut fields: serde_json::Map<String, Value> = serde_json::from_str(record).ok()?;
    fields
        .retain(|name, value| !matches!(name.as_str(), "envVars" | "secrets") && !value.is_null());
    serde_json::value::to_raw_value(&fields).ok()
}

/// Whether two requests ask for the same but for the values of the environment and the secrets.
pub(crate) fn is_same(one: &StartRequest, other: &StartRequest) -> bool {
    let without_env = |request: &StartRequest| {
        let (env_vars, secrets) = (BTreeMap::new(), BTreeMap::new());
        record(&StartRequest { env_vars, secrets, ..request.clone() }, None)
    };
    without_env(one) == without_env(other)
}

/// Names what the configuration wants of an agent. Another digest is another request.
pub(crate) fn digest(request: &StartRequest) -> String {
    let hash = Sha256::digest(record(request, None).as_bytes());
    hash[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_reads_back_as_it_was() {
        let mut request = StartRequest::new(AgentId::parse("a1").unwrap(), "polecat");
        request.name = "Ann \"\u{1}".into();
        request.prompt = "go\n".into();
        (request.town_id, request.rig_id) = (Some("t".into()), Some("r".into()));
        (request.model, request.small_model) = (Some("m".into()), Some("s".into()));
        request.system_prompt = Some("be brief".into());
        request.env_vars.insert("KEY".into(), "hunter2".to_owned().into());
        request.secrets.insert("MORE".into(), "hunter3".to_owned().into());
        (request.component, request.memory_limit_mb) = (Some("c".into()), Some(7));
        request.deadline_ms = Some(9);
        request.git.url = Some("https://x/y".into());
        request.git.branch = Some("b".into());
        request.git.default_branch = Some("d".into());
        request.git.start_point = Some("s".into());
        request.git.lightweight = true;
        assert_eq!(read(&record(&request, None)), Ok((request.clone(), None)));
        let digest = digest(&request);
        let read_back = read(&record(&request, Some(&digest)));
        assert_eq!(read_back, Ok((request.clone(), Some(digest.clone()))));
        request.prompt.push('!');
        assert_ne!(super::digest(&request), digest);
    }

    #[test]
    fn what_may_be_shown_of_a_record_has_no_value_of_its_environment() {
        let mut request = StartRequest::new(AgentId::parse("a1").unwrap(), "polecat");
        request.env_vars.insert("KEY".into(), "hunter2".to_owned().into());
        request.secrets.insert("MORE".into(), "hunter2".to_owned().into());
        let (public, env) = public(&record(&request, Some("digest"))).unwrap();
        assert_eq!(env, ["KEY", "MORE"]);
        assert!(!public.get().contains("hunter2") && !public.get().contains("digest"), "{public}");
        let read_back = StartRequest::parse(public.get().as_bytes()).unwrap();
        assert!(is_same(&read_back, &request) && read_back != request);
        assert!(!is_same(&StartRequest { prompt: "!".into(), ..read_back }, &request));
    }

    #[test]
    fn what_leaves_the_machine_has_no_secret_and_reads_back_as_the_same_start() {
        let mut request = StartRequest::new(AgentId::parse("a1").unwrap(), "polecat");
        request.env_vars.insert("KEY".into(), "hunter2".to_owned().into());
        request.secrets.insert("MORE".into(), "hunter2".to_owned().into());
        let left = without_secrets(&record(&request, Some("digest"))).unwrap();
        assert!(!left.get().contains("hunter2") && !left.get().contains("KEY"), "{left}");
        let (read_back, configured) = read(left.get()).unwrap();
        assert!(is_same(&read_back, &request));
        assert_eq!(configured.as_deref(), Some("digest"));
        assert!(without_secrets("").is_none());
    }

    #[test]
    fn a_record_that_is_none_says_what_is_wrong_and_no_secret() {
        for bad in ["", "{}", "[1]", r#"{"agentId":"a","role":"r","envVars":"hunter2"}"#] {
            let error = read(bad).unwrap_err();
            assert!(!error.contains("hunter2") && error.contains(": "), "{error}");
        }
    }
}
