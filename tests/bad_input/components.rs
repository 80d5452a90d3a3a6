//! Component files that are none of ours.

use std::fs;
use std::path::Path;

use bulkhead_api::ErrorBody;
use harness::{Host, HostBuilder, Trial, files, json};
use tempfile::TempDir;

const MIB: usize = 1024 * 1024;

fn file(dir: &TempDir, name: &str, bytes: impl AsRef<[u8]>) -> std::path::PathBuf {
    let path = dir.path().join(name);
    fs::write(&path, bytes).expect("write a component file");
    path
}

fn wat(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap_or_else(|error| panic!("bad WAT in a test: {error}"))
}

/// A host with a component and a role `bad`.
fn builder(path: &Path) -> HostBuilder {
    Host::builder().component("bad", path).role("bad", "bad", "")
}

/// Starts an agent of the role `bad`: the answer must be a 422 of this type that names these things.
/// Nothing else may change. Returns the answer.
#[track_caller]
fn is_refused(builder: HostBuilder, error_type: &str, phase: &[&str], named: &[&str]) -> ErrorBody {
    let trial = Trial::begin(builder);
    let answer = trial.client().start_with("victim", "bad", json!({})).expect_error(422, named);
    assert_eq!(answer.error_type.as_deref(), Some(error_type), "{answer:?}");
    assert!(phase.contains(&answer.phase.as_deref().unwrap_or_default()), "{answer:?}");
    assert!(!answer.action.as_deref().unwrap_or_default().is_empty(), "{answer:?}");
    check_one_line(&trial);
    // It is the same the second time: nothing is cached that should not be.
    let again = trial.client().start_with("victim", "bad", json!({})).expect_error(422, named);
    assert_eq!(again.error_type.as_deref(), Some(error_type), "{again:?}");
    trial.client().start("other", "echo");
    assert_eq!(trial.client().ask("other", "hi"), "hi");
    assert_eq!(trial.client().status("bystander").incarnation.0, 1);
    trial.finish();
    answer
}

/// One line reports the start, and no other of the request.
#[track_caller]
fn check_one_line(trial: &Trial) {
    let failed = trial.host().wait_for_event("victim", "agent.start_failed");
    assert!(!failed["error"].as_str().unwrap_or_default().is_empty(), "{failed}");
    assert_eq!(trial.host().events_of("victim", "agent.start_failed").len(), 1);
    assert!(trial.host().events_named("container.request_refused").is_empty());
    assert!(trial.host().events_of("victim", "agent.start").is_empty());
}

const LOADING: &[&str] = &["component", "compile"];

#[test]
fn a_missing_file() {
    let dir = tempfile::tempdir().expect("make a directory");
    let path = dir.path().join("nowhere.wasm");
    is_refused(builder(&path), "component-unreadable", LOADING, &["nowhere.wasm"]);
}

#[test]
fn a_directory() {
    let dir = tempfile::tempdir().expect("make a directory");
    is_refused(builder(dir.path()), "component-unreadable", LOADING, &["bad"]);
}

#[test]
fn a_pipe_that_nobody_writes_to() {
    let dir = tempfile::tempdir().expect("make a directory");
    let path = dir.path().join("pipe.wasm");
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mkfifoat(rustix::fs::CWD, &path, mode).expect("make a pipe");
    let builder = builder(&path).role("bad", "bad", "start_ms = 5000");
    is_refused(builder, "component-unreadable", LOADING, &["pipe.wasm"]);
}

#[test]
fn an_empty_file() {
    let dir = tempfile::tempdir().expect("make a directory");
    is_refused(builder(&file(&dir, "empty.wasm", [])), "component-invalid", LOADING, &["bad"]);
}

#[test]
fn a_truncated_file() {
    let dir = tempfile::tempdir().expect("make a directory");
    let whole = fs::read(files::component("echo")).expect("read the echo component");
    for part in [9, whole.len() / 2, whole.len() - 1] {
        let path = file(&dir, "truncated.wasm", &whole[..part]);
        is_refused(builder(&path), "component-invalid", LOADING, &["bad"]);
    }
}

#[test]
fn random_bytes() {
    let dir = tempfile::tempdir().expect("make a directory");
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(64 * 1024);
    while bytes.len() < 64 * 1024 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    is_refused(builder(&file(&dir, "random.wasm", &bytes)), "component-invalid", LOADING, &["bad"]);
    // The same behind a header that is right.
    bytes[..8].copy_from_slice(b"\0asm\x0d\0\x01\0");
    is_refused(builder(&file(&dir, "random.wasm", &bytes)), "component-invalid", LOADING, &["bad"]);
}

