//! Configuration files that cannot be right. The host ends with 2 before it does anything, and says
//! where and what.

use std::net::TcpListener;

use harness::Host;
use harness::host::run_to_end;

/// A whole and right file. Tests break one line of it.
const RIGHT: &str = r#"[server]
listen = "127.0.0.1:0"
[log]
format = "json"
level = "info"
[state]
dir = "state"
[limits]
max_agents = 8
[components.echo]
path = "/nowhere/echo.wasm"
[roles.echo]
component = "echo"
memory_limit_mb = 64
on_memory_limit = "end"
cpu_ms = 500
http_allow = ["example.com"]
[[agents]]
id = "first"
role = "echo"
"#;

/// Exit code of a bad configuration.
const BAD_CONFIG: Option<i32> = Some(2);

/// Replaces a line of the right file: the message must name the file, the line, and all of `named`.
#[track_caller]
fn is_refused(line: &str, replacement: &str, named: &[&str]) {
    assert!(RIGHT.contains(line), "{line:?} is no line of the file");
    let config = RIGHT.replacen(line, replacement, 1);
    let number = 1 + RIGHT[..RIGHT.find(line).unwrap_or_default()].matches('\n').count();
    let dir = tempfile::tempdir().expect("make a directory");
    let path = dir.path().join("town.toml");
    std::fs::write(&path, &config).expect("write the file");
    let ended = run_to_end(&path, &[]);
    assert_eq!(ended.code, BAD_CONFIG, "{replacement:?}: {ended:?}");
    let message = &ended.stderr;
    assert!(message.contains("town.toml"), "the file is not named: {message}");
    let at_line = [format!(":{number}"), format!("line {number}")];
    assert!(at_line.iter().any(|at| message.contains(at)), "no line {number}: {message}");
    for name in named {
        assert!(message.contains(name), "{name:?} is not named: {message}");
    }
    assert!(!message.contains("panicked"), "{message}");
    assert!(!dir.path().join("state").exists(), "it did something before it looked");
}

#[test]
fn a_wrong_type() {
    is_refused("max_agents = 8", "max_agents = \"many\"", &["max_agents", "expected"]);
    is_refused("path = \"/nowhere/echo.wasm\"", "path = 7", &["path", "string"]);
    is_refused("http_allow = [\"example.com\"]", "http_allow = true", &["http_allow"]);
}

#[test]
fn an_unknown_key() {
    is_refused("max_agents = 8", "max_agent = 8", &["max_agent", "max_agents"]);
    is_refused("cpu_ms = 500", "cpu_seconds = 5", &["cpu_seconds", "cpu_ms"]);
    is_refused("[log]", "[logs]", &["logs"]);
}

#[test]
fn a_value_out_of_its_range() {
    is_refused("max_agents = 8", "max_agents = 0", &["max_agents"]);
    is_refused("cpu_ms = 500", "cpu_ms = -1", &["cpu_ms"]);
    is_refused("cpu_ms = 500", "cpu_ms = 0", &["cpu_ms"]);
    is_refused("memory_limit_mb = 64", "memory_limit_mb = 0", &["memory_limit_mb"]);
}

#[test]
fn a_word_that_is_none_of_the_choices() {
    is_refused("level = \"info\"", "level = \"loud\"", &["loud", "info"]);
    is_refused("format = \"json\"", "format = \"xml\"", &["xml", "json"]);
    let choices = ["explode", "end", "deny"];
    is_refused("on_memory_limit = \"end\"", "on_memory_limit = \"explode\"", &choices);
}

#[test]
fn a_text_that_is_not_what_it_should_be() {
    is_refused("listen = \"127.0.0.1:0\"", "listen = \"nowhere\"", &["listen", "nowhere"]);
    is_refused("http_allow = [\"example.com\"]", "http_allow = [\"http://x\"]", &["http://x"]);
    is_refused("id = \"first\"", "id = \"a/b\"", &["id", "'/'"]);
}

#[test]
fn a_name_that_leads_nowhere() {
    is_refused("component = \"echo\"", "component = \"ekho\"", &["ekho"]);
    is_refused("role = \"echo\"", "role = \"ekho\"", &["ekho"]);
}

#[test]
fn a_missing_key() {
    let dir = tempfile::tempdir().expect("make a directory");
    let path = dir.path().join("town.toml");
    for (line, key) in [("path = \"/nowhere/echo.wasm\"\n", "path"), ("id = \"first\"\n", "id")] {
        std::fs::write(&path, RIGHT.replacen(line, "", 1)).expect("write the file");
        let ended = run_to_end(&path, &[]);
        assert_eq!(ended.code, BAD_CONFIG, "{ended:?}");
        let quoted = [format!("`{key}`"), format!("\"{key}\""), format!(".{key}")];
        assert!(quoted.iter().any(|key| ended.stderr.contains(key)), "{}", ended.stderr);
        assert!(ended.stderr.contains("town.toml"), "{}", ended.stderr);
    }
}

