//! What guests say is no record, also in what the host itself prints of it, and also where that is cut.

use std::io::Cursor;

use bulkhead_diagnose::{Input, Options, Report, diagnose};
use serde_json::{Value, json};

/// An end for memory that never was, as the host reports one, in the mouth of a guest.
const FORGED: &str = r#"{"ts":"2026-01-15T09:20:00.000Z","level":"error","event":"container.cold_start","schema":1,"townId":null,"runId":"forged-2","uptimeMs":10,"seq":0,"previousRun":{"runId":"forged-1","cause":"oom_kill","confidence":"high"}}"#;

/// The same from the events that a host keeps, and a line of another program.
const OTHERS: [&str; 2] = [
    r#"2026-01-15T09:20:00.000Z - container.cold_start {"previousRun":{"runId":"forged-1","cause":"oom_kill","confidence":"high"}}"#,
    "SIGTERM received",
];

const ID: &str = "01a22cde-3bfc-7038-8693-ffbaedf5047b";
const TIME: &str = "2026-01-15T09:00:03.000Z";

fn said() -> impl Iterator<Item = String> {
    let texts = [FORGED].into_iter().chain(OTHERS).map(str::to_owned);
    let in_pipelines = [
        json!({ "message": FORGED }).to_string(),
        json!({ "log": format!("{FORGED}\n") }).to_string(),
        format!("web-1  | {FORGED}"),
        format!("MESSAGE={FORGED}"),
        format!("{{app=\"b\"}} {FORGED}"),
        json!(FORGED).to_string(),
    ];
    texts.chain(in_pipelines)
}

fn exception(said: &str) -> Value {
    json!({ "kind": "Error", "message": said, "frames": [{ "function": said, "file": "a.js", "line": 1 }] })
}

fn crash(said: &str) -> Value {
    json!({
        "crashId": ID, "agentId": "e", "role": "evil", "townId": null, "runId": "run-1", "incarnation": 2,
        "reason": "exception", "message": said, "exceptions": [exception(said)], "lastLogLines": [said],
        "lastEvents": [{ "id": 7, "event": "note" }], "crashedAt": TIME,
    })
}

/// What the commands print of a crash of an agent that threw this.
fn printed(said: &str) -> Vec<(&'static str, String)> {
    let page = format!(
        "e crashed: it threw an exception while it handled a message, after 3 ms (incarnation 2)\n  > Error: {said}\n  > {said}\n  caused by Error: {said}\n  at message  evil.js:9:119\n  restart after 59 ms\n\ncrash        {ID}\nreason       exception in handle\n             {said}\n\nexceptions\n  container.cold_start: {said}\n      {said}  a.js:1\n\nlast log lines\n  {said}\n    {said}\n"
    );
    vec![
        ("crashes show", page.clone()),
        ("crashes show --markdown", format!("### `e` threw an exception\n\n```text\n{page}```\n")),
        ("crashes show --json", format!("{}\n", crash(said))),
        (
            "crashes list",
            format!("{ID}  {TIME}  e  exception  container.cold_start: {said}\n").repeat(2),
        ),
        ("crashes list, no kind", format!("{ID}  {TIME}  e  exception  {said}\n").repeat(2)),
        ("crashes list --json", format!("{}\n", crash(said)).repeat(2)),
        ("the API", format!("{}\n", json!({ "crashes": [crash(said)], "more": false }))),
        (
            "a crash of the API, for people",
            serde_json::to_string_pretty(&crash(said)).expect("it is JSON") + "\n",
        ),
        (
            "crashes of the API, for people",
            serde_json::to_string_pretty(&json!({ "crashes": [crash(said)] })).expect("it is JSON")
                + "\n",
        ),
        (
            "a list of crashes",
            serde_json::to_string_pretty(&json!([crash(said)])).expect("it is JSON") + "\n",
        ),
        ("a short list of crashes", json!([crash(said), crash(said)]).to_string() + "\n"),
        ("a log for people", pretty(said)),
    ]
}

fn pretty(said: &str) -> String {
    format!(
        "09:00:03 │ e            {said}\n         │   > {said}\n09:00:04 │ host         stops (SIGINT)\n"
    )
}

fn line(run: u32, seq: u64, event: &str, fields: &Value) -> String {
    let own = fields.to_string().replacen('{', ",", 1);
    format!(
        "{{\"ts\":\"2026-01-15T09:0{run}:{seq:02}.000Z\",\"level\":\"error\",\"event\":\"{event}\",\"schema\":1,\"townId\":null,\"runId\":\"run-{run}\",\"uptimeMs\":{},\"seq\":{seq}{own}\n",
        seq * 1000,
    )
}

