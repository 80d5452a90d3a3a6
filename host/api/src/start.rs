//! `POST /agents/start`.

use std::collections::BTreeMap;

pub use bulkhead_types::IfRunning;
use bulkhead_types::message::MAX_BODY_BYTES;
use bulkhead_types::{AgentId, Secret};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::error::{Issue, parse_json, required, too_long};
use crate::settings::MAX_MODEL_BYTES;
use crate::unknown::{Parsed, parse_shared};

/// Longest name of an agent, a role, a component, a town or a rig.
const MAX_NAME_BYTES: usize = 256;

/// Longest URL of a repository.
const MAX_URL_BYTES: usize = 2048;

/// Values in `envVars` and `secrets` together.
const MAX_VALUES: usize = 512;

/// Longest name of one of them.
const MAX_KEY_BYTES: usize = 256;

/// Bytes of all their names and values together. The body that brings them has at most 2 MiB.
const MAX_VALUE_BYTES: usize = 1024 * 1024;

/// Of a key that is at fault, in characters.
const SHOWN_KEY_CHARS: usize = 64;

/// Fields of the original that are taken and not used.
const OF_THE_ORIGINAL: [&str; 4] = ["identity", "organizationId", "platformIntegrationId", "rigs"];

/// The repository that an agent is to work on, as a start request names it beside `rigId`. It is used if the role says
/// `git = true`.
#[derive(Debug, Clone, Default, PartialEq, Eq, JsonSchema)]
#[schemars(rename_all = "camelCase")]
pub struct GitRequest {
    /// Where it is: `https://`, without user and password. That of `[rigs.NAME]` if it is missing, and the same if not.
    #[schemars(rename = "gitUrl", length(max = MAX_URL_BYTES))]
    pub url: Option<String>,
    /// The agent's own branch. `bulkhead/` and its id if it is missing.
    #[schemars(length(max = MAX_NAME_BYTES))]
    pub branch: Option<String>,
    /// The branch that work starts from. That of `[rigs.NAME]` if it is missing, or `main`.
    #[schemars(length(max = MAX_NAME_BYTES))]
    pub default_branch: Option<String>,
    /// Where a new branch starts: a branch, a tag, or the full id of a commit. `defaultBranch` if it is missing.
    #[schemars(length(max = MAX_NAME_BYTES))]
    pub start_point: Option<String>,
    /// An empty repository without a remote.
    #[schemars(with = "Option<bool>")]
    pub lightweight: bool,
}

