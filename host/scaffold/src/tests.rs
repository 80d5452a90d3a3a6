use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use clap::ValueEnum;
use expect_test::{Expect, expect};

use super::*;

mod types;

fn args(name: &str, lang: Language, dir: &Path) -> NewArgs {
    NewArgs { name: AgentId::parse(name).unwrap(), lang, dir: dir.to_owned() }
}

/// All files below a directory, by path. What is no text in them is replaced.
fn files(dir: &Path) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    let mut left = vec![dir.to_owned()];
    while let Some(next) = left.pop() {
        for entry in fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                left.push(path);
            } else {
                let name = path.strip_prefix(dir).unwrap().display().to_string();
                let bytes = fs::read(path).unwrap();
                files.insert(name, String::from_utf8_lossy(&bytes).into_owned());
            }
        }
    }
    files
}

fn made(name: &str, lang: Language) -> BTreeMap<String, String> {
    let dir = tempfile::tempdir().unwrap();
    let path = make(&args(name, lang, dir.path())).unwrap();
    assert_eq!(path, dir.path().join(name));
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o700, 0o700, "{mode:o}");
    let left: Vec<_> =
        fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, [name], "nothing else is left beside it");
    files(&path)
}

fn names(lang: Language, expected: &Expect) {
    expected.assert_eq(&made("toast", lang).into_keys().collect::<Vec<_>>().join("\n"));
}

