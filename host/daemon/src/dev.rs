//! `bulkhead dev`: lends the client what only this program knows, which program it is and how its configuration reads.

use std::path::Path;
use std::process::ExitCode;

use bulkhead_client::{Configured, DevArgs, Project, RoleCode};
use bulkhead_supervisor::{Catalog, Role};
use bulkhead_terminal::ColourChoice;

use crate::config;
use crate::exit::Exit;
use crate::failure::Failure;

/// Runs until it is ended.
pub fn run(args: &DevArgs, colours: ColourChoice) -> Result<ExitCode, Failure> {
    let program = std::env::current_exe().map_err(|error| {
        Failure::new(Exit::CannotRun, format!("cannot find this program to run the host: {error}"))
    })?;
    Ok(bulkhead_client::run_dev(args, colours, project, &program))
}

/// What is in a configuration for an author. It is read and checked as `bulkhead run` does it.
fn project(path: &Path) -> Result<Project, String> {
    let settings = config::load(path).map_err(|failure| failure.to_string())?;
    let Catalog { roles, components, .. } = &settings.catalog;
    let code = |role: &Role| {
        let source = role.source.as_ref().map(|source| &source.path);
        source.or_else(|| components.get(&role.component)).cloned()
    };
    let roles = roles
        .iter()
        .filter_map(|(name, role)| Some(RoleCode { name: name.to_string(), path: code(role)? }));
    Ok(Project {
        roles: roles.collect(),
        agents: settings.agents,
        control: Configured {
            listen: settings.control.listen,
            token: settings.control.token,
            state_dir: settings.state_dir,
        },
    })
}
