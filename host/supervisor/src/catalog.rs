//! What a start may ask for: roles and components, and the way from a request to a spec. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bulkhead_agent::{Code, StartError, StartFailure};
use bulkhead_api::{GitRequest, StartRequest};
use bulkhead_source::SourceCode;
use bulkhead_types::{
    AgentSpec, GitAuthor, GitRules, GitSpec, HttpPolicy, Limits, RestartRules, Secret,
    SnapshotRules, StartPhase, ToolRules, is_secret_name,
};
use bulkhead_workspace::Rig;

/// Bytes of a megabyte, as the configuration counts them.
const MIB: u64 = 1024 * 1024;

/// A role of the configuration.
#[derive(Debug, Clone)]
pub struct Role {
    /// Its component's name.
    pub component: Arc<str>,
    /// The source code that its component runs, if that is a runner.
    pub source: Option<SourceCode>,
    /// Arguments behind the component's name.
    pub args: Arc<[String]>,
    /// Limits of its agents.
    pub limits: Limits,
    /// What they may reach over HTTP.
    pub http: HttpPolicy,
    /// The model endpoints that they may use, by name. The first one is their default.
    pub models: Arc<[Arc<str>]>,
    /// The native programs that they may run.
    pub tools: Option<Arc<ToolRules>>,
    /// Their workspaces are repositories, where a start says of what.
    pub git: Option<GitRules>,
    /// Whether and when their state is kept.
    pub snapshots: SnapshotRules,
    /// Whether and when they are restarted after an end.
    pub restart: RestartRules,
    /// What `host.config` answers them.
    pub config: BTreeMap<String, Secret>,
    /// Names in the environment of their starts whose values are credentials, beside those that say so
    /// themselves.
    pub secret_env: BTreeSet<String>,
    /// They get a `/workspace`.
    pub workspace: bool,
    /// They may inject host faults.
    pub fault_injection: bool,
    /// Their crashes leave core dumps.
    pub core_dump: bool,
    /// A start or stop is answered when the state is shipped.
    pub durable_in_fleet: bool,
    /// What language models answer goes to those who follow an agent as it comes.
    pub live_output: bool,
    /// How readily its agents are ended when memory is short, in percent.
    pub eviction_weight_percent: u32,
}

/// Where a repository is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RigUrl {
    /// Without user and password.
    pub url: String,
    /// The branch that work starts from.
    pub default_branch: String,
}

/// The roles and components of the configuration.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    /// By name.
    pub roles: BTreeMap<Arc<str>, Role>,
    /// File of each component, by name.
    pub components: BTreeMap<Arc<str>, PathBuf>,
    /// Where repositories are, by the rig's name.
    pub rigs: BTreeMap<Arc<str>, RigUrl>,
    /// Largest memory limit that a request may ask for, in bytes.
    pub max_agent_memory_bytes: u64,
}

/// A request in the terms of the configuration.
#[derive(Debug)]
pub(crate) struct Resolved {
    /// Later starts have the time of the role, or that of the request where it is longer.
    pub spec: AgentSpec,
    /// How long this start has.
    pub patience: Duration,
    pub code: Code,
    pub workspace: bool,
}

impl Catalog {
    /// The repository of a start, if its role works on repositories and the request says on which.
    fn git(&self, role: &Role, request: &StartRequest) -> Result<Option<Arc<GitSpec>>, String> {
        let asked = &request.git;
        let says_nothing = request.rig_id.is_none() && *asked == GitRequest::default();
        let Some(rules) = role.git.as_ref().filter(|_| role.workspace && !says_nothing) else {
            return Ok(None);
        };
        let Some(rig) = request.rig_id.clone() else {
            return Err("rigId is missing: it names the repository".to_owned());
        };
        let (url, default_branch) = (asked.url.as_deref(), asked.default_branch.as_deref());
        let Rig { url, default_branch, .. } = match asked.lightweight {
            true => self.branch_of(&rig, default_branch),
            false => self.rig(&rig, url, default_branch)?,
        };
        let id = request.agent_id.as_str();
        let author = rules.author.clone().unwrap_or_else(|| GitAuthor {
            name: request.name.clone(),
            email: format!("{id}@{AUTHOR_HOST}"),
        });
        Ok(Some(Arc::new(GitSpec {
            rig,
            url,
            default_branch,
            branch: asked.branch.clone().unwrap_or_else(|| format!("bulkhead/{id}")),
            start_point: asked.start_point.clone(),
            lightweight: asked.lightweight,
            author,
            save: rules.save,
        })))
    }

