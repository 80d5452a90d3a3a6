//! The document of the API against the real host: schemathesis asks what the document allows and what it does not, and
//! every answer has to be one that the document says. `just api-check` installs it and runs this.

use std::process::Command;

use harness::Host;

/// Longest run of a tool, as `timeout` reads it.
const LIMIT: &str = "20m";

/// Where the agents come from that schemathesis plays with. The document's own example starts one in role `polecat`.
fn host() -> Host {
    Host::builder().role("polecat", "echo", "").start().ready()
}

#[test]
#[ignore = "wants schemathesis: `just api-check`"]
fn the_host_answers_as_its_document_says() {
    let packages =
        std::env::var_os("API_CHECK").expect("API_CHECK names the directory of schemathesis");
    let host = host();
    let client = host.client();
    for agent in ["polecat-1", "polecat-2"] {
        client.start(agent, "polecat");
    }
    let at = format!("http://{}", host.address());
    let document = client.get("/openapi.json").expect(200);
    let file = host.dir().join("openapi.json");
    std::fs::write(&file, document.to_string()).unwrap();

    let run = |arguments: &[&str]| {
        // In the foreground: Ctrl-C reaches Python as well.
        let status = Command::new("timeout")
            .args(["--foreground", "--kill-after=10s", LIMIT, "python3"])
            .args(arguments)
            .env("PYTHONPATH", &packages)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("CONTROL_TOKEN", client.token().unwrap_or_default())
            .current_dir(host.dir())
            .status();
        let status = status.expect("timeout");
        assert!(status.success(), "{status} (124: longer than {LIMIT}): {arguments:?}");
    };
    let file = file.to_str().unwrap();
    run(&["-m", "openapi_spec_validator", "--schema", "3.1", file]);
    let config = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/api_document/schemathesis.toml");
    // Streams have no end, tools have a protocol of their own, and a component is no JSON.
    let others = ["--exclude-path-regex", "(/events/stream|/ws|/mcp|/upgrade)$"];
    let asks = ["-m", "schemathesis.cli", "--config-file", config, "run", file, "--url", &at];
    run(&[&asks[..], &others].concat());
    // It is as well as before.
    client.health();
    host.finish();
}