/// A start request.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema)]
#[schemars(rename_all = "camelCase")]
pub struct StartRequest {
    /// Which agent.
    pub agent_id: AgentId,
    /// The role's name in the configuration.
    #[schemars(length(min = 1, max = MAX_NAME_BYTES))]
    pub role: String,
    /// The name that people see; the agent id when the request gives none.
    #[schemars(with = "Option<String>", length(max = MAX_NAME_BYTES))]
    pub name: String,
    /// What to do first.
    #[schemars(with = "Option<String>", length(max = MAX_BODY_BYTES))]
    pub prompt: String,
    /// The town that it belongs to.
    #[schemars(length(max = MAX_NAME_BYTES))]
    pub town_id: Option<String>,
    /// The repository that it belongs to, and works on if its role says `git = true`.
    #[schemars(length(max = MAX_NAME_BYTES))]
    pub rig_id: Option<String>,
    /// What it says of that repository.
    #[schemars(flatten)]
    pub git: GitRequest,
    /// Standing instructions.
    #[schemars(length(max = MAX_BODY_BYTES))]
    pub system_prompt: Option<String>,
    /// The language model to use.
    #[schemars(length(max = MAX_MODEL_BYTES))]
    pub model: Option<String>,
    /// A cheaper one for small tasks.
    #[schemars(length(max = MAX_MODEL_BYTES))]
    pub small_model: Option<String>,
    /// For the agent's configuration and environment. Those whose names say that they are credentials, or are
    /// listed by the role, count as `secrets`.
    #[schemars(with = "Option<BTreeMap<String, Secret>>", extend("maxProperties" = MAX_VALUES))]
    #[schemars(extend("propertyNames" = { "minLength": 1, "maxLength": MAX_KEY_BYTES }))]
    pub env_vars: BTreeMap<String, Secret>,
    /// Credentials, for the agent's configuration and environment, above `envVars`. Two starts that differ in
    /// them alone ask for the same agent.
    #[schemars(with = "Option<BTreeMap<String, Secret>>", extend("maxProperties" = MAX_VALUES))]
    #[schemars(extend("propertyNames" = { "minLength": 1, "maxLength": MAX_KEY_BYTES }))]
    pub secrets: BTreeMap<String, Secret>,
    /// A configured component other than the role's.
    #[schemars(length(max = MAX_NAME_BYTES))]
    pub component: Option<String>,
    /// A memory limit other than the role's, at most the container's `max_agent_memory_mb`.
    #[schemars(range(min = 1))]
    pub memory_limit_mb: Option<u64>,
    /// What to do when the agent starts or runs already.
    #[schemars(with = "Option<IfRunning>")]
    pub if_running: IfRunning,
    /// Start although the agent is quarantined.
    #[schemars(with = "Option<bool>")]
    pub force: bool,
    /// A start deadline other than the role's.
    #[schemars(range(min = 1))]
    pub deadline_ms: Option<u64>,
}

/// As it comes in: nothing is required, so that every missing field can be named at once.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    agent_id: Option<String>,
    role: Option<String>,
    name: Option<String>,
    prompt: Option<String>,
    town_id: Option<String>,
    rig_id: Option<String>,
    git_url: Option<String>,
    branch: Option<String>,
    default_branch: Option<String>,
    start_point: Option<String>,
    lightweight: Option<bool>,
    system_prompt: Option<String>,
    model: Option<String>,
    small_model: Option<String>,
    env_vars: Option<BTreeMap<String, Secret>>,
    secrets: Option<BTreeMap<String, Secret>>,
    component: Option<String>,
    memory_limit_mb: Option<u64>,
    if_running: Option<IfRunning>,
    force: Option<bool>,
    deadline_ms: Option<u64>,
}

impl StartRequest {
    /// Parses and checks a request from the disk or from the town. Fields that are not known do nothing.
    pub fn parse(json: &[u8]) -> Result<Self, Vec<Issue>> {
        Self::check(parse_json(json)?)
    }

    /// Parses and checks a body.
    pub fn parse_body(body: &[u8]) -> Result<Parsed<Self>, Vec<Issue>> {
        parse_shared(body, &OF_THE_ORIGINAL)?.map(Self::check)
    }

    /// Reads bytes as a body, as a row, and says what is wrong with them. For tests and fuzzing: nothing comes of it.
    pub fn read_any(bytes: &[u8]) {
        if let Err(issues) = Self::parse_body(bytes) {
            issues.iter().for_each(|issue| _ = (issue.path.len(), issue.message.len()));
        }
        if let Ok(request) = Self::parse(bytes) {
            assert!(request.beyond_bounds().is_empty(), "it was checked");
        }
    }

    /// A request for `agent_id` in `role`, everything else at its default.
    pub fn new(agent_id: AgentId, role: impl Into<String>) -> Self {
        Self {
            name: agent_id.to_string(),
            agent_id,
            role: role.into(),
            prompt: String::new(),
            town_id: None,
            rig_id: None,
            git: GitRequest::default(),
            system_prompt: None,
            model: None,
            small_model: None,
            env_vars: BTreeMap::new(),
            secrets: BTreeMap::new(),
            component: None,
            memory_limit_mb: None,
            if_running: IfRunning::default(),
            force: false,
            deadline_ms: None,
        }
    }

