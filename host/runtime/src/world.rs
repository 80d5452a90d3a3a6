//! Which world a component is of, and what is missing when it is of none that runs here.

use wasmtime::component::{Component, InstancePre, types::ComponentItem};

use crate::bindings::RunnerAgentPre;
use crate::state::State;

/// The export that makes a component an agent.
const LIFECYCLE: &str = "bulkhead:agent/lifecycle@0.2.0";

/// The export that makes a component a stock program, without its version.
const RUN: &str = "wasi:cli/run@0.2.";

/// Exports named in an error. A component may have hundreds.
const MAX_NAMED: usize = 8;

/// A component whose imports are resolved.
#[derive(Clone)]
pub(crate) enum World {
    Agent(RunnerAgentPre<State>),
    Command(wasmtime_wasi::p2::bindings::CommandPre<State>),
}

/// Says in one sentence why a component does not run here.
pub(crate) fn check(
    component: &Component,
    link: impl FnOnce(&Component) -> wasmtime::Result<InstancePre<State>>,
) -> Result<World, String> {
    let exports = exports(component);
    let is_agent = exports.iter().any(|name| name == LIFECYCLE);
    let is_command = exports.iter().any(|name| name.starts_with(RUN));
    if !is_agent && !is_command {
        return Err(format!(
            "it exports {}, and neither {LIFECYCLE} nor wasi:cli/run@0.2",
            list(&exports)
        ));
    }
    let pre = link(component).map_err(|error| format!("an import is missing here: {error:#}"))?;
    let world = if is_agent {
        RunnerAgentPre::new(pre).map(World::Agent)
    } else {
        wasmtime_wasi::p2::bindings::CommandPre::new(pre).map(World::Command)
    };
    world.map_err(|error| format!("an export has another shape: {error:#}"))
}

fn exports(component: &Component) -> Vec<String> {
    let engine = component.engine();
    let ty = component.component_type();
    ty.exports(engine)
        .filter(|(_, item)| !matches!(item.ty, ComponentItem::Type(_)))
        .map(|(name, _)| name.to_owned())
        .collect()
}

fn list(names: &[String]) -> String {
    match names {
        [] => "nothing".into(),
        few if few.len() <= MAX_NAMED => few.join(", "),
        many => format!("{} and {} more", many[..MAX_NAMED].join(", "), many.len() - MAX_NAMED),
    }
}
