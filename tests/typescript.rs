//! Agents against the types of the SDK, by the compiler of TypeScript. `just types` installs it and runs this.

use std::path::Path;
use std::process::{Command, Output};

use harness::files;

/// Writes an agent as `bulkhead new` begins it.
fn write(dir: &Path, name: &str, language: &str) {
    let mut new = Command::new(files::binary());
    let output = new.args(["new", name, "--lang", language]).current_dir(dir).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

/// The compiler's word on a project. It writes nothing.
fn check(project: &Path) -> (Output, String) {
    let compiler = std::env::var("TYPES_COMPILER").expect("TYPES_COMPILER: run `just types`");
    let output = Command::new(compiler).args(["--noEmit", "--project"]).arg(project).output();
    let output = output.expect("run the compiler");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    (output, said)
}

#[test]
#[ignore = "takes the compiler of TypeScript from npm: just types"]
fn agents_fit_the_types_of_the_sdk_and_mistakes_are_found() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "typed", "ts");
    write(dir.path(), "plain", "js");
    let (typed, plain) = (dir.path().join("typed"), dir.path().join("plain"));
    // The agents of the other tests.
    let runners = files::root().join("tests/runners");
    for file in ["typed.ts", "bundle/agent.ts"] {
        let name = file.replace('/', "-");
        std::fs::copy(runners.join(file), typed.join(name)).unwrap();
    }
    for project in [&typed, &plain.join("jsconfig.json")] {
        let (output, said) = check(project);
        assert!(output.status.success(), "{}: {said}", project.display());
    }
    let agent = typed.join("agent.ts");
    let text = std::fs::read_to_string(&agent).unwrap();
    for (right, wrong, error) in [
        ("state.turns += 1", "state.turns.push(1)", "TS2339"),
        ("chat.ask(text)", "chat.ask(7)", "TS2345"),
        ("tools: {", "tool: {", "TS2561"),
    ] {
        assert!(text.contains(right), "{right}");
        std::fs::write(&agent, text.replace(right, wrong)).unwrap();
        let (output, said) = check(&typed);
        assert!(!output.status.success() && said.contains(error), "{wrong}: {said}");
        assert!(said.contains("agent.ts("), "{said}");
    }
}