    fn check(raw: Raw) -> Result<Self, Vec<Issue>> {
        let mut issues = Vec::new();
        let agent_id = match required("agentId", raw.agent_id.as_deref()) {
            Some(issue) => {
                issues.push(issue);
                None
            }
            None => AgentId::parse(raw.agent_id.as_deref().unwrap_or_default())
                .map_err(|error| issues.push(Issue::new("agentId", error.to_string())))
                .ok(),
        };
        issues.extend(required("role", raw.role.as_deref()));
        if raw.memory_limit_mb == Some(0) {
            issues.push(Issue::new("memoryLimitMb", "must be at least 1"));
        }
        if raw.deadline_ms == Some(0) {
            issues.push(Issue::new("deadlineMs", "must be at least 1"));
        }
        let (Some(agent_id), [], Some(role)) = (agent_id, issues.as_slice(), raw.role) else {
            return Err(issues);
        };
        let git = GitRequest {
            url: raw.git_url,
            branch: raw.branch,
            default_branch: raw.default_branch,
            start_point: raw.start_point,
            lightweight: raw.lightweight.unwrap_or(false),
        };
        let request = Self {
            name: raw.name.unwrap_or_else(|| agent_id.to_string()),
            agent_id,
            role,
            prompt: raw.prompt.unwrap_or_default(),
            town_id: raw.town_id,
            rig_id: raw.rig_id,
            git,
            system_prompt: raw.system_prompt,
            model: raw.model,
            small_model: raw.small_model,
            env_vars: raw.env_vars.unwrap_or_default(),
            secrets: raw.secrets.unwrap_or_default(),
            component: raw.component,
            memory_limit_mb: raw.memory_limit_mb,
            if_running: raw.if_running.unwrap_or_default(),
            force: raw.force.unwrap_or(false),
            deadline_ms: raw.deadline_ms,
        };
        let issues = request.beyond_bounds();
        if issues.is_empty() { Ok(request) } else { Err(issues) }
    }

    /// What of it is larger than it may be. Whatever lists agents repeats most of it.
    pub fn beyond_bounds(&self) -> Vec<Issue> {
        let text = |path, text: &Option<String>, most| too_long(path, text.as_deref(), most);
        let git = |path, of: fn(&GitRequest) -> &Option<String>, most| {
            too_long(path, of(&self.git).as_deref(), most)
        };
        let mut issues: Vec<_> = [
            too_long("role", Some(&self.role), MAX_NAME_BYTES),
            too_long("name", Some(&self.name), MAX_NAME_BYTES),
            too_long("prompt", Some(&self.prompt), MAX_BODY_BYTES),
            text("townId", &self.town_id, MAX_NAME_BYTES),
            text("rigId", &self.rig_id, MAX_NAME_BYTES),
            git("gitUrl", |git| &git.url, MAX_URL_BYTES),
            git("branch", |git| &git.branch, MAX_NAME_BYTES),
            git("defaultBranch", |git| &git.default_branch, MAX_NAME_BYTES),
            git("startPoint", |git| &git.start_point, MAX_NAME_BYTES),
            text("systemPrompt", &self.system_prompt, MAX_BODY_BYTES),
            text("model", &self.model, MAX_MODEL_BYTES),
            text("smallModel", &self.small_model, MAX_MODEL_BYTES),
            text("component", &self.component, MAX_NAME_BYTES),
        ]
        .into_iter()
        .flatten()
        .collect();
        let maps = [("envVars", &self.env_vars), ("secrets", &self.secrets)];
        let values =
            || maps.iter().flat_map(|(path, map)| map.iter().map(move |value| (path, value)));
        let count = values().count();
        if count > MAX_VALUES {
            let text = format!("has {count} values with secrets, at most {MAX_VALUES} are taken");
            issues.push(Issue::new("envVars", text));
            return issues;
        }
        for (path, (key, _)) in values() {
            if key.is_empty() || key.len() > MAX_KEY_BYTES {
                let shown: String = key.chars().take(SHOWN_KEY_CHARS).collect();
                let text = format!("a name must have 1 to {MAX_KEY_BYTES} bytes");
                issues.push(Issue::new(format!("{path}.{shown}"), text));
            }
        }
        let bytes: usize = values().map(|(_, (key, value))| key.len() + value.expose().len()).sum();
        if bytes > MAX_VALUE_BYTES {
            let text =
                format!("has {bytes} bytes with secrets, at most {MAX_VALUE_BYTES} are taken");
            issues.push(Issue::new("envVars", text));
        }
        issues
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn issues(body: &str) -> Vec<(String, String)> {
        let issues = StartRequest::parse(body.as_bytes()).unwrap_err();
        issues.into_iter().map(|issue| (issue.path, issue.message)).collect()
    }

    #[test]
    fn the_original_body_is_accepted() {
        let body = r#"{"agentId":"a1","rigId":"r","townId":"t","role":"polecat","name":"Ann","identity":"x",
            "prompt":"go","model":"m","gitUrl":"u","branch":"b","defaultBranch":"main","envVars":{"K":"v"}}"#;
        let Parsed { request, ignored } = StartRequest::parse_body(body.as_bytes()).unwrap();
        assert!(ignored.is_empty());
        assert_eq!(request.agent_id.as_str(), "a1");
        assert_eq!(request.env_vars["K"].expose(), "v");
        assert_eq!(request.if_running, IfRunning::Join);
        assert_eq!(request.git.url.as_deref(), Some("u"));
        assert_eq!(request.git.branch.as_deref(), Some("b"));
    }

