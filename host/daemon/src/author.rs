//! `bulkhead dev` and `bulkhead test`: lends the client what only this program knows, which program it is and how its configuration reads.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use bulkhead_client::{Configured, DevArgs, Project, RoleCode, TEST_DIRECTORY, TestArgs};
use bulkhead_terminal::ColourChoice;

use crate::config::{self, Settings};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::state_dir::foreign;

/// In place of the model of a test, which the child gets with its real port.
const SOME_MODEL: &str = "http://127.0.0.1:1/v1";

/// Runs a host and what is typed, until it is ended.
pub fn dev(args: &DevArgs, colours: ColourChoice) -> Result<ExitCode, Failure> {
    let read = |path: &Path| {
        let settings = config::load(path).map_err(|error| error.to_string())?;
        // Before this process leaves a log in it.
        foreign::refuse(&settings.state_dir)?;
        Ok(project(path, settings))
    };
    Ok(bulkhead_client::run_dev(args, colours, read, &this_program()?))
}

/// Runs scripts.
pub fn test(args: &TestArgs, colours: ColourChoice) -> Result<ExitCode, Failure> {
    let read = |path: &Path| {
        let settings =
            config::load_for_test(path, SOME_MODEL).map_err(|error| error.to_string())?;
        // A run empties the directory below.
        foreign::refuse(&settings.state_dir)?;
        foreign::refuse(&settings.state_dir.join(TEST_DIRECTORY))?;
        Ok(project(path, settings))
    };
    Ok(bulkhead_client::run_test(args, colours, read, &this_program()?))
}

fn this_program() -> Result<PathBuf, Failure> {
    std::env::current_exe().map_err(|error| {
        Failure::new(Exit::CannotRun, format!("cannot find this program to run the host: {error}"))
    })
}

/// What is in a configuration for an author.
fn project(path: &Path, settings: Settings) -> Project {
    let components = &settings.catalog.components;
    let roles = settings.catalog.roles.iter().filter_map(|(name, role)| {
        let (path, base) = match &role.source {
            Some(source) => (&source.path, base_of(&source.path)),
            // A build names files from where it runs: where the configuration is, mostly.
            None => (components.get(&role.component)?, config::base(path)),
        };
        let (path, base) = (path.clone(), base.to_owned());
        let has_model = !role.models.is_empty();
        let (name, component) = (name.to_string(), role.component.to_string());
        Some(RoleCode { name, component, path, base, has_model })
    });
    Project {
        roles: roles.collect(),
        agents: settings.agents,
        control: Configured {
            listen: settings.control.listen,
            token: settings.control.token,
            state_dir: settings.state_dir,
        },
    }
}

/// The directory that source code is in, or is.
fn base_of(source: &Path) -> &Path {
    if source.is_dir() { source } else { source.parent().unwrap_or(Path::new("")) }
}
