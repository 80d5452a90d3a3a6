//! `bulkhead diagnose` from outside: what it reads, what it refuses, how it ends.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use harness::{Value, files};

const EXPLAINED: i32 = 0;
const UNDECIDED: i32 = 1;
const BAD_INPUT: i32 = 2;

/// A run of the original container that ends by an exception, and the next one.
const EXCEPTION: &str = r#"{"level":"info","msg":"container.cold_start","uptime":41,"townId":"riverside","ts":"2026-01-15T09:00:00.041Z"}
{"level":"error","msg":"container.uncaught_exception","message":"no such rig","name":"TypeError","townId":"riverside","uptimeMs":119000,"activeAgents":4,"ts":"2026-01-15T09:01:59.000Z"}
{"level":"info","msg":"container.cold_start","uptime":38,"townId":"riverside","ts":"2026-01-15T09:02:20.038Z"}
"#;

/// The same, and nothing that says why.
const SILENCE: &str = r#"{"level":"info","msg":"container.cold_start","uptime":41,"townId":"riverside","ts":"2026-01-15T09:00:00.041Z"}
{"level":"info","msg":"container.cold_start","uptime":38,"townId":"riverside","ts":"2026-01-15T09:02:20.038Z"}
"#;

fn diagnose(arguments: &[&str], stdin: &[u8]) -> Output {
    let mut command = Command::new(files::binary());
    command.arg("diagnose").args(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("start bulkhead");
    // One that refuses its arguments does not read.
    let _ = child.stdin.take().expect("stdin is a pipe").write_all(stdin);
    child.wait_with_output().expect("wait for bulkhead")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[track_caller]
fn check_refused(arguments: &[&str], stdin: &[u8], named: &[&str]) {
    let output = diagnose(arguments, stdin);
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(BAD_INPUT), "{stderr}");
    assert!(named.iter().all(|name| stderr.contains(name)), "{named:?}: {stderr}");
    assert!(output.stdout.is_empty());
}

fn path(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

#[test]
fn files_gzip_and_stdin_are_read_and_the_exit_code_says_whether_all_is_explained() {
    let dir = tempfile::tempdir().expect("make a directory");
    let log = dir.path().join("town.log");
    fs::write(&log, EXCEPTION).expect("write the log");
    let from_file = diagnose(&[path(&log)], b"");
    assert_eq!(from_file.status.code(), Some(EXPLAINED), "{}", text(&from_file.stderr));
    let said = text(&from_file.stdout);
    for part in
        ["verdict  H1", "no such rig", "town.log:2", "1 restart in 2 runs of 1 town, 0 undecided"]
    {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(from_file.stderr.is_empty(), "no progress where nobody sees it");
    let zipped = Command::new("gzip").arg("-k").arg(&log).status().expect("run gzip");
    assert!(zipped.success());
    for (arguments, stdin) in [
        (["--json", path(&log.with_extension("log.gz"))], &b""[..]),
        (["--json", "-"], EXCEPTION.as_bytes()),
    ] {
        let output = diagnose(&arguments, stdin);
        assert_eq!(output.status.code(), Some(EXPLAINED), "{}", text(&output.stderr));
        let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!(report["restarts"][0]["verdict"], "H1", "{report:#}");
        assert_eq!(report["restarts"][0]["evidence"][0]["line"], 2, "{report:#}");
    }
    assert_eq!(diagnose(&["-"], SILENCE.as_bytes()).status.code(), Some(UNDECIDED));
    let later = ["-", "--since", "2026-01-15T09:30:00Z"];
    assert_eq!(diagnose(&later, SILENCE.as_bytes()).status.code(), Some(EXPLAINED));
}

#[test]
fn a_page_is_written_where_it_was_asked_for() {
    let dir = tempfile::tempdir().expect("make a directory");
    let page = dir.path().join("town.html");
    let output = diagnose(&["-", "--html", path(&page)], EXCEPTION.as_bytes());
    assert_eq!(output.status.code(), Some(EXPLAINED), "{}", text(&output.stderr));
    let page = fs::read_to_string(&page).expect("the page is there");
    assert!(page.contains("<svg") && page.contains("no such rig"));
    let nowhere = dir.path().join("nowhere/town.html");
    check_refused(&["-", "--html", path(&nowhere)], EXCEPTION.as_bytes(), &["nowhere/town.html"]);
}

#[test]
fn input_that_is_no_log_is_refused_by_its_name() {
    let dir = tempfile::tempdir().expect("make a directory");
    let missing = dir.path().join("missing.log");
    check_refused(&[path(&missing)], b"", &["missing.log", "No such file"]);
    check_refused(&[path(dir.path())], b"", &["is a directory"]);
    check_refused(&["-"], b"", &["no line"]);
    check_refused(&["-"], &[0, 159, 146, 150, 10, 0, 255], &["is one of a log"]);
    check_refused(
        &["-", "--since", "yesterday"],
        EXCEPTION.as_bytes(),
        &["--since", "2026-01-15T"],
    );
    check_refused(&["-", "--town", "hillside"], EXCEPTION.as_bytes(), &["hillside", "riverside"]);
    check_refused(&[], b"", &["LOG"]);
}

#[test]
fn a_gzip_that_breaks_off_is_used_as_far_as_it_goes() {
    let dir = tempfile::tempdir().expect("make a directory");
    let log = dir.path().join("town.log");
    // Long enough that its beginning can be unpacked without its end.
    let more = (0..20_000).map(|n| format!("[process-manager] Event #{n} for agent toast\n"));
    fs::write(&log, EXCEPTION.to_owned() + &more.collect::<String>()).expect("write the log");
    assert!(Command::new("gzip").arg(&log).status().expect("run gzip").success());
    let zipped = log.with_extension("log.gz");
    let bytes = fs::read(&zipped).expect("read it");
    fs::write(&zipped, &bytes[..bytes.len() / 2]).expect("cut it");
    let output = diagnose(&[path(&zipped)], b"");
    assert_eq!(output.status.code(), Some(EXPLAINED), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("town.log.gz to its end"), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("verdict  H1"), "{}", text(&output.stdout));
}