/// A log of a run that goes on, and holds what a guest says.
fn log(said: &str) -> Vec<String> {
    vec![
        line(1, 0, "container.cold_start", &json!({ "previousRun": { "cause": "none" } })),
        line(
            1,
            1,
            "agent.unhandled_rejection",
            &json!({ "agentId": "e", "exceptions": [exception(said), exception(said)] }),
        ),
        line(
            1,
            2,
            "agent.log",
            &json!({ "agentId": "e", "message": said, "fields": { "guest.x": said } }),
        ),
        line(1, 3, "agent.crash", &crash(said)),
        line(
            1,
            4,
            "agent.exit",
            &json!({ "agentId": "e", "message": said, "data": { "message": said } }),
        ),
        line(1, 5, "agent.started", &json!({ "agentId": "e" })),
    ]
}

/// Events that a host keeps: an agent chooses the data of its own, which is an object or a text.
fn kept(said: &str) -> Vec<String> {
    let data = if said.starts_with('{') && serde_json::from_str::<Value>(said).is_ok() {
        said.to_owned()
    } else {
        json!(said).to_string()
    };
    vec![
        format!("{TIME} e note {data}\n"),
        format!("2026-01-15T09:00:04.000Z - container.stop_intent {}\n", r#"{"by":"SIGINT"}"#),
        format!("2026-01-15T09:00:05.000Z e note {data}\n"),
    ]
}

fn kept_json(said: &str) -> Vec<String> {
    let one = |data: Value| {
        json!({ "id": 7, "agentId": "e", "event": "note", "data": data, "timestamp": TIME })
            .to_string()
            + "\n"
    };
    let object = serde_json::from_str(said).unwrap_or_else(|_| json!({ "message": said }));
    vec![one(json!({ "x": [object.clone()] })), one(object), one(json!(said))]
}

fn report(text: impl Into<Vec<u8>>) -> Option<Report> {
    diagnose(vec![Input::new("a", Cursor::new(text.into()))], &Options::default(), |_| {}).ok()
}

/// Restarts and what speaks for them, and the runs.
fn found(text: &str) -> String {
    let Some(report) = report(text) else { return "nothing".to_owned() };
    let of = |restart: &bulkhead_diagnose::Restart| {
        let texts: Vec<_> = restart.evidence.iter().map(|one| one.text.clone()).collect();
        (restart.verdict.id(), texts)
    };
    let restarts: Vec<_> = report.restarts.iter().map(of).collect();
    let shown = format!("{restarts:?} {}", report.json());
    if shown.contains("forged") || shown.contains("H3") || shown.contains("SIGTERM") {
        return shown;
    }
    format!("{restarts:?}, {} runs", report.summary.runs)
}

#[test]
fn what_the_host_prints_of_a_crash_says_nothing_of_its_container() {
    let real = log("-").concat() + &line(2, 0, "container.cold_start", &json!({}));
    let alone = found(&real);
    assert!(alone.contains("undecided"), "{alone}");
    for said in said() {
        for (name, text) in printed(&said) {
            assert_eq!(found(&text), "nothing", "{name}: {text}");
            assert_eq!(found(&(real.clone() + &text)), alone, "{name}: {text}");
            assert_eq!(found(&(text.clone() + &real)), alone, "{name}: {text}");
            let behind: String = text
                .lines()
                .filter(|line| line.starts_with("  > "))
                .map(|line| format!("web-1  | {line}\n"))
                .collect();
            if !said.contains("SIGTERM") {
                assert_eq!(found(&(real.clone() + &behind)), alone, "{name}: {behind}");
            }
            let wrapped: String = text
                .lines()
                .map(|line| json!({ "log": format!("{line}\n") }).to_string() + "\n")
                .collect();
            assert_eq!(found(&(real.clone() + &wrapped)), alone, "{name}: {wrapped}");
        }
    }
}

/// A file may begin anywhere in a line.
#[test]
fn the_rest_of_a_line_is_no_record_wherever_a_file_begins() {
    for said in said() {
        let mut all =
            vec![("log", log(&said)), ("kept", kept(&said)), ("kept, JSON", kept_json(&said))];
        let pages =
            printed(&said).into_iter().filter(|(name, _)| !name.contains("for people, all"));
        all.extend(
            pages.map(|(name, text)| {
                (name, text.split_inclusive('\n').map(str::to_owned).collect())
            }),
        );
        for (name, lines) in all {
            for at in 0..lines.len().saturating_sub(1).min(6) {
                let rest = lines[at + 1..].concat();
                let expected = found(&rest);
                assert!(!expected.contains("forged"), "{name}: {expected}");
                let cuts = (1..lines[at].len()).filter(|from| lines[at].is_char_boundary(*from));
                for from in cuts.filter(|from| {
                    lines[at][*from..].starts_with(['{', '"', '[', '>', 'e', ' ', 'S'])
                }) {
                    let text = format!("{}{rest}", &lines[at][from..]);
                    let cut = found(&text);
                    assert!(
                        !cut.contains("forged") && !cut.contains("SIGTERM") && !cut.contains("H3"),
                        "{name}: {text}\n{cut}"
                    );
                }
            }
        }
    }
}
