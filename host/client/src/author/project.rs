//! What the configuration says that an author works on.

use std::path::{Path, PathBuf};

use bulkhead_api::StartRequest;
use bulkhead_types::AgentId;

use crate::failure::Failure;
use crate::target::Configured;

/// A configuration, as far as `bulkhead dev` goes by it.
#[derive(Debug)]
pub struct Project {
    /// How its host is reached.
    pub control: Configured,
    /// All roles.
    pub roles: Vec<RoleCode>,
    /// What it starts at boot.
    pub agents: Vec<StartRequest>,
}

/// A role, and what its agents are made from.
#[derive(Debug, Clone)]
pub struct RoleCode {
    /// Its name.
    pub name: String,
    /// Its component; of source code the runner.
    pub component: String,
    /// Its source, a file or a directory; or its component.
    pub path: PathBuf,
    /// What paths in the frames of an exception are relative to.
    pub base: PathBuf,
    /// Its agents may use a language model.
    pub has_model: bool,
}

/// Reads a configuration as `bulkhead run` would. The error names the file.
pub type ReadProject = fn(&Path) -> Result<Project, String>;

impl Project {
    /// How the agent is started that lines are sent to: the one that is named, else the first that is configured.
    pub(crate) fn agent_to_talk_to(
        &self,
        named: Option<&AgentId>,
    ) -> Result<Option<StartRequest>, Failure> {
        let Some(id) = named else { return Ok(self.agents.first().cloned()) };
        if let Some(agent) = self.agents.iter().find(|agent| agent.agent_id == *id) {
            return Ok(Some(agent.clone()));
        }
        match &*self.roles {
            [only] => Ok(Some(StartRequest::new(id.clone(), only.name.clone()))),
            _ => Err(Failure::Usage(format!(
                "{id} is not among the [[agents]] of the configuration, which does not say its role"
            ))),
        }
    }

    /// The role of this name.
    pub(crate) fn role(&self, name: &str) -> Option<&RoleCode> {
        self.roles.iter().find(|role| role.name == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project(roles: &[&str], agents: &[(&str, &str)]) -> Project {
        let listen = "127.0.0.1:8080".parse().unwrap();
        let control = Configured { listen, token: None, state_dir: PathBuf::new() };
        let role = |name: &&str| RoleCode {
            name: (*name).to_owned(),
            component: (*name).to_owned(),
            path: PathBuf::new(),
            base: PathBuf::new(),
            has_model: false,
        };
        let agent = |(id, role): &(&str, &str)| {
            StartRequest::new(AgentId::parse(id).unwrap(), (*role).to_owned())
        };
        Project {
            control,
            roles: roles.iter().map(role).collect(),
            agents: agents.iter().map(agent).collect(),
        }
    }

    fn talks_to(project: &Project, named: Option<&str>) -> Result<Option<String>, String> {
        let named = named.map(|id| AgentId::parse(id).unwrap());
        let agent = project.agent_to_talk_to(named.as_ref());
        let agent = agent.map_err(|failure| failure.words().unwrap_or_default())?;
        Ok(agent.map(|agent| format!("{} {}", agent.agent_id, agent.role)))
    }

    #[test]
    fn the_first_agent_is_talked_to_unless_one_is_named() {
        let two = project(&["a", "b"], &[("one", "a"), ("two", "b")]);
        assert_eq!(talks_to(&two, None), Ok(Some("one a".into())));
        assert_eq!(talks_to(&two, Some("two")), Ok(Some("two b".into())));
        let error = talks_to(&two, Some("three")).unwrap_err();
        assert!(error.starts_with("three is not among the [[agents]]"), "{error}");
        assert_eq!(talks_to(&project(&["a"], &[]), None), Ok(None));
    }

    #[test]
    fn an_agent_that_is_not_configured_has_the_only_role() {
        let one = project(&["a"], &[("one", "a")]);
        assert_eq!(talks_to(&one, Some("three")), Ok(Some("three a".into())));
    }
}
