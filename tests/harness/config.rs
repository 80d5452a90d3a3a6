//! What a test may say about the configuration. Everything else has a default that suits tests.

use std::path::Path;

use model_server::ModelServer;
use toml::{Table, Value};

use crate::host::Launch;
use crate::{Host, files, free_address, seeds};

/// Limits of a role that a test says nothing about: far above what a busy machine needs.
const ROOMY: &str = r"
memory_limit_mb = 64
cpu_ms = 20000
wall_ms = 90000
host_call_ms = 60000
start_ms = 90000
shutdown_ms = 20000
idle_ms = 0
";

/// What the misbehaviour of a guest needs in order to show.
fn tight(guest: &str) -> &'static str {
    match guest {
        "oom" | "leak" | "hog" => "memory_limit_mb = 16",
        "spin" => "cpu_ms = 500",
        "hang" => "host_call_ms = 500",
        "ignores-stop" => "shutdown_ms = 500",
        "host-error" => "fault_injection = true",
        "mayor" | "polecat" => "models = [\"default\"]",
        _ => "",
    }
}

/// Builds a [`Host`]. The agent `echo` is always among its roles.
pub struct HostBuilder {
    config: Table,
    agents: Vec<Value>,
    args: Vec<String>,
    wrapper: Vec<String>,
    terse: bool,
    compiles: bool,
}

impl Default for HostBuilder {
    fn default() -> Self {
        let config = parse(
            r#"
            [server]
            listen = "127.0.0.1:0"
            [log]
            format = "json"
            level = "debug"
            [limits]
            max_agents = 64
            "#,
        );
        let none = Vec::new;
        let (agents, terse, compiles) = (Vec::new(), false, false);
        Self { config, agents, args: none(), wrapper: none(), terse, compiles }.guest("echo")
    }
}

impl HostBuilder {
    /// Adds a guest's component, and a role of the same name with limits that let its misbehaviour
    /// show soon.
    #[must_use]
    pub fn guest(self, guest: &str) -> Self {
        let path = files::component(guest);
        self.component(guest, &path).role(guest, guest, tight(guest))
    }

    /// Adds a component by its file, which need not exist.
    #[must_use]
    pub fn component(self, name: &str, path: &Path) -> Self {
        let path = path.to_str().expect("a path in UTF-8");
        let component = Table::from_iter([("path".to_owned(), Value::from(path))]);
        self.set(&["components", name], component)
    }

    /// Adds a role, or changes one: `settings` are lines of TOML over roomy defaults.
    #[must_use]
    pub fn role(self, name: &str, component: &str, settings: &str) -> Self {
        let mut role = parse(ROOMY);
        role.insert("component".into(), component.into());
        role.extend(parse(settings));
        self.set(&["roles", name], role)
    }

    /// Adds top-level lines of TOML, for example `[limits]\ncomponent_mb = 1`.
    #[must_use]
    pub fn toml(mut self, text: &str) -> Self {
        merge(&mut self.config, parse(text));
        self
    }

    /// Open to all that reach it: for clients that show no token.
    #[must_use]
    pub fn open(self) -> Self {
        self.toml("[server]\nallow_unauthenticated = true")
    }

    /// Points the roles that may use a model to this server. An empty key is none.
    #[must_use]
    pub fn model(self, server: &ModelServer, key: &str) -> Self {
        let url = server.base_url();
        let key = if key.is_empty() { String::new() } else { format!("api_key = {key:?}\n") };
        self.toml(&format!("[models.default]\nbase_url = {url:?}\n{key}model = \"scripted\"\n"))
    }

    /// Adds an agent that the host starts at boot.
    #[must_use]
    pub fn agent(mut self, settings: &str) -> Self {
        self.agents.push(parse(settings).into());
        self
    }

    /// SIGUSR2 does this to the host.
    #[must_use]
    pub fn inject_fault(self, fault: &str) -> Self {
        self.args(&["--inject-fault", fault])
    }

    /// Adds arguments of `bulkhead run`.
    #[must_use]
    pub fn args(mut self, args: &[&str]) -> Self {
        self.args.extend(args.iter().map(ToString::to_string));
        self
    }

    /// The host is two processes: see [`Host::supervisor_pid`]. It keeps its port over restarts.
    #[must_use]
    pub fn supervise(self) -> Self {
        let address = free_address().to_string();
        self.args(&["--supervise", "--listen", &address])
    }

    /// The host is run by this command, which gets the host's command line as its last arguments.
    #[must_use]
    pub fn run_by(mut self, command: &[&str]) -> Self {
        self.wrapper = command.iter().map(ToString::to_string).collect();
        self
    }

    /// Lines about agents are only counted: [`Host::counted`].
    #[must_use]
    pub fn terse(mut self) -> Self {
        self.terse = true;
        self
    }

    /// It compiles its components itself, and takes none that were compiled for all tests.
    #[must_use]
    pub fn compiles(mut self) -> Self {
        self.compiles = true;
        self
    }

    /// Writes the configuration, starts the host, and waits until it listens.
    pub fn start(mut self) -> Host {
        if !self.compiles {
            let seed = parse(&format!("[state]\naot_seed = {:?}", seeds::guests()));
            let given = std::mem::replace(&mut self.config, seed);
            merge(&mut self.config, given);
        }
        Host::start_with(self.launch(), |state| self.render(state))
    }

    /// How the host is called, without its configuration.
    pub fn launch(&self) -> Launch {
        Launch { args: self.args.clone(), wrapper: self.wrapper.clone(), terse: self.terse }
    }

    /// The configuration as text, with this state directory.
    pub fn render(mut self, state: &Path) -> String {
        let dir = state.to_str().expect("a path in UTF-8");
        merge(&mut self.config, parse(&format!("[state]\ndir = {dir:?}")));
        if !self.agents.is_empty() {
            self.config.insert("agents".into(), self.agents.into());
        }
        self.config.to_string()
    }

    fn set(mut self, path: &[&str; 2], table: Table) -> Self {
        let names = Table::from_iter([(path[1].to_owned(), Value::Table(table))]);
        merge(&mut self.config, Table::from_iter([(path[0].to_owned(), Value::Table(names))]));
        self
    }
}

fn parse(text: &str) -> Table {
    text.parse().unwrap_or_else(|error| panic!("bad TOML in a test: {error}\n{text}"))
}

/// Tables are merged, everything else is replaced.
fn merge(into: &mut Table, from: Table) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(Value::Table(old)), Value::Table(new)) => merge(old, new),
            (_, value) => {
                into.insert(key, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_merged_over_what_is_there() {
        let mut table = parse("[a]\nx = 1\ny = 2\n");
        merge(&mut table, parse("[a]\ny = 3\n[b]\nz = 4\n"));
        assert_eq!(table, parse("[a]\nx = 1\ny = 3\n[b]\nz = 4\n"));
    }
}