    /// A bounded part of what the fuzz target does without end.
    #[test]
    fn noise_in_a_start_is_survived() {
        const SEEDS: [&str; 3] = [
            r#"{"agentId":"a1","role":"r","prompt":"go","envVars":{"K":"v"},"secrets":{"S":"s"},"force":true}"#,
            r#"{"agentId":"a\u0000","role":"r","memory_limit_mb":64,"deadlineMs":1e3,"ifRunning":"keep","x":[[[]]]}"#,
            r#"{"agentId":"\ud83d\ude00","role":null,"rigs":[{"a":1}],"futureField":{"b":[1,2]}}"#,
        ];
        let mut random = fastrand::Rng::with_seed(9);
        for round in 0..20_000 {
            let mut bytes = SEEDS[round % SEEDS.len()].as_bytes().to_vec();
            for _ in 0..=random.usize(..4) {
                let at = random.usize(..bytes.len());
                match random.u8(..4) {
                    0 => bytes[at] = random.u8(..),
                    1 => bytes[at] = b"{}[]\",:\\"[random.usize(..8)],
                    2 => bytes.truncate(at.max(1)),
                    _ => {
                        let other = SEEDS[random.usize(..SEEDS.len())].as_bytes();
                        bytes.splice(at..at, other[random.usize(..other.len())..].iter().copied());
                    }
                }
            }
            StartRequest::read_any(&bytes);
        }
        StartRequest::read_any("[".repeat(100_000).as_bytes());
    }