#[test]
fn each_language_has_its_files() {
    names(
        Language::Js,
        &expect![[r#"
            .gitignore
            README.md
            agent.js
            bulkhead.d.ts
            bulkhead.toml
            globals.d.ts
            jsconfig.json
            tests/talk.toml"#]],
    );
    names(
        Language::Ts,
        &expect![[r#"
            .gitignore
            README.md
            agent.ts
            bulkhead.d.ts
            bulkhead.toml
            globals.d.ts
            tests/talk.toml
            tsconfig.json"#]],
    );
    names(
        Language::Python,
        &expect![[r"
            .gitignore
            README.md
            agent.py
            bulkhead.toml
            tests/talk.toml"]],
    );
    names(
        Language::Rust,
        &expect![[r#"
            .cargo/config.toml
            .gitignore
            Cargo.toml
            README.md
            bulkhead.toml
            src/lib.rs
            tests/talk.toml
            vendor/bulkhead-guest/Cargo.toml
            vendor/bulkhead-guest/LICENSE
            vendor/bulkhead-guest/README.md
            vendor/bulkhead-guest/src/agent.rs
            vendor/bulkhead-guest/src/bindings.rs
            vendor/bulkhead-guest/src/chat.rs
            vendor/bulkhead-guest/src/chat/conversation.rs
            vendor/bulkhead-guest/src/chat/history.rs
            vendor/bulkhead-guest/src/chat/running.rs
            vendor/bulkhead-guest/src/chat/tools.rs
            vendor/bulkhead-guest/src/config.rs
            vendor/bulkhead-guest/src/config/de.rs
            vendor/bulkhead-guest/src/error.rs
            vendor/bulkhead-guest/src/host.rs
            vendor/bulkhead-guest/src/http.rs
            vendor/bulkhead-guest/src/http/error.rs
            vendor/bulkhead-guest/src/http/exchange.rs
            vendor/bulkhead-guest/src/http/url.rs
            vendor/bulkhead-guest/src/lib.rs
            vendor/bulkhead-guest/src/log.rs
            vendor/bulkhead-guest/src/model.rs
            vendor/bulkhead-guest/src/model/answer.rs
            vendor/bulkhead-guest/src/model/error.rs
            vendor/bulkhead-guest/src/model/json.rs
            vendor/bulkhead-guest/src/model/message.rs
            vendor/bulkhead-guest/src/model/request.rs
            vendor/bulkhead-guest/src/sse.rs
            vendor/bulkhead-guest/src/state.rs
            vendor/bulkhead-guest/src/tools.rs
            vendor/bulkhead-guest/src/workspace.rs"#]],
    );
    names(
        Language::C,
        &expect![[r#"
        .gitignore
        Makefile
        README.md
        agent.c
        bindings/bulkhead.c
        bindings/bulkhead.h
        bindings/wasi_snapshot_preview1.wasm
        bulkhead.toml
        requirements.txt
        tests/talk.toml
        wit/agent.wit
        wit/deps/io.wit"#]],
    );
    names(
        Language::Go,
        &expect![[r#"
        .gitignore
        Makefile
        README.md
        agent.go
        bindings/exports/export_bulkhead_agent_lifecycle/lifecycle.go
        bindings/exports/wit_exports/wit_exports.go
        bindings/imports/bulkhead_agent_agent_types/wit_bindings.go
        bindings/imports/bulkhead_agent_host/wit_bindings.go
        bindings/imports/bulkhead_agent_lifecycle/wit_bindings.go
        bindings/imports/bulkhead_agent_model/wit_bindings.go
        bindings/imports/bulkhead_agent_tools/wit_bindings.go
        bindings/imports/bulkhead_agent_workspace/wit_bindings.go
        bindings/imports/wasi_io_error/wit_bindings.go
        bindings/imports/wasi_io_poll/wit_bindings.go
        bindings/imports/wasi_io_streams/wit_bindings.go
        bindings/wasi_snapshot_preview1.wasm
        bulkhead.toml
        go.mod
        requirements.txt
        tests/talk.toml
        vendor/go.bytecodealliance.org/pkg/LICENSE
        vendor/go.bytecodealliance.org/pkg/wit/async/async.go
        vendor/go.bytecodealliance.org/pkg/wit/async/empty.s
        vendor/go.bytecodealliance.org/pkg/wit/runtime/empty.s
        vendor/go.bytecodealliance.org/pkg/wit/runtime/runtime.go
        vendor/go.bytecodealliance.org/pkg/wit/types/future.go
        vendor/go.bytecodealliance.org/pkg/wit/types/option.go
        vendor/go.bytecodealliance.org/pkg/wit/types/result.go
        vendor/go.bytecodealliance.org/pkg/wit/types/stream.go
        vendor/go.bytecodealliance.org/pkg/wit/types/tuple.go
        vendor/go.bytecodealliance.org/pkg/wit/types/unit.go
        vendor/modules.txt
        wit/agent.wit
        wit/deps/io.wit"#]],
    );
    names(
        Language::JsComponent,
        &expect![[r#"
        .gitignore
        Makefile
        README.md
        agent.js
        build.mjs
        bulkhead.toml
        package-lock.json
        package.json
        tests/talk.toml
        wit/agent.wit
        wit/deps/io.wit"#]],
    );
    names(
        Language::PythonComponent,
        &expect![[r#"
        .gitignore
        Makefile
        README.md
        agent.py
        bulkhead.toml
        requirements.txt
        tests/talk.toml
        wit/agent.wit
        wit/deps/io.wit"#]],
    );
}

#[test]
fn no_placeholder_is_left_and_every_text_ends_its_last_line() {
    for lang in Language::value_variants() {
        for (path, text) in made("town-crier", *lang) {
            let is_generated = lang.generated().iter().any(|(generated, _)| *generated == path);
            let is_ours = !(is_generated || path.ends_with(".wasm"));
            assert!(!is_ours || !text.contains("{{"), "{path} of {lang:?}: {text}");
            let ends = text.ends_with('\n') && !text.ends_with("\n\n");
            assert!(ends || !is_ours, "{path} of {lang:?}");
        }
    }
}

#[test]
fn the_configuration_starts_the_agent_from_its_source() {
    expect![[r#"
        # `bulkhead dev` runs this while you write, `bulkhead run` for good, `bulkhead test` for tests/. Paths are relative to this file.
        # `bulkhead check` finds mistakes in it.

        [server]
        listen = "127.0.0.1:8080"

        [state]
        dir = ".bulkhead" # database, workspaces, compiled components

        # Any server that speaks OpenAI's chat completions: uncomment this and `models` below. The variables
        # BULKHEAD_MODEL_BASE_URL, BULKHEAD_MODEL_NAME and BULKHEAD_MODEL_API_KEY set the same.
        #
        # [models.default]
        # base_url = "http://127.0.0.1:11434/v1"
        # model = "qwen3"

        [roles.toast]
        source = "agent.js" # this one file; "." has what is beside it too
        snapshot = "turn" # its state outlives it
        idle_ms = 0       # stay up without messages
        # models = ["default"]
        same_tool_calls = 20 # the same tool call, so often in a row: the agent is stuck, and ends

        [[agents]] # started at boot
        id = "toast"
        role = "toast"
    "#]]
    .assert_eq(&made("toast", Language::Js)["bulkhead.toml"]);
}

#[test]
fn the_configuration_is_toml_whatever_the_name_and_names_a_file_that_is_there() {
    for lang in Language::value_variants() {
        let name = if *lang == Language::Rust { "town-crier" } else { "town.crier:1" };
        let files = made(name, *lang);
        let config: toml::Table = files["bulkhead.toml"].parse().unwrap();
        let role = &config["roles"][name];
        assert_eq!(config["agents"][0]["role"].as_str(), Some(name));
        match role.get("source") {
            Some(source) => assert!(files.contains_key(source.as_str().unwrap()), "{source}"),
            None => {
                let component = &config["components"][role["component"].as_str().unwrap()];
                let expected = match lang {
                    Language::Rust => "target/wasm32-wasip2/release/town_crier.wasm",
                    _ => "agent.wasm",
                };
                assert_eq!(component["path"].as_str(), Some(expected));
            }
        }
    }
}

#[test]
fn a_rust_agent_is_a_package_with_a_type_of_its_name() {
    let files = made("town-crier", Language::Rust);
    let manifest: toml::Table = files["Cargo.toml"].parse().unwrap();
    assert_eq!(manifest["package"]["name"].as_str(), Some("town-crier"));
    let sdk = manifest["dependencies"]["bulkhead-guest"]["path"].as_str().unwrap();
    let sdk: toml::Table = files[&format!("{sdk}/Cargo.toml")].parse().unwrap();
    assert_eq!(sdk["package"]["version"].as_str(), Some(env!("CARGO_PKG_VERSION")));
    assert!(files["src/lib.rs"].contains("struct TownCrier {"));
}

#[test]
fn the_sdk_in_a_rust_agent_has_the_dependencies_that_it_has_here() {
    let read = |path: &str| -> toml::Table {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        fs::read_to_string(root.join(path)).unwrap().parse().unwrap()
    };
    let workspace = read("Cargo.toml");
    let here = read("guest/sdk/Cargo.toml");
    let resolved = |dependency: &toml::Value, of: &str, name: &str| {
        let is_inherited = dependency.get("workspace").is_some();
        if is_inherited { workspace["workspace"][of][name].clone() } else { dependency.clone() }
    };
    let expected: toml::Table = here["dependencies"]
        .as_table()
        .unwrap()
        .iter()
        .map(|(name, value)| (name.clone(), resolved(value, "dependencies", name)))
        .collect();
    let there: toml::Table =
        made("toast", Language::Rust)["vendor/bulkhead-guest/Cargo.toml"].parse().unwrap();
    assert_eq!(there["dependencies"], toml::Value::Table(expected));
    for key in ["name", "version", "edition", "rust-version", "license"] {
        let value = resolved(&here["package"][key], "package", key);
        assert_eq!(there["package"][key], value, "{key}");
    }
}

/// Bindings of an older contract would build, and be refused when the component is loaded.
#[test]
fn generated_bindings_are_of_the_contract_that_they_come_with() {
    for (lang, bindings) in [
        (Language::C, "bindings/bulkhead.c"),
        (Language::Go, "bindings/exports/wit_exports/wit_exports.go"),
    ] {
        let files = made("toast", lang);
        let package = files["wit/agent.wit"].lines().find(|line| line.starts_with("package "));
        let version = package.and_then(|it| it.trim_end_matches(';').rsplit_once('@')).unwrap().1;
        let export = format!("bulkhead:agent/lifecycle@{version}#handle");
        assert!(files[bindings].contains(&export), "{lang:?}");
        let adapter = &files["bindings/wasi_snapshot_preview1.wasm"];
        assert!(adapter.starts_with("\0asm") && adapter.contains("fd_write"));
    }
}

#[test]
fn names_that_lead_elsewhere_or_mean_something_else_are_refused() {
    for name in
        ["", "..", ".", "../toast", "a/b", "/tmp/toast", ".toast", "-toast", "to ast", "töast"]
    {
        assert!(parse_name(name).is_err(), "{name}");
    }
    let dir = tempfile::tempdir().unwrap();
    for name in ["1st", "a.b", "a:b"] {
        let refused = make(&args(name, Language::Rust, dir.path())).unwrap_err();
        assert_eq!(refused.code(), 2);
        assert!(refused.to_string().starts_with(&format!("{name} cannot be the name: cargo")));
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

/// Refused with this code and these words, and everything is as it was.
fn refused(dir: &Path, code: u8, words: &str) {
    let before = files(dir);
    let refused = make(&args("toast", Language::Js, dir)).unwrap_err();
    assert_eq!(refused.code(), code, "{refused}");
    assert!(with_cause(&refused).contains(words), "{}", with_cause(&refused));
    assert_eq!(files(dir), before);
    assert!(fs::read_dir(dir).unwrap().count() <= 1, "nothing is left beside it");
}

#[test]
fn a_directory_with_something_in_it_is_refused_and_an_empty_one_is_filled() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("toast");
    fs::create_dir(&path).unwrap();
    fs::write(path.join("agent.js"), "mine").unwrap();
    refused(dir.path(), 2, "something in it; nothing was written");
    fs::remove_file(path.join("agent.js")).unwrap();
    make(&args("toast", Language::Js, dir.path())).unwrap();
    assert!(path.join("agent.js").exists());
}

#[test]
fn a_file_and_a_link_in_the_way_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("toast"), "mine").unwrap();
    refused(dir.path(), 2, "exists, and is no directory");
    fs::remove_file(dir.path().join("toast")).unwrap();
    std::os::unix::fs::symlink("nowhere", dir.path().join("toast")).unwrap();
    let refused = make(&args("toast", Language::Js, dir.path())).unwrap_err();
    assert_eq!(refused.code(), 2);
    assert!(!dir.path().join("nowhere").exists());
}

#[test]
fn a_place_that_cannot_be_written_is_named_with_the_cause() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("nowhere");
    let error = make(&args("toast", Language::Js, &missing)).unwrap_err();
    assert_eq!(error.code(), 1);
    let words = with_cause(&error);
    assert!(words.contains("nowhere/toast: ") && words.contains("No such file"), "{words}");
    // A file is no directory to write in, also for root.
    fs::write(dir.path().join("file"), "").unwrap();
    let error = make(&args("toast", Language::Js, &dir.path().join("file"))).unwrap_err();
    assert_eq!(error.code(), 1);
}

#[test]
fn a_tree_that_cannot_be_completed_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let tree = vec![("a", Vec::new()), ("a/b", Vec::new())];
    let error = write::write(dir.path(), "toast", &tree).unwrap_err();
    assert!(error.to_string().ends_with("toast/a/b"), "{error}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn what_to_do_next_is_three_commands() {
    let args = args("toast", Language::Rust, Path::new("."));
    expect![[r"
        toast is in ./toast: src/lib.rs is the agent.

          cd ./toast && cargo build --release && bulkhead dev

        `bulkhead test` plays tests/talk.toml."]]
    .assert_eq(&next_steps(&args, Path::new("./toast")));
}

#[test]
fn the_bindings_of_the_sdk_are_those_of_the_contract() {
    // `UPDATE_EXPECT=1` writes them.
    let generated = include_str!(concat!(env!("OUT_DIR"), "/rust/agent.rs"));
    expect_test::expect_file!["../../../guest/sdk/src/bindings.rs"].assert_eq(generated);
}