#[test]
fn the_same_agent_twice() {
    let twice = "role = \"echo\"\n[[agents]]\nid = \"first\"\nrole = \"echo\"";
    let dir = tempfile::tempdir().expect("make a directory");
    let path = dir.path().join("town.toml");
    std::fs::write(&path, RIGHT.replacen("role = \"echo\"", twice, 1)).expect("write the file");
    let ended = run_to_end(&path, &[]);
    assert_eq!(ended.code, BAD_CONFIG, "{ended:?}");
    assert!(ended.stderr.contains("first"), "{}", ended.stderr);
}

#[test]
fn no_toml_at_all() {
    is_refused("[limits]", "[limits", &[]);
    is_refused("max_agents = 8", "max_agents 8", &[]);
    let dir = tempfile::tempdir().expect("make a directory");
    let path = dir.path().join("town.toml");
    std::fs::write(&path, [0xff, 0xfe, 0x00]).expect("write the file");
    let ended = run_to_end(&path, &[]);
    assert_eq!(ended.code, BAD_CONFIG, "{ended:?}");
    assert!(ended.stderr.contains("town.toml"), "{}", ended.stderr);
}

#[test]
fn no_file() {
    let dir = tempfile::tempdir().expect("make a directory");
    let ended = run_to_end(&dir.path().join("town.toml"), &[]);
    assert_eq!(ended.code, BAD_CONFIG, "{ended:?}");
    assert!(ended.stderr.contains("town.toml"), "{}", ended.stderr);
}

#[test]
fn a_bad_variable_is_named_like_a_bad_key() {
    let dir = tempfile::tempdir().expect("make a directory");
    let path = dir.path().join("town.toml");
    std::fs::write(&path, RIGHT).expect("write the file");
    let ended = run_to_end(&path, &[("BULKHEAD_LISTEN", "nowhere")]);
    assert_eq!(ended.code, BAD_CONFIG, "{ended:?}");
    assert!(ended.stderr.contains("BULKHEAD_LISTEN"), "{}", ended.stderr);
    assert!(ended.stderr.contains("nowhere"), "{}", ended.stderr);
}

#[test]
fn a_public_address_without_a_token() {
    let dir = tempfile::tempdir().expect("make a directory");
    let path = dir.path().join("town.toml");
    std::fs::write(&path, RIGHT.replacen("127.0.0.1:0", "0.0.0.0:0", 1)).expect("write the file");
    // The token that it makes for itself keeps everybody out, and an empty one is none.
    let ended = run_to_end(&path, &[("BULKHEAD_CONTROL_TOKEN", "")]);
    assert!(ended.code.is_some_and(|code| code != 0), "{ended:?}");
    assert!(ended.stderr.contains("BULKHEAD_CONTROL_TOKEN"), "{}", ended.stderr);
    let host = Host::builder().toml("[server]\nlisten = \"0.0.0.0:0\"").start();
    host.client().list();
    host.client().clone().without_token().get("/agents").expect_error(401, &["unauthorized"]);
    host.finish();
}

#[test]
fn a_port_that_is_taken() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("take a port");
    let address = taken.local_addr().expect("its address").to_string();
    let dir = tempfile::tempdir().expect("make a directory");
    let path = dir.path().join("town.toml");
    std::fs::write(&path, RIGHT.replacen("127.0.0.1:0", &address, 1)).expect("write the file");
    let ended = run_to_end(&path, &[]);
    assert!(ended.code.is_some_and(|code| code != 0), "{ended:?}");
    assert!(ended.stderr.contains(&address), "{}", ended.stderr);
    assert!(ended.stderr.contains("in use"), "{}", ended.stderr);
    assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
}

#[test]
fn a_host_beside_one_with_the_same_port_leaves_that_one_alone() {
    let host = Host::builder().start();
    host.client().start("echo", "echo");
    let address = host.address().to_string();
    let dir = tempfile::tempdir().expect("make a directory");
    let path = dir.path().join("town.toml");
    std::fs::write(&path, RIGHT.replacen("127.0.0.1:0", &address, 1)).expect("write the file");
    assert!(run_to_end(&path, &[]).code != Some(0));
    assert_eq!(host.client().ask("echo", "hi"), "hi");
    host.finish();
}
