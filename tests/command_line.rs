//! The binary from outside: its commands, its token, and a reader of its log that falls asleep.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output};

use harness::client::Client;
use harness::host::{CLEAN, command, run_to_end};
use harness::{Host, Need, Value, files, skip, wait_for};
use rustix::process::{Pid, Signal, kill_process};

/// Exit code of wrong input.
const BAD_INPUT: i32 = 2;

/// Runs `bulkhead <subcommand> --config <file>` to its end.
fn bulkhead(subcommand: &str, config: &Path) -> Output {
    let mut command = Command::new(files::binary());
    command.arg(subcommand).arg("--config").arg(config).output().expect("run bulkhead")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn check_names_everything_that_a_start_would_refuse() {
    let dir = tempfile::tempdir().expect("make a directory");
    let state = dir.path().join("state");
    let file = dir.path().join("bulkhead.toml");
    std::fs::write(&file, Host::builder().render(&state)).expect("write the configuration");
    let right = bulkhead("check", &file);
    assert_eq!(right.status.code(), Some(CLEAN), "{}", text(&right.stderr));
    assert!(text(&right.stdout).contains("component echo: ok"), "{}", text(&right.stdout));

    let broken = dir.path().join("broken.wasm");
    std::fs::write(&broken, b"no component").expect("write a file");
    let builder = Host::builder()
        .component("broken", &broken)
        .component("missing", &dir.path().join("missing.wasm"))
        .role("small", "echo", "memory_limit_mb = 1")
        .toml("[roles.text]\nsource = \"nowhere/agent.js\"");
    std::fs::write(&file, builder.render(&state)).expect("write the configuration");
    let wrong = bulkhead("check", &file);
    assert_eq!(wrong.status.code(), Some(BAD_INPUT), "{}", text(&wrong.stdout));
    for name in
        ["component broken", "component missing", "role small", "role text: source: cannot read"]
    {
        assert!(text(&wrong.stdout).contains(name), "{name}: {}", text(&wrong.stdout));
    }
}

#[test]
fn the_example_of_the_documentation_passes_the_check() {
    let page = std::fs::read_to_string(files::root().join("docs/configuration.md"));
    let page = page.expect("the page of the configuration");
    let dir = tempfile::tempdir().expect("make a directory");
    let path = |name: &str| dir.path().join(name).to_str().expect("a path in UTF-8").to_owned();
    std::fs::write(path("token"), "hunter2").expect("write a token");
    let component = files::component("echo");
    let example = page.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next());
    let config = example
        .expect("an example")
        .replace("/run/secrets/control-token", &path("token"))
        .replace("/var/lib/bulkhead", &path("state"))
        .replace("/opt/agents/assistant.wasm", component.to_str().expect("a path in UTF-8"));
    std::fs::write(path("bulkhead.toml"), config).expect("write the configuration");
    let checked = bulkhead("check", Path::new(&path("bulkhead.toml")));
    let shown = (text(&checked.stdout), text(&checked.stderr));
    assert_eq!(checked.status.code(), Some(CLEAN), "{shown:?}");
    assert!(shown.0.contains("component assistant: ok"), "{shown:?}");
}