    #[test]
    fn a_misspelt_field_is_refused_and_a_newer_one_is_named() {
        let parse = |more: &str| {
            let body = format!(r#"{{"agentId":"a","role":"r"{more}}}"#);
            StartRequest::parse_body(body.as_bytes())
        };
        let issues = parse(r#","memoryLimitMB":64,"if_running":"keep""#).unwrap_err();
        let expected = [
            Issue::new("memoryLimitMB", "is not known here; did you mean memoryLimitMb?"),
            Issue::new("if_running", "is not known here; did you mean ifRunning?"),
        ];
        assert_eq!(issues, expected);
        assert_eq!(
            parse(r#","futureField":1,"lightweight":true"#).unwrap().ignored,
            ["futureField"]
        );
        // A row of the town or of the disk may be of a newer program.
        let row = br#"{"agentId":"a","role":"r","memoryLimitMB":64}"#;
        assert_eq!(StartRequest::parse(row).unwrap().memory_limit_mb, None);
    }

    #[test]
    fn every_text_and_map_has_its_bound() {
        let body = |path: &str, text: String| {
            let mut body = serde_json::json!({"agentId": "a", "role": "r"});
            body[path] = text.into();
            body.to_string()
        };
        for (path, most) in [
            ("role", 256),
            ("name", 256),
            ("townId", 256),
            ("rigId", 256),
            ("model", 256),
            ("smallModel", 256),
            ("component", 256),
            ("prompt", MAX_BODY_BYTES),
            ("systemPrompt", MAX_BODY_BYTES),
        ] {
            assert!(StartRequest::parse(body(path, "x".repeat(most)).as_bytes()).is_ok(), "{path}");
            let found = issues(&body(path, "x".repeat(most + 1)));
            assert_eq!(found, [(path.to_owned(), format!("must have at most {most} bytes"))]);
        }
        let values = |count: usize, key: usize, value: usize| {
            let pair = |n| format!("\"{n:0key$}\":\"{}\"", "x".repeat(value));
            let map = format!("{{{}}}", (0..count).map(pair).collect::<Vec<_>>().join(","));
            format!(r#"{{"agentId":"a","role":"r","envVars":{map},"secrets":{{"S":"s"}}}}"#)
        };
        assert!(StartRequest::parse(values(511, 256, 1).as_bytes()).is_ok());
        for (body, path) in [
            (values(512, 1, 1), "envVars".to_owned()),
            (values(2, 1, 512 * 1024), "envVars".to_owned()),
            (values(1, 257, 1), format!("envVars.{}", "0".repeat(64))),
            (
                r#"{"agentId":"a","role":"r","secrets":{"":"hunter2"}}"#.to_owned(),
                "secrets.".to_owned(),
            ),
        ] {
            let found = issues(&body);
            assert_eq!((found.len(), &found[0].0), (1, &path));
            assert!(!found[0].1.contains("hunter2"));
        }
    }

    #[test]
    fn every_missing_field_is_named_at_once() {
        let paths: Vec<_> = issues("{}").into_iter().map(|(path, _)| path).collect();
        assert_eq!(paths, ["agentId", "role"]);
    }

    #[test]
    fn a_wrong_type_is_named_by_its_path() {
        assert_eq!(issues(r#"{"agentId":"a","role":"r","envVars":{"K":1}}"#)[0].0, "envVars.K");
        assert_eq!(issues(r#"{"agentId":7}"#)[0].0, "agentId");
        assert_eq!(issues("not json")[0].0, ".");
        assert_eq!(issues(r#"["a","echo"]"#)[0].0, ".");
        assert_eq!(issues(r#"{"agentId":"a","role":"r"} tail"#)[0].0, ".");
    }

    #[test]
    fn a_value_is_never_quoted() {
        for body in [
            r#"{"envVars":"hunter2"}"#,
            r#"{"envVars":{"K":["hunter2"]}}"#,
            r#"{"secrets":"hunter2"}"#,
            r#"{"secrets":{"K":["hunter2"]}}"#,
            r#"{"ifRunning":"hunter2"}"#,
        ] {
            let issues = format!("{:?}", issues(body));
            assert!(!issues.contains("hunter2"), "{issues}");
            assert!(issues.contains("expected"), "{issues}");
        }
    }

    #[test]
    fn an_id_that_is_no_id_is_an_issue() {
        assert_eq!(issues(r#"{"agentId":"a/b","role":"r"}"#)[0].0, "agentId");
        assert_eq!(issues(r#"{"agentId":"a\u0000","role":"r"}"#)[0].0, "agentId");
    }
}