    /// The repository of a rig: that of the configuration, or the one that a request names.
    pub(crate) fn rig(
        &self,
        name: &str,
        url: Option<&str>,
        default_branch: Option<&str>,
    ) -> Result<Rig, String> {
        let url = match (url, self.rigs.get(name)) {
            (Some(url), Some(known)) if url != known.url => {
                return Err(format!("gitUrl is not the url of [rigs.{name}] in the configuration"));
            }
            (_, Some(known)) => known.url.clone(),
            (Some(url), None) if url.starts_with("https://") => url.to_owned(),
            (Some(_), None) => return Err("gitUrl has to begin with https://".to_owned()),
            (None, None) => {
                let rigs = names(self.rigs.keys());
                let text = "there is no gitUrl, and no rig of that name in the configuration";
                return Err(format!("{text}, which has {rigs}"));
            }
        };
        Ok(Rig { url, ..self.branch_of(name, default_branch) })
    }

    /// A rig without a repository.
    fn branch_of(&self, name: &str, default_branch: Option<&str>) -> Rig {
        let known = self.rigs.get(name).map(|known| &*known.default_branch);
        let default_branch = default_branch.or(known).unwrap_or("main").to_owned();
        Rig { name: name.to_owned(), url: String::new(), default_branch }
    }

    /// A role, and what its agents are made from: the name of the component, and the files.
    pub(crate) fn code_of(&self, role: &str) -> Option<(Arc<str>, Arc<str>, Code)> {
        let (name, role) = self.roles.get_key_value(role)?;
        let (component, path) = self.components.get_key_value(&role.component)?;
        let code = Code { component: path.clone(), source: role.source.clone() };
        Some((Arc::clone(name), Arc::clone(component), code))
    }

    /// The roles that there are, for a person.
    pub(crate) fn role_names(&self) -> String {
        names(self.roles.keys())
    }

    /// Turns a request into a spec, or names what the configuration does not have.
    pub(crate) fn resolve(&self, request: StartRequest) -> Result<Resolved, StartError> {
        let refuse = |kind, message| StartError::new(StartPhase::Admission, kind, message);
        let Some((role_name, role)) = self.roles.get_key_value(request.role.as_str()) else {
            let known = names(self.roles.keys());
            let text = format!("unknown role {:?}; the configuration has {known}", request.role);
            return Err(refuse(StartFailure::UnknownRole, text));
        };
        let component = request.component.as_deref().unwrap_or(&role.component);
        let Some((component, path)) = self.components.get_key_value(component) else {
            let known = names(self.components.keys());
            let text = format!("unknown component {component:?}; the configuration has {known}");
            return Err(refuse(StartFailure::UnknownComponent, text));
        };
        let mut limits = role.limits.clone();
        if let Some(mb) = request.memory_limit_mb {
            limits.memory_bytes = mb.saturating_mul(MIB);
            if limits.memory_bytes > self.max_agent_memory_bytes {
                let max = self.max_agent_memory_bytes / MIB;
                let text = format!("memoryLimitMb is {mb}, at most {max} are allowed");
                return Err(refuse(StartFailure::InvalidRequest, text));
            }
        }
        if request.prompt.len() > limits.mailbox_bytes {
            let (bytes, room) = (request.prompt.len(), limits.mailbox_bytes);
            let text =
                format!("prompt has {bytes} bytes, the mailbox of the role has room for {room}");
            return Err(refuse(StartFailure::InvalidRequest, text));
        }
        let mut patience = limits.start;
        if let Some(ms) = request.deadline_ms {
            patience = Duration::from_millis(ms);
            limits.start = limits.start.max(patience);
            if patience > MAX_START {
                let text =
                    format!("deadlineMs is {ms}, at most {} are allowed", MAX_START.as_millis());
                return Err(refuse(StartFailure::InvalidRequest, text));
            }
        }
        let git = self.git(role, &request);
        let git = git.map_err(|text| refuse(StartFailure::InvalidRequest, text))?;
        // What the request brings wins over the role's configuration.
        let is_secret =
            |(name, _): &(String, Secret)| is_secret_name(name) || role.secret_env.contains(name);
        let (mut secrets, env): (BTreeMap<_, _>, BTreeMap<_, _>) =
            request.env_vars.into_iter().partition(is_secret);
        secrets.extend(request.secrets);
        let mut config = role.config.clone();
        config.extend(env.clone());
        let spec = AgentSpec {
            id: request.agent_id,
            role: Arc::clone(role_name),
            component: Arc::clone(component),
            args: Arc::clone(&role.args),
            name: request.name,
            town_id: request.town_id,
            rig_id: request.rig_id,
            prompt: request.prompt,
            system_prompt: request.system_prompt,
            model: request.model,
            small_model: request.small_model,
            config,
            env,
            secrets,
            limits,
            http: role.http.clone(),
            models: Arc::clone(&role.models),
            tools: role.tools.clone(),
            git,
            snapshots: role.snapshots.clone(),
            restart: role.restart.clone(),
            fault_injection: role.fault_injection,
            core_dump: role.core_dump,
            live_output: role.live_output,
            eviction_weight_percent: role.eviction_weight_percent,
        };
        let code = Code { component: path.clone(), source: role.source.clone() };
        Ok(Resolved { spec, patience, code, workspace: role.workspace })
    }
}

