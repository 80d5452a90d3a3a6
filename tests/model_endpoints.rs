//! `[models.NAME]`: what `bulkhead check --models` says of endpoints, and keys that change.

use std::path::Path;
use std::process::Command;

use harness::host::CLEAN;
use harness::{Host, HostBuilder, ModelServer, files, model_server, model_server_with_key};

/// Exit code of wrong input.
const BAD_INPUT: i32 = 2;

/// `bulkhead check --models`: its exit code, and what it printed.
fn check(builder: HostBuilder) -> (Option<i32>, String) {
    let dir = tempfile::tempdir().expect("make a directory");
    let file = dir.path().join("bulkhead.toml");
    let config = builder.render(&dir.path().join("state"));
    std::fs::write(&file, config).expect("write the configuration");
    let mut command = Command::new(files::binary());
    let command = command.args(["check", "--models", "--config"]).arg(&file);
    let output = command.output().expect("run bulkhead");
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&text).into_owned())
}

fn endpoint(name: &str, url: &str, more: &str) -> String {
    format!("[models.{name}]\nbase_url = {url:?}\nretries = 0\n{more}\n")
}

#[test]
fn a_check_calls_every_endpoint_and_says_how_it_was() {
    const KEY: &str = "sk-right-hush";
    let (open, locked) = (model_server(), model_server_with_key(KEY));
    let key = format!("api_key = {KEY:?}\nmodel = \"scripted\"");
    let text = endpoint("open", &open.base_url(), "model = \"any\"")
        + &endpoint("locked", &locked.base_url(), &key);
    let (code, text) = check(Host::builder().toml(&text));
    assert_eq!(code, Some(CLEAN), "{text}");
    for (name, server, model) in [("open", &open, "any"), ("locked", &locked, "scripted")] {
        let begins = format!("model {name} {}/chat/completions, {model}: ok, ", server.base_url());
        let line = text.lines().find(|line| line.starts_with(&begins));
        let line = line.unwrap_or_else(|| panic!("no line {begins:?}\n{text}"));
        assert!(line.contains(" ms, tokens: "), "{line}");
    }
    assert_eq!((open.asked(), locked.asked()), (1, 1));
    assert!(!text.contains(KEY), "{text}");
}

#[test]
fn a_model_that_thinks_answers_a_check_though_it_has_no_time_to_write() {
    let model = model_server();
    let text = endpoint("thinks", &model.oddity_url("reasoning-only"), "")
        + &endpoint("cut", &model.oddity_url("length"), "");
    let (code, text) = check(Host::builder().toml(&text));
    assert_eq!(code, Some(CLEAN), "{text}");
    for (name, says) in [("thinks", "no text within 16 tokens"), ("cut", ": ok, ")] {
        let line = text.lines().find(|line| line.starts_with(&format!("model {name} ")));
        let line = line.unwrap_or_else(|| panic!("no line of {name}\n{text}"));
        assert!(line.contains(": ok, ") && line.contains(says), "{line}");
    }
}

#[test]
fn an_endpoint_that_does_not_answer_fails_the_check_with_what_can_be_done() {
    const KEY: &str = "sk-wrong-hush";
    let (open, locked) = (model_server(), model_server_with_key("another"));
    let key = format!("api_key = {KEY:?}");
    let gone = "http://127.0.0.1:1/v1";
    let no_path = open.base_url().replace("/v1", "");
    let text = endpoint("fine", &open.base_url(), "")
        + &endpoint("key", &locked.base_url(), &key)
        + &endpoint("gone", gone, "")
        + &endpoint("path", &no_path, "")
        + &endpoint("noise", &open.base_url(), "model = \"garbage\"")
        + &endpoint("silent", &open.base_url(), "model = \"stall\"\nidle_ms = 300");
    let (code, text) = check(Host::builder().toml(&text));
    assert_eq!(code, Some(BAD_INPUT), "{text}");
    let line = |name: &str| {
        let begins = format!("model {name} ");
        let mut found = text.lines().filter(|line| line.starts_with(&begins));
        let line = found.next().unwrap_or_else(|| panic!("no line of {name}\n{text}"));
        assert!(found.next().is_none(), "one line for each: {text}");
        line
    };
    assert!(line("fine").contains(": ok, "), "{text}");
    for (name, parts) in [
        ("key", ["401", "models.key.api_key"]),
        ("gone", ["refused", "models.gone.base_url"]),
        ("path", ["404", "models.path.base_url"]),
        ("noise", ["no completion", "models.noise.base_url"]),
        ("silent", ["silent for 300 ms", "models.silent.first_byte_ms"]),
    ] {
        assert!(parts.iter().all(|part| line(name).contains(part)), "{name}: {text}");
    }
    assert!(text.contains("5 of the above failed"), "{text}");
    assert!(!text.contains(KEY), "{text}");
}

#[test]
fn without_being_asked_to_a_check_calls_no_model() {
    let dir = tempfile::tempdir().expect("make a directory");
    let file = dir.path().join("bulkhead.toml");
    let model = model_server();
    let config = Host::builder().model(&model, "").render(&dir.path().join("state"));
    std::fs::write(&file, config).expect("write the configuration");
    let mut command = Command::new(files::binary());
    let output = command.args(["check", "--config"]).arg(&file).output().expect("run bulkhead");
    let text = String::from_utf8_lossy(&output.stdout);
    let says = format!("model default {}: ok", model.base_url());
    assert!(text.contains(&says), "{text}");
    assert_eq!(model.asked(), 0);
}

/// A host whose agent uses a key in this file.
fn host_with(model: &ModelServer, key: &Path) -> Host {
    let url = model.base_url();
    let endpoint =
        endpoint("default", &url, &format!("model = \"scripted\"\napi_key_file = {key:?}"));
    Host::builder().guest("mayor").toml(&endpoint).start()
}

/// Another file takes the place of the one that was there, as secret managers do it.
fn replace(file: &Path, text: &str) {
    let new = file.with_extension("new");
    std::fs::write(&new, text).expect("write a key");
    std::fs::rename(&new, file).expect("replace a key");
}

#[test]
fn a_key_in_a_file_that_changes_is_used_by_the_next_call() {
    const FRESH: &str = "sk-fresh-hush";
    let dir = tempfile::tempdir().expect("make a directory");
    let key = dir.path().join("keys/model-key");
    std::fs::create_dir(key.parent().expect("a directory")).expect("make a directory");
    std::fs::write(&key, "sk-stale-hush\n").expect("write a key");
    let model = model_server_with_key(FRESH);
    // What the host may open includes the place of the key, and no more of this directory.
    let host = host_with(&model, &key);
    host.client().start("mayor", "mayor");
    host.client().send_wait("mayor", "hello").expect_error(502, &["401"]);
    replace(&key, FRESH);
    assert_eq!(host.client().ask("mayor", "hello"), "Hello. I answer from a script.");
    // One that cannot be read leaves the last one in place.
    std::fs::remove_file(&key).expect("remove a key");
    assert_eq!(host.client().ask("mayor", "hello"), "Hello. I answer from a script.");
    let lines = host.finish();
    assert!(!lines.iter().any(|line| line.to_string().contains("-hush")), "a key is in the log");
}
