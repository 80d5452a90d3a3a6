//! Clients that others made: chat clients from package registries. `just clients` installs them and runs these.

use std::path::{Path, PathBuf};
use std::process::Command;

use harness::{Host, model_server};

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/clients").join(name)
}

/// Runs a client against a town with a mayor and one that crashes. It says itself whether all is right.
fn run(mut command: Command) {
    let model = model_server();
    let builder = Host::builder().guest("mayor").guest("puppet").model(&model, "");
    let host = builder.start().ready();
    host.client().start("mayor", "mayor");
    host.client().start("puppet", "puppet");
    command.env("BASE_URL", format!("http://{}/v1", host.address()));
    command.env("TOKEN", host.client().token().expect("a token"));
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stdout);
    let failed = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("all right"), "{said}{failed}");
    print!("{said}");
    host.finish();
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run `just clients`"))
}

#[test]
#[ignore = "needs Python and the package openai: just clients"]
fn the_openai_package_of_pypi_talks_to_agents() {
    let mut command = Command::new("python3");
    command.arg(script("chat.py")).env("PYTHONPATH", variable("CLIENTS_PYTHON"));
    run(command);
}

#[test]
#[ignore = "needs Node.js and the package openai: just clients"]
fn the_openai_package_of_npm_talks_to_agents() {
    let mut command = Command::new("node");
    command.arg(script("chat.mjs")).env("MODULES", variable("CLIENTS_NODE"));
    run(command);
}