/// Longest start deadline that a request may ask for.
const MAX_START: Duration = Duration::from_secs(600);

/// No mail gets there.
const AUTHOR_HOST: &str = "agents.invalid";

fn names<'a>(keys: impl Iterator<Item = &'a Arc<str>>) -> String {
    let keys: Vec<&str> = keys.map(AsRef::as_ref).collect();
    if keys.is_empty() { "none".into() } else { keys.join(", ") }
}

/// A configuration of one role whose component has its name.
#[cfg(test)]
pub(crate) fn one_role(name: &str, component: PathBuf) -> Catalog {
    let role = Role {
        component: name.into(),
        source: None,
        args: Arc::default(),
        limits: Limits::default(),
        http: HttpPolicy::default(),
        models: ["default".into(), "big".into()].into(),
        tools: None,
        git: None,
        snapshots: SnapshotRules::default(),
        restart: RestartRules::default(),
        config: BTreeMap::from([("a".into(), "role".to_owned().into())]),
        secret_env: BTreeSet::from(["SENTRY_DSN".into()]),
        workspace: true,
        fault_injection: false,
        core_dump: false,
        durable_in_fleet: false,
        live_output: true,
        eviction_weight_percent: 100,
    };
    Catalog {
        roles: BTreeMap::from([(name.into(), role)]),
        components: BTreeMap::from([(name.into(), component)]),
        max_agent_memory_bytes: 128 * MIB,
        ..Catalog::default()
    }
}

#[cfg(test)]
mod tests {
    use bulkhead_types::AgentId;

    use super::*;

    fn known() -> RigUrl {
        RigUrl { url: "https://host/known.git".into(), default_branch: "trunk".into() }
    }

    fn catalog() -> Catalog {
        let rigs = BTreeMap::from([("known".into(), known())]);
        Catalog { rigs, ..one_role("echo", "echo.wasm".into()) }
    }

    fn request(role: &str) -> StartRequest {
        StartRequest::new(AgentId::parse("a").unwrap(), role)
    }

    #[test]
    fn what_the_configuration_does_not_have_is_named_with_what_it_has() {
        let error = catalog().resolve(request("mayor")).unwrap_err();
        assert_eq!(error.kind, StartFailure::UnknownRole);
        assert_eq!(error.message, "unknown role \"mayor\"; the configuration has echo");
        let mut other = request("echo");
        other.component = Some("x".into());
        assert_eq!(catalog().resolve(other).unwrap_err().kind, StartFailure::UnknownComponent);
    }

    #[test]
    fn the_request_wins_over_the_role_within_the_containers_bounds() {
        let mut wish = request("echo");
        wish.env_vars.insert("a".into(), "request".to_owned().into());
        wish.memory_limit_mb = Some(128);
        let resolved = catalog().resolve(wish).unwrap();
        assert_eq!(resolved.spec.config["a"].expose(), "request");
        assert_eq!(resolved.spec.limits.memory_bytes, 128 * MIB);
        let mut wish = request("echo");
        wish.memory_limit_mb = Some(129);
        assert_eq!(catalog().resolve(wish).unwrap_err().kind, StartFailure::InvalidRequest);
    }

    #[test]
    fn a_short_deadline_of_a_request_is_that_of_one_start() {
        let of_role = Limits::default().start;
        let longer = of_role + Duration::from_secs(1);
        for (asked, patience, later) in [
            (None, of_role, of_role),
            (Some(Duration::from_millis(1)), Duration::from_millis(1), of_role),
            (Some(longer), longer, longer),
        ] {
            let mut wish = request("echo");
            wish.deadline_ms = asked.map(bulkhead_types::time::millis);
            let resolved = catalog().resolve(wish).unwrap();
            assert_eq!((resolved.patience, resolved.spec.limits.start), (patience, later));
        }
    }

