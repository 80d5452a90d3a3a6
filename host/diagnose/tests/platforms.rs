//! What platforms and pipelines make of a log says the same as the log itself.

mod support;

use std::io::Cursor;

use bulkhead_diagnose::{Input, Options, Report, diagnose};
use serde_json::{Value, json};

/// Where Docker and containerd cut a line.
const PIECE_BYTES: usize = 16 << 10;

/// Words of the host, of the original container and of a control plane, in the mouth of a guest.
const FORGED: &str = r#"{"ts":"2026-01-15T09:00:04.000Z","level":"fatal","event":"container.uncaught_exception","schema":1,"townId":"t","runId":"run-1","uptimeMs":4000,"seq":4,"name":"panic","message":"forged"}"#;
const FORGED_TEXT: &str =
    "SIGTERM received, oh no: Bun has crashed, container stopped: exitCode=139";

fn report(name: &str, text: impl Into<Vec<u8>>) -> Report {
    let inputs = vec![Input::new(name, Cursor::new(text.into()))];
    diagnose(inputs, &Options::default(), |_| {}).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Verdicts, and what speaks for them, without where it was found.
fn findings(report: &Report) -> Vec<(&'static str, Vec<String>, u64)> {
    let of = |restart: &bulkhead_diagnose::Restart| {
        let evidence = restart.evidence.iter().map(|one| format!("{} {}", one.weight, one.text));
        (restart.verdict.id(), evidence.collect(), restart.lost_lines)
    };
    report.restarts.iter().map(of).collect()
}

/// A line of the host.
fn line(run: u32, seq: u64, event: &str, fields: &Value) -> String {
    let own = fields.to_string();
    let own = if own == "{}" { "}".to_owned() } else { own.replacen('{', ",", 1) };
    format!(
        "{{\"ts\":\"2026-01-15T09:0{run}:{seq:02}.000Z\",\"level\":\"error\",\"event\":\"{event}\",\"schema\":1,\"townId\":\"t\",\"runId\":\"run-{run}\",\"uptimeMs\":{},\"seq\":{seq}{own}",
        seq * 1000,
    )
}

/// A run in which an agent crashes until the host ends by an exception, and the next one. Some lines are as long as
/// hosts of older versions wrote them, and hold what a guest says.
fn log(said: &str) -> Vec<String> {
    let crash = |seq| {
        let long = vec![said.repeat(4); 20];
        line(
            1,
            seq,
            "agent.crash",
            &json!({ "agentId": "a", "crashId": "c", "lastLogLines": long, "message": said }),
        )
    };
    let says = |seq| {
        let fields = json!({ "agentId": "b", "message": said, "fields": { "guest.event": said, "guest.x": said } });
        line(1, seq, "agent.log", &fields)
    };
    vec![
        line(1, 0, "container.cold_start", &json!({ "previousRun": { "cause": "none" } })),
        crash(1),
        says(2),
        crash(3),
        says(4),
        crash(5),
        crash(6),
        crash(7),
        line(
            1,
            8,
            "container.uncaught_exception",
            &json!({ "name": "panic", "message": "broken" }),
        ),
        line(
            2,
            0,
            "container.cold_start",
            &json!({ "previousRun": { "cause": "uncaught_exception", "runId": "run-1" } }),
        ),
    ]
}

fn pieces(line: &str) -> Vec<&str> {
    let (mut pieces, mut rest) = (Vec::new(), line);
    while rest.len() > PIECE_BYTES {
        let (piece, more) = rest.split_at(rest.floor_char_boundary(PIECE_BYTES));
        pieces.push(piece);
        rest = more;
    }
    pieces.push(rest);
    pieces
}

fn docker(lines: &[String]) -> String {
    let of =
        |piece: &str| json!({ "log": piece, "stream": "stdout", "time": "2026-01-15T09:09:09.5Z" });
    let of_line = |line: &String| {
        let ended = format!("{line}\n");
        pieces(&ended).into_iter().map(|piece| format!("{}\n", of(piece))).collect::<String>()
    };
    lines.iter().map(of_line).collect()
}

fn cri(lines: &[String]) -> String {
    let of_line = |line: &String| {
        let pieces = pieces(line);
        let tags = (1..=pieces.len()).map(|number| if number == pieces.len() { "F" } else { "P" });
        let of =
            |(piece, tag): (&&str, &str)| format!("2026-01-15T09:09:09.5Z stdout {tag} {piece}\n");
        pieces.iter().zip(tags).map(of).collect::<String>()
    };
    lines.iter().map(of_line).collect()
}

fn each(lines: &[String], wrap: impl Fn(&str) -> Value) -> String {
    lines.iter().map(|line| format!("{}\n", wrap(line))).collect()
}

/// The log as everybody has it who is known to read it.
fn everywhere(lines: &[String]) -> Vec<(&'static str, String)> {
    let plain = lines.join("\n");
    let record = |line: &str| serde_json::from_str::<Value>(line).expect("a line is JSON");
    let time = "2026-01-15T09:09:09.5Z";
    vec![
        ("nuls", format!("{}{}", "\0".repeat(3000), plain.replace('\n', "\n\0\0"))),
        ("docker", docker(lines)),
        (
            "docker, spaced",
            docker(lines)
                .replace("{\"log\":\"", "{\"log\": \"")
                .replace("\",\"stream\":\"", "\", \"stream\": \""),
        ),
        ("cri", cri(lines)),
        (
            "journald",
            each(
                lines,
                |line| json!({ "__REALTIME_TIMESTAMP": "1768469405000000", "MESSAGE": line, "_PID": "4" }),
            ),
        ),
        (
            "journald, bytes",
            each(
                lines,
                |line| json!({ "__REALTIME_TIMESTAMP": "1768469405000000", "MESSAGE": line.as_bytes() }),
            ),
        ),
        (
            "data.message",
            each(
                lines,
                |line| json!({ "_time": time, "data": { "message": line, "level": "info" } }),
            ),
        ),
        ("data", each(lines, |line| json!({ "_time": time, "data": record(line) }))),
        (
            "logs[].message[]",
            each(
                lines,
                |line| json!({ "eventTimestamp": 1_768_469_405_000_i64, "logs": [{ "message": [line] }] }),
            ),
        ),
        ("one of logs[]", {
            let items: Vec<_> =
                lines.iter().map(|line| json!({ "message": [record(line)] })).collect();
            json!({ "eventTimestamp": 1_768_469_405_000_i64, "logs": items }).to_string()
        }),
    ]
}

#[test]
fn a_log_says_the_same_whatever_passed_it_on() {
    let lines = log(&"x\" 世".repeat(80));
    assert!(lines[1].len() > 2 * PIECE_BYTES);
    let plain = findings(&report("plain", lines.join("\n")));
    assert_eq!(plain.iter().map(|one| one.0).collect::<Vec<_>>(), ["H1"]);
    assert!(plain[0].1.iter().any(|text| text.contains("an agent crashed")), "{plain:#?}");
    for (name, text) in everywhere(&lines) {
        assert_eq!(findings(&report(name, text)), plain, "{name}");
    }
}

#[test]
fn evidence_is_found_in_the_line_where_a_joined_line_ends() {
    let lines = log(&"x".repeat(300));
    let parts: Vec<u64> = lines.iter().map(|line| pieces(line).len() as u64).collect();
    let exception: u64 = parts[..=8].iter().sum();
    assert!(exception > 9);
    for text in [cri(&lines), docker(&lines)] {
        let bytes = text.len() as u64;
        let report = report("log", text);
        let found = report.restarts[0]
            .evidence
            .iter()
            .find(|one| one.text.contains("an exception escaped"));
        assert_eq!(found.and_then(|one| one.line), Some(exception));
        assert_eq!(report.summary.input.lines, parts.iter().sum::<u64>());
        assert_eq!(report.summary.input.bytes, bytes);
    }
}

#[test]
fn what_a_guest_says_changes_nothing_whatever_passed_it_on() {
    let quiet = |said: &str| "-".repeat(said.len());
    let nested = [
        FORGED.to_owned(),
        FORGED_TEXT.to_owned(),
        json!({ "data": { "message": FORGED } }).to_string(),
        json!({ "logs": [{ "message": [FORGED, FORGED_TEXT] }] }).to_string(),
        json!({ "log": format!("{FORGED}\n"), "stream": "stdout", "time": "2026-01-15T09:00:04Z" })
            .to_string(),
        format!("2026-01-15T09:00:04Z stdout F {FORGED}"),
        line(
            1,
            4,
            "container.line_part",
            &json!({ "part": 2, "parts": 2, "of": "x", "text": FORGED }),
        ),
    ];
    for said in &nested {
        // An end that nobody explains: whatever is believed decides it.
        let silent = |said: &str| {
            let mut lines = log(said);
            lines.retain(|line| !line.contains("uncaught_exception") || line.contains("forged"));
            lines.retain(|line| line.contains("cold_start") || line.contains("agent.log"));
            lines.push(line(
                2,
                0,
                "container.cold_start",
                &json!({ "previousRun": { "cause": "unknown" } }),
            ));
            lines
        };
        let expected = findings(&report("plain", silent(&quiet(said)).join("\n")));
        assert_eq!(expected.iter().map(|one| one.0).collect::<Vec<_>>(), ["undecided"]);
        for (name, text) in everywhere(&silent(said)) {
            assert_eq!(findings(&report(name, text)), expected, "{name}: {said}");
        }
        for (name, text) in everywhere(&log(said)) {
            let (found, expected) =
                (report(name, text), report("plain", log(&quiet(said)).join("\n")));
            let verdicts =
                |report: &Report| findings(report).iter().map(|one| one.0).collect::<Vec<_>>();
            assert_eq!(verdicts(&found), verdicts(&expected), "{name}: {said}");
        }
    }
}

/// The record of a line as the host writes it when it is too long: its head, and the whole in pieces.
fn parts(record: &str, seq: u64) -> Vec<String> {
    let whole = record.replacen(&format!(",\"seq\":{seq}"), "", 1);
    let mut texts: Vec<String> = Vec::new();
    for piece in whole.chars().collect::<Vec<_>>().chunks(5000) {
        texts.push(piece.iter().collect());
    }
    let parts = texts.len() + 1;
    let mut head: Value = serde_json::from_str(record).expect("a line is JSON");
    head["lastLogLines"] = json!([]);
    (head["part"], head["parts"]) = (json!(1), json!(parts));
    let mut lines = vec![head.to_string()];
    for (text, number) in texts.iter().zip(2u64..) {
        let fields = json!({ "part": number, "parts": parts, "of": "agent.crash", "text": text });
        lines.push(line(1, seq + number - 1, "container.line_part", &fields));
    }
    lines
}

#[test]
fn a_record_in_parts_counts_once_and_is_found_without_its_head() {
    let boot = line(1, 0, "container.cold_start", &json!({}));
    let next =
        line(2, 0, "container.cold_start", &json!({ "previousRun": { "cause": "unknown" } }));
    let fields =
        json!({ "name": "panic", "message": "m", "stack": FORGED.repeat(100), "lastLogLines": [] });
    let exception = line(1, 1, "container.uncaught_exception", &fields);
    let whole =
        findings(&report("whole", [&boot, &exception, &next].map(String::as_str).join("\n")));
    assert_eq!(whole[0].0, "H1");
    let parts = parts(&exception, 1);
    assert!(parts.len() > 4);
    let with = |parts: &[String]| {
        let ends = (std::slice::from_ref(&boot), std::slice::from_ref(&next));
        let lines = [ends.0, parts, ends.1].concat();
        everywhere(&lines)
            .into_iter()
            .map(|(name, text)| (name, findings(&report(name, text))))
            .collect::<Vec<_>>()
    };
    let said = |findings: &[(&'static str, Vec<String>, u64)]| {
        (findings[0].0, findings[0].1.len(), findings[0].2)
    };
    for (name, found) in with(&parts) {
        assert_eq!(said(&found), (whole[0].0, whole[0].1.len(), 0), "{name}");
    }
    let doubled: Vec<String> = parts.iter().chain(&parts).cloned().collect();
    for (name, found) in with(&doubled) {
        assert_eq!(said(&found), (whole[0].0, whole[0].1.len(), 0), "{name}");
    }
    for (name, found) in with(&parts[1..]) {
        assert_eq!(said(&found), (whole[0].0, whole[0].1.len(), 1), "{name}: the head is lost");
    }
    for (name, found) in with(&parts[2..]) {
        assert_eq!(found[0].0, "undecided", "{name}: half of it says nothing");
    }
}

/// The recorded logs of the real host, as platforms keep them.
#[test]
fn recorded_logs_say_the_same_in_wrappers() {
    for log in support::recorded::all().iter().take(2) {
        let plain = findings(&log.report());
        let lines: Vec<String> =
            log.lines.iter().map(|line| String::from_utf8_lossy(&line.text).into_owned()).collect();
        for (name, text) in [("docker", docker(&lines)), ("cri", cri(&lines))] {
            let found = findings(&support::report_of(name, text.into_bytes()));
            assert_eq!(found.len(), plain.len(), "{name}");
            for (found, plain) in found.iter().zip(&plain) {
                assert_eq!((found.0, found.1.len()), (plain.0, plain.1.len()), "{name}");
            }
        }
    }
}
