//! Clients that others made: chat clients and clients of tools from package registries. `just clients` installs them and runs these.

use std::path::{Path, PathBuf};
use std::process::Command;

use harness::{Host, files, model_server};

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/clients").join(name)
}

/// Runs a client against a town with a mayor and one that crashes. It says itself whether all is right.
fn run(command: Command) {
    run_after(command, |_| {});
}

/// The same, when something has happened there.
fn run_after(mut command: Command, happened: impl FnOnce(&Host)) {
    let model = model_server();
    let builder = Host::builder().guest("mayor").guest("puppet").model(&model, "");
    let host = builder.toml("[server]\nmcp = \"change\"").start().ready();
    host.client().start("mayor", "mayor");
    host.client().start("puppet", "puppet");
    happened(&host);
    command.env("URL", format!("http://{}", host.address()));
    command.env("BASE_URL", format!("http://{}/v1", host.address()));
    command.env("BULKHEAD", files::binary());
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

/// The puppet dies of a panic, and its record has lines.
fn puppet_died(host: &Host) {
    host.client().send("puppet", "panic").expect(200);
    host.wait_for_event("puppet", "agent.crash_symbolized");
}

#[test]
#[ignore = "needs Python and the package mcp: just clients"]
fn the_mcp_package_of_pypi_uses_the_tools() {
    let mut command = Command::new("python3");
    command.arg(script("mcp_tools.py")).env("PYTHONPATH", variable("CLIENTS_MCP_PYTHON"));
    run_after(command, puppet_died);
}

#[test]
#[ignore = "needs Node.js and the package @modelcontextprotocol/sdk: just clients"]
fn the_mcp_package_of_npm_uses_the_tools() {
    let mut command = Command::new("node");
    command.arg(script("mcp_tools.mjs")).env("MODULES", variable("CLIENTS_MCP_NODE"));
    run_after(command, puppet_died);
}