#[test]
fn a_text_file() {
    let dir = tempfile::tempdir().expect("make a directory");
    let path = file(&dir, "text.wasm", "(component)");
    is_refused(builder(&path), "component-invalid", LOADING, &["bad"]);
}

#[test]
fn a_core_module() {
    let dir = tempfile::tempdir().expect("make a directory");
    let module = wat("(module (memory 1) (func (export \"_start\")))");
    let path = file(&dir, "module.wasm", module);
    let answer = is_refused(builder(&path), "component-invalid", LOADING, &["bad"]);
    assert!(answer.error.contains("core module"), "{answer:?}");
}

#[test]
fn a_component_without_our_export() {
    let dir = tempfile::tempdir().expect("make a directory");
    let path = file(&dir, "other.wasm", wat("(component)"));
    let missing = "bulkhead:agent/lifecycle@0.2.0";
    is_refused(builder(&path), "wrong-world", LOADING, &["bad", missing]);
}

#[test]
fn a_component_of_another_version_of_our_world() {
    let dir = tempfile::tempdir().expect("make a directory");
    let text =
        r#"(component (instance $i) (export "bulkhead:agent/lifecycle@9.9.9" (instance $i)))"#;
    let path = file(&dir, "newer.wasm", wat(text));
    is_refused(builder(&path), "wrong-world", LOADING, &["bad", "bulkhead:agent/lifecycle@0.2.0"]);
}

#[test]
fn a_component_that_needs_what_nobody_gives() {
    let dir = tempfile::tempdir().expect("make a directory");
    let text = r#"(component
        (import "stranger:things/door@1.0.0" (instance (export "open" (func))))
    )"#;
    let path = file(&dir, "stranger.wasm", wat(text));
    is_refused(builder(&path), "wrong-world", LOADING, &["bad"]);
}

#[test]
fn a_lifecycle_whose_functions_are_others() {
    let dir = tempfile::tempdir().expect("make a directory");
    let text = r#"(component
        (core module $m (func (export "f")))
        (core instance $c (instantiate $m))
        (func $f (canon lift (core func $c "f")))
        (instance $i (export "start" (func $f)))
        (export "bulkhead:agent/lifecycle@0.2.0" (instance $i))
    )"#;
    let path = file(&dir, "odd.wasm", wat(text));
    is_refused(builder(&path), "wrong-world", LOADING, &["bad"]);
}

#[test]
fn a_file_that_is_too_large() {
    let dir = tempfile::tempdir().expect("make a directory");
    let path = file(&dir, "large.wasm", vec![0; 9 * MIB]);
    let builder = builder(&path).toml("[limits]\ncomponent_mb = 8");
    is_refused(builder, "component-too-large", LOADING, &["bad", "8"]);
}

#[test]
fn a_component_that_needs_more_memory_than_its_role_has() {
    let dir = tempfile::tempdir().expect("make a directory");
    let whole = fs::read(files::component("echo")).expect("read the echo component");
    let path = file(&dir, "echo.wasm", whole);
    let builder = Host::builder().component("bad", &path).role("bad", "bad", "memory_limit_mb = 1");
    is_refused(builder, "memory-minimum", &["admission"], &["memory"]);
}

#[test]
fn an_agent_of_the_configuration_with_a_bad_component_does_not_keep_the_others_from_starting() {
    let host = builder(Path::new("/nowhere/bad.wasm"))
        .agent("id = \"victim\"\nrole = \"bad\"")
        .agent("id = \"healthy\"\nrole = \"echo\"")
        .start();
    let failed = host.wait_for_event("victim", "agent.start_failed");
    assert_eq!(failed["errorType"], "component-unreadable", "{failed}");
    assert!(failed["error"].as_str().unwrap().contains("/nowhere/bad.wasm"), "{failed}");
    host.wait_for_event("healthy", "agent.start");
    assert_eq!(host.client().ask("healthy", "hi"), "hi");
    host.finish();
}

#[test]
fn a_component_that_is_repaired_starts() {
    let dir = tempfile::tempdir().expect("make a directory");
    let path = file(&dir, "echo.wasm", "broken");
    let host = builder(&path).start();
    host.client().start_with("a", "bad", json!({})).expect_error(422, &["bad"]);
    fs::copy(files::component("echo"), &path).expect("repair the file");
    host.client().start("a", "bad");
    assert_eq!(host.client().ask("a", "hi"), "hi");
    host.finish();
}