    #[test]
    fn a_credential_makes_no_other_agent() {
        let spec = |name: &str, value: &str| {
            let mut wish = request("echo");
            wish.env_vars.insert(name.into(), value.to_owned().into());
            catalog().resolve(wish).unwrap().spec
        };
        for name in ["GITHUB_TOKEN", "SENTRY_DSN"] {
            assert!(spec(name, "1").is_same_as(&spec(name, "2")), "{name}");
            assert!(spec(name, "1").is_same_as(&catalog().resolve(request("echo")).unwrap().spec));
        }
        assert!(!spec("MODE", "1").is_same_as(&spec("MODE", "2")));
        let mut wish = request("echo");
        wish.secrets.insert("MODE".into(), "secret".to_owned().into());
        wish.env_vars.insert("A_KEY".into(), "key".to_owned().into());
        let spec = catalog().resolve(wish).unwrap().spec;
        assert!(spec.is_same_as(&catalog().resolve(request("echo")).unwrap().spec));
        assert_eq!(spec.secrets.into_keys().collect::<Vec<_>>(), ["A_KEY", "MODE"]);
    }

    #[test]
    fn an_agent_has_the_models_of_its_role_and_others_make_another_agent() {
        let spec = |models: &[&str]| {
            let mut catalog = catalog();
            let role = catalog.roles.get_mut("echo").unwrap();
            role.models = models.iter().map(|name| Arc::from(*name)).collect();
            catalog.resolve(request("echo")).unwrap().spec
        };
        assert_eq!(*spec(&["a", "b"]).models, [Arc::from("a"), Arc::from("b")]);
        assert!(spec(&["a", "b"]).is_same_as(&spec(&["a", "b"])));
        for other in [&["b", "a"][..], &["a"], &[]] {
            assert!(!spec(&["a", "b"]).is_same_as(&spec(other)), "{other:?}");
        }
    }

    #[test]
    fn a_start_says_of_which_repository_where_the_role_works_on_repositories() {
        let resolve = |git: bool, body: &str| {
            let mut catalog = catalog();
            for role in catalog.roles.values_mut() {
                role.git = git.then_some(GitRules { author: None, save: false });
            }
            let body = format!(r#"{{"agentId":"a","role":"echo",{body}"x":1}}"#);
            let request = StartRequest::parse(body.as_bytes()).unwrap();
            catalog.resolve(request).map(|it| it.spec.git.clone()).map_err(|it| it.to_string())
        };
        let on = |body: &str| resolve(true, body);
        assert_eq!(resolve(false, r#""rigId":"known","branch":"b","#), Ok(None));
        assert_eq!(on(""), Ok(None), "no repository is wanted");
        let git = on(r#""rigId":"known","#).unwrap().unwrap();
        assert_eq!((&*git.url, &*git.default_branch), ("https://host/known.git", "trunk"));
        assert_eq!((&*git.branch, &*git.author.email), ("bulkhead/a", "a@agents.invalid"));
        let other =
            r#""rigId":"new","gitUrl":"https://host/new.git","branch":"b","startPoint":"v1","#;
        let git = on(other).unwrap().unwrap();
        assert_eq!((&*git.branch, &*git.default_branch), ("b", "main"));
        assert_eq!(git.start_point.as_deref(), Some("v1"));
        assert!(on(r#""rigId":"new","lightweight":true,"#).unwrap().unwrap().url.is_empty());
        for (body, text) in [
            (r#""branch":"b","#, "rigId is missing"),
            (r#""rigId":"new","#, "which has known"),
            (r#""rigId":"new","gitUrl":"http://host/x","#, "https://"),
            (r#""rigId":"known","gitUrl":"https://host/other.git","#, "not the url of"),
        ] {
            assert!(on(body).unwrap_err().contains(text), "{body}");
        }
    }

    #[test]
    fn other_arguments_make_another_agent() {
        let spec = |args: &[&str]| {
            let mut catalog = catalog();
            let role = catalog.roles.get_mut("echo").unwrap();
            role.args = args.iter().map(ToString::to_string).collect();
            catalog.resolve(request("echo")).unwrap().spec
        };
        assert_eq!(*spec(&["a", ""]).args, ["a", ""]);
        assert!(spec(&["a"]).is_same_as(&spec(&["a"])));
        assert!(!spec(&["a"]).is_same_as(&spec(&["b"])));
    }
}