#[test]
fn a_configuration_may_come_from_a_pipe_but_one_with_a_lease() {
    let dir = tempfile::tempdir().expect("make a directory");
    let text_of = |name: &str, more: &str| {
        let config = Host::builder().toml(more).render(&dir.path().join(name));
        std::fs::write(dir.path().join(name).with_extension("toml"), &config).expect("write it");
        format!(
            "cat {name}.toml | exec timeout --signal=TERM 2 {} run --config /dev/stdin",
            files::binary().display()
        )
    };
    let run = |line: String| {
        let output = Command::new("sh").arg("-c").arg(line).current_dir(dir.path()).output();
        let output = output.expect("run a shell");
        text(&output.stdout) + &text(&output.stderr)
    };
    let said = run(text_of("plain", ""));
    assert!(said.contains(r#""components":["echo"]"#), "{said}");
    let said = run(text_of("leased", "[lease]\nregister = \"file:///tmp\"\nname = \"town\""));
    assert!(said.contains("has to be a regular file"), "{said}");
}

#[test]
fn what_cannot_be_printed_is_an_error_and_no_verdict() {
    let dir = tempfile::tempdir().expect("make a directory");
    let path = |name: &str| dir.path().join(name).to_str().expect("a path in UTF-8").to_owned();
    let config = Host::builder().render(&dir.path().join("state"));
    std::fs::write(path("bulkhead.toml"), config).expect("write the configuration");
    let log = r#"{"ts":"2026-01-15T09:30:00.000Z","level":"info","event":"container.cold_start"}"#;
    std::fs::write(path("host.log"), log).expect("write a log");
    let register = format!("file://{}", path("register"));
    std::fs::create_dir(path("register")).expect("make a directory");
    let (config, log) = (path("bulkhead.toml"), path("host.log"));
    let commands: [(&[&str], i32); 9] = [
        (&["--help"], 1),
        (&["--version"], 1),
        (&["help", "run"], 1),
        (&["completions", "bash"], 1),
        (&["crashes", "--config", &config], 1),
        (&["fleet", "ps", "--register", &register], 1),
        (&["new", "toast", "--dir", &path("")], 1),
        (&["diagnose", &log], BAD_INPUT),
        (&["diagnose", "--json", &log], BAD_INPUT),
    ];
    for (words, code) in commands {
        let full = std::fs::File::options().write(true).open("/dev/full").expect("open it");
        let mut command = Command::new(files::binary());
        let ended = command.args(words).current_dir(dir.path()).stdout(full).output();
        let ended = ended.expect("run bulkhead");
        let said = text(&ended.stderr);
        assert_eq!(ended.status.code(), Some(code), "{words:?}: {said}");
        assert!(said.contains("cannot write to stdout: No space left"), "{words:?}: {said}");
    }
}

#[test]
fn a_variable_of_the_command_line_that_is_wrong_is_named() {
    let dir = tempfile::tempdir().expect("make a directory");
    let file = dir.path().join("bulkhead.toml");
    for (name, value) in [
        ("BULKHEAD_SUPERVISE", "maybe"),
        ("BULKHEAD_MAX_RESTARTS", "many"),
        ("BULKHEAD_RESTART_WINDOW_MS", "-1"),
    ] {
        let ended = run_to_end(&file, &[(name, value)]);
        assert_eq!(ended.code, Some(BAD_INPUT), "{ended:?}");
        assert!(ended.stderr.contains(name) && ended.stderr.contains(value), "{}", ended.stderr);
    }
}

#[test]
fn compile_and_check_fill_the_cache_from_which_a_run_takes() {
    for subcommand in ["compile", "check"] {
        let dir = tempfile::tempdir().expect("make a directory");
        let state = dir.path().join("state");
        let file = dir.path().join("bulkhead.toml");
        let config = Host::builder().render(&state);
        std::fs::write(&file, &config).expect("write the configuration");
        let compiled = bulkhead(subcommand, &file);
        assert_eq!(compiled.status.code(), Some(CLEAN), "{}", text(&compiled.stderr));
        let host = Host::start(|_| config);
        host.client().start("one", "echo");
        let lines = host.finish();
        let loaded = lines.iter().find(|line| line["event"] == "container.component_loaded");
        assert_eq!(loaded.expect("a load")["source"], "cache", "{subcommand}");
    }
}

#[test]
fn a_check_needs_no_place_to_write_to_and_compile_does() {
    let dir = tempfile::tempdir().expect("make a directory");
    // Where nothing can be made.
    let state = Path::new("/proc/none/state");
    let file = dir.path().join("bulkhead.toml");
    std::fs::write(&file, Host::builder().render(state)).expect("write the configuration");
    let checked = bulkhead("check", &file);
    assert_eq!(checked.status.code(), Some(CLEAN), "{}", text(&checked.stderr));
    let said = text(&checked.stdout);
    assert!(said.contains("component echo: ok") && said.contains("nothing is stored"), "{said}");
    assert_eq!(bulkhead("compile", &file).status.code(), Some(1));
}

#[test]
fn a_token_is_wanted_by_everything_but_the_probes_and_never_shown() {
    const TOKEN: &str = "correct-horse-battery";
    let host = Host::builder().toml(&format!("[server]\ntoken = \"{TOKEN}\"")).start();
    let get = |path: &str, header: &str| {
        let request =
            format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{header}\r\n");
        host.client().raw(request.as_bytes()).expect("an answer").status
    };
    for probe in ["/health", "/livez"] {
        assert_eq!(get(probe, ""), 200, "{probe}");
    }
    assert_eq!(get("/agents", ""), 401);
    assert_eq!(get("/agents", "authorization: Bearer wrong\r\n"), 401);
    assert_eq!(get("/agents", &format!("authorization: Bearer {TOKEN}x\r\n")), 401);
    assert_eq!(get("/agents", &format!("authorization: Bearer {TOKEN}\r\n")), 200);
    for line in host.finish() {
        assert!(!line.to_string().contains(TOKEN), "{line}");
    }
}

/// Kills the process when the test is over, whatever came of it.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_reader_of_the_log_that_falls_asleep_stops_nothing() {
    let dir = tempfile::tempdir().expect("make a directory");
    let file = dir.path().join("bulkhead.toml");
    let config = Host::builder().toml("[log]\nbuffer_mb = 1").render(&dir.path().join("state"));
    std::fs::write(&file, config).expect("write the configuration");
    let mut host = Killed(command(&file, dir.path()).spawn().expect("start the host"));
    // Read the first line, and never again: the pipe holds 64 KiB.
    let mut stdout = BufReader::with_capacity(1, host.0.stdout.take().expect("stdout is a pipe"));
    let mut first = String::new();
    stdout.read_line(&mut first).expect("read the first line");
    let first: Value = serde_json::from_str(&first).expect("a line is JSON");
    let address = first["listen"].as_str().expect("an address").parse().expect("an address");
    let client = Client::new(address, &dir.path().join("state"));
    client.start("one", "echo");
    // Two lines of the level `debug` each, far more than pipe and buffer hold.
    for n in 0..4000 {
        assert_eq!(client.ask("one", &n.to_string()), n.to_string());
    }
    client.health();
    kill_process(Pid::from_child(&host.0), Signal::TERM).expect("send a signal");
    let ended = wait_for("the host ends, whoever reads its log", || {
        host.0.try_wait().expect("look at the host").ok_or("it runs")
    });
    assert_eq!(ended.code(), Some(CLEAN));
    drop(stdout);
}

/// Runs a command that this machine may lack. `None`: it does.
fn if_installed(command: &mut Command, need: Need) -> Option<Output> {
    match command.output() {
        Ok(output) => Some(output),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            skip(need, "it is not on the path");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

fn completions(shell: &str) -> String {
    let printed = Command::new(files::binary()).args(["completions", shell]).output();
    let printed = printed.expect("run bulkhead");
    assert!(printed.status.success(), "{}", text(&printed.stderr));
    text(&printed.stdout)
}

#[test]
fn every_shell_has_completions() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = completions(shell);
        let hidden = ["compile-component", "inject-fault"].map(|word| script.contains(word));
        assert!(script.contains("crashes") && hidden == [false, false], "{shell}");
    }
}

#[test]
fn bash_completes_commands_options_and_values() {
    let dir = tempfile::tempdir().expect("make a directory");
    let script = dir.path().join("bulkhead");
    std::fs::write(&script, completions("bash")).expect("write the script");
    let Some(checked) = if_installed(Command::new("bash").arg("-n").arg(&script), Need::Bash)
    else {
        return;
    };
    assert!(checked.status.success() && checked.stderr.is_empty(), "{}", text(&checked.stderr));
    for (words, completed) in [
        ("bulkhead cra", "crashes"),
        ("bulkhead crashes show --mark", "--markdown"),
        ("bulkhead run --log-format pr", "pretty"),
        ("bulkhead ps --color ne", "never"),
    ] {
        // As bash itself does on TAB: the function, with the words before the cursor.
        let press_tab = r#"
            source "$1"; read -ra COMP_WORDS <<<"$2"
            COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); COMP_LINE=$2; COMP_POINT=${#2}
            complete -p bulkhead >/dev/null
            _bulkhead bulkhead "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
            echo "${COMPREPLY[*]}"
        "#;
        let mut bash = Command::new("bash");
        bash.args(["--norc", "-e", "-c", press_tab, "bash"]).arg(&script).arg(words);
        let pressed = if_installed(&mut bash, Need::Bash).expect("bash was there");
        let shown = (text(&pressed.stdout), text(&pressed.stderr));
        assert_eq!(shown, (format!("{completed}\n"), String::new()), "{words}");
    }
}

#[test]
fn every_command_has_a_man_page_that_groff_takes() {
    let dir = tempfile::tempdir().expect("make a directory");
    let pages = dir.path().join("share/man/man1");
    let written = Command::new(files::binary()).arg("man").arg(&pages).output();
    let written = written.expect("run bulkhead");
    assert!(written.status.success(), "{}", text(&written.stderr));
    let page = |name: &str| std::fs::read_to_string(pages.join(name)).expect(name);
    assert!(page("bulkhead.1").contains("bulkhead\\-crashes"), "{}", page("bulkhead.1"));
    for name in ["bulkhead-run.1", "bulkhead-crashes-show.1", "bulkhead-completions.1"] {
        page(name);
    }
    for entry in std::fs::read_dir(&pages).expect("read the directory") {
        let file = entry.expect("an entry").path();
        let mut groff = Command::new("groff");
        groff.args(["-man", "-Tutf8", "-ww"]).arg(&file);
        let Some(shown) = if_installed(&mut groff, Need::Groff) else { return };
        assert_eq!(text(&shown.stderr), "", "{}", file.display());
        assert!(text(&shown.stdout).contains("bulkhead"), "{}", file.display());
    }
    let file = dir.path().join("file");
    std::fs::write(&file, "in its place").expect("write a file");
    let refused = Command::new(files::binary()).arg("man").arg(&file).output();
    assert_eq!(refused.expect("run bulkhead").status.code(), Some(1));
}
