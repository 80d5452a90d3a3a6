//! Pages, as text.

use std::sync::Arc;

use bulkhead_api::{AgentView, ContainerMemoryView, EventView, Health, SeriesView, UsageView};
use bulkhead_types::memory::MemorySample;
use bulkhead_types::{AgentId, CrashRecord, Determinism, ExitReason, PreviousRun, Timestamp};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::chart::{Chart, Line};
use crate::{
    AgentPage, AgentRow, Alike, ContainerPage, CrashPage, CrashesPage, OverviewPage, Said, Visitor,
    agent, asset, container, crash, crashes, login, overview, problem,
};

/// What an agent would call itself to do harm, and what a page makes of it.
const EVIL: &str = "<script>alert(1)</script>\" onload='x' \u{202e}\u{1b}[2J&";
const TAMED: &str = "&lt;script&gt;alert(1)&lt;/script&gt;";

fn of<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_str(&value.to_string()).expect("a value of the type")
}

fn visitor() -> Visitor {
    Visitor { form_token: "f0rm".into(), has_session: true }
}

fn counts() -> Value {
    json!({"calls": 3, "failed": 1, "tokens": {"input": 1200, "cached": 0, "output": 300, "reasoning": 0}, "costNano": 5_000_000})
}

fn view(id: &str) -> AgentView {
    of(json!({
        "agentId": id, "name": "Toast", "role": "polecat", "component": "polecat", "townId": null, "rigId": null,
        "model": "large", "status": "running", "busy": true, "incarnation": 2, "startedAt": "2026-01-15T09:30:00.000Z",
        "lastActivityAt": "2026-01-15T09:31:12.250Z", "activeTools": ["read-file"], "messageCount": 3, "mailboxDepth": 4,
        "nudges": 0, "cpuUs": 18250,
        "memory": {
            "usedBytes": 2_424_832, "guestBytes": 2_359_296, "hostBytes": 65536,
            "host": {"mailbox": 0, "events": 1536, "log": 0, "http": 0, "snapshot": 0, "resources": 64000, "instances": 0},
            "peakBytes": 3_145_728, "softBytes": 53_687_091, "limitBytes": 67_108_864, "deniedGrowths": 0, "refused": 0
        },
        "usage": {"incarnation": counts(), "total": counts()},
        "restart": {
            "policy": "transient", "attemptsInWindow": 1, "maxRestarts": 5, "windowMs": 300_000,
            "history": [{
                "at": "2026-01-15T09:29:59.480Z", "incarnation": 1, "reason": "trap", "fingerprint": "1f0c",
                "atStart": false, "crashId": "c-1", "deterministic": false
            }]
        },
        "exitReason": null
    }))
}

fn record() -> CrashRecord {
    let frame = |index: u32, function: &str, own: bool| {
        json!({
            "index": index, "function": function, "module": "polecat", "functionIndex": 214, "moduleOffset": 80123,
            "file": "src/work.rs", "line": 42, "column": 9, "inApp": own
        })
    };
    let resources = json!({
        "memoryBytes": 2_424_832, "memoryPeakBytes": 3_145_728, "memoryLimitBytes": 67_108_864,
        "hostBytes": {"mailbox": 512, "events": 1536, "log": 0, "http": 0, "snapshot": 0, "resources": 0, "instances": 0},
        "softLimitCrossed": false, "deniedGrowths": 0, "cpuUs": 18250, "turns": 3, "hostCalls": 57, "mailboxDepth": 0,
        "samples": [{"ts": "2026-01-15T09:29:50.000Z", "bytes": 1024}, {"ts": "2026-01-15T09:29:55.000Z", "bytes": 2048}],
        "models": counts()
    });
    let programs = json!([{
        "tool": 4, "program": "cargo", "arguments": ["test"], "startedAt": "2026-01-15T09:29:56.480Z",
        "memoryBytes": 268_435_456
    }]);
    of(json!({
        "crashId": "c-1", "agentId": "toast", "role": "polecat", "name": "Toast", "rigId": null, "townId": null,
        "runId": "r-1", "incarnation": 1, "startAttempt": 1, "component": "polecat", "componentSha256": null,
        "reason": "panic", "trap": "unreachable", "message": "the guest panicked: no rig", "location": {"file": "src/rigs.rs", "line": 48, "column": 9},
        "status": null, "code": null, "requestedBytes": null, "fingerprint": "1f0c", "deterministic": "unknown",
        "frames": [frame(0, "core::panicking::panic_fmt", false), frame(1, "polecat::rigs::find", true)],
        "symbolized": "done", "startedAt": "2026-01-15T09:20:00.000Z", "crashedAt": "2026-01-15T09:29:59.480Z",
        "agentUptimeMs": 599_480, "phase": "handle", "messageId": "m-17", "hostCall": null,
        "resources": resources,
        "lastLogLines": ["looking for a rig"], "lastEvents": [{"id": 41, "event": "agent.turn", "timestamp": "2026-01-15T09:29:47.970Z"}],
        "activeTools": ["git"], "activeAgents": 12, "rssMB": 143.5, "pressure": 0.0,
        "toolsInFlight": programs,
        "consequence": {"decision": "restart", "restartAt": "2026-01-15T09:30:00.000Z", "backoffMs": 520, "attemptsInWindow": 1},
        "coreDump": null
    }))
}

fn health() -> Health {
    of(json!({
        "status": "ok", "agents": 1, "servers": 0, "uptime": 3600, "startedAt": "2026-01-15T08:30:00.000Z", "runId": "r-2",
        "version": "0.1.0"
    }))
}

fn memory() -> ContainerMemoryView {
    of(json!({
        "at": "2026-01-15T09:31:12.250Z", "limitBytes": 536_870_912_u64, "usedBytes": 162_529_280, "availableBytes": 1,
        "rssBytes": 150_470_656, "heap": null, "psi": {"someAvg10": 1.5, "fullAvg10": 0.5}, "high": false, "oomKills": 0,
        "groupOomKills": 0, "limitHits": 0, "agents": 1, "activeAgents": 1, "agentsBytes": 2_424_832,
        "sources": {"limit": "cgroup2", "limitBytes": 536_870_912_u64, "pressure": null, "pressureWatch": null, "heap": null},
        "sampleMs": 5000, "trend": null, "largest": [],
        "used": {"fine": [{"ts": "2026-01-15T09:31:10.000Z", "bytes": 162_529_280}], "coarse": []},
        "rss": {"fine": [], "coarse": []}, "guests": {"fine": [], "coarse": []}
    }))
}

fn overview_page(rows: Vec<AgentView>) -> OverviewPage {
    let row = |agent| AgentRow { agent, trend: None, samples: Vec::new() };
    OverviewPage {
        now: Timestamp(0),
        health: health(),
        memory: memory(),
        missing: Vec::new(),
        rows: rows.into_iter().map(row).collect(),
        after: None,
        more: false,
    }
}

fn agent_page(agent: AgentView) -> AgentPage {
    AgentPage {
        now: Timestamp(0),
        agent,
        memory: None,
        events: Vec::new(),
        crashes: Vec::new(),
        more_crashes: false,
        said: None,
    }
}

fn crash_page(record: CrashRecord) -> String {
    crash_page_of(record, &[])
}

/// The same with other records, of which the last ones are kept.
fn crash_page_of(record: CrashRecord, others: &[Arc<CrashRecord>]) -> String {
    let record = Arc::new(record);
    let alike = Alike::among(others, &record, false);
    crash(&visitor(), &CrashPage { record, agent_status: None, alike })
}

/// Nothing of a hostile text is markup, and nothing of it is hidden.
#[track_caller]
fn is_tame(page: &str) {
    assert!(page.contains(TAMED), "the text is on the page");
    for raw in ["<script>alert", "onload='x' \u{202e}", "\u{202e}", "\u{1b}", "\"\" onload"] {
        assert!(!page.contains(raw), "{raw:?}");
    }
}

#[test]
fn texts_of_agents_are_texts_on_every_page() {
    let mut evil = view("toast");
    evil.name = EVIL.into();
    evil.role = EVIL.into();
    evil.model = Some(EVIL.into());
    evil.active_tools = vec![EVIL.into()];
    is_tame(&overview(&visitor(), &overview_page(vec![evil.clone()])));
    let mut page = agent_page(evil);
    page.events = vec![of::<EventView>(json!({
        "id": 7, "event": EVIL, "data": {"text": EVIL}, "timestamp": "2026-01-15T09:31:12.250Z"
    }))];
    is_tame(&agent(&visitor(), &page));
    let mut record = record();
    record.message = EVIL.into();
    record.last_log_lines = vec![EVIL.into()];
    record.code = Some(EVIL.into());
    record.location = None;
    record.tools_in_flight[0].arguments = vec![EVIL.into()];
    is_tame(&crash_page(record.clone()));
    let listed = CrashesPage { agent: None, records: vec![Arc::new(record)], more: false };
    is_tame(&crashes(&visitor(), &listed));
    is_tame(&problem(None, &bulkhead_api::ErrorBody::new(EVIL)));
    // The server lets no such page through to the login.
    assert!(login(EVIL, None).contains(TAMED));
}

#[test]
fn no_page_has_a_script_or_a_style_in_it_or_anything_from_elsewhere() {
    let mut with_curve = agent_page(view("toast"));
    with_curve.memory = Some(of(json!({
        "agentId": "toast", "role": "polecat", "incarnation": 2, "usedBytes": 1, "hostBytes": 1, "peakBytes": 1,
        "limitBytes": 10, "trend": null, "sampleMs": 5000, "coarse": [],
        "fine": [{"ts": "2026-01-15T09:31:10.000Z", "bytes": 5}, {"ts": "2026-01-15T09:31:15.000Z", "bytes": 6}]
    })));
    for page in [
        overview(&visitor(), &overview_page(vec![view("toast")])),
        agent(&visitor(), &with_curve),
        crash_page(record()),
        container(&visitor(), &container_page(Vec::new())),
        login("/console", Some("no")),
    ] {
        assert_eq!(page.matches("<script").count(), 1, "{page}");
        assert!(page.contains("<script src=\"/console/assets/console.js\" defer></script>"));
        for banned in
            ["style=", "<style", " onclick", "javascript:", "http://", "https://", "//cdn"]
        {
            assert!(!page.contains(banned), "{banned}: {page}");
        }
        for wanted in
            ["lang=\"en\"", "<main ", "<h1>", "name=\"viewport\"", "color-scheme", "href=\"#main\""]
        {
            assert!(page.contains(wanted), "{wanted}: {page}");
        }
    }
}

#[test]
fn an_empty_container_says_how_to_begin() {
    let page = overview(&visitor(), &overview_page(Vec::new()));
    assert!(page.contains("No agents.") && page.contains("bulkhead start"));
    assert!(!page.contains("<table") && !page.contains("More agents"));
}

#[test]
fn a_long_list_has_a_next_page_and_a_way_back() {
    let agents = (0..100).map(|number| view(&format!("a{number:03}"))).collect();
    let mut page = overview_page(agents);
    page.more = true;
    let first = overview(&visitor(), &page);
    assert!(first.contains("href=\"/console?after=a099\"") && !first.contains("First agents"));
    assert_eq!(first.matches("<tr id=").count(), 100);
    (page.more, page.after) = (false, Some(AgentId::parse("a050").expect("an id")));
    let last = overview(&visitor(), &page);
    assert!(last.contains("First agents") && !last.contains("Next agents"));
}

#[test]
fn the_page_of_an_agent_offers_what_can_be_done_with_it() {
    let up = agent(&visitor(), &agent_page(view("toast")));
    assert!(
        up.contains("/console/agents/toast/stop") && !up.contains("/console/agents/toast/start")
    );
    let mut ended = view("toast");
    ended.status = "exited".into();
    let mut page = agent_page(ended);
    page.said = Some(Said::Stopped);
    let down = agent(&visitor(), &page);
    assert!(
        down.contains("/console/agents/toast/start")
            && !down.contains("/console/agents/toast/stop")
    );
    assert!(down.contains("The agent was stopped."));
    for form in up.split("<form").skip(1) {
        assert!(form.contains("name=\"form_token\" value=\"f0rm\""), "{form}");
    }
}

#[test]
fn the_page_of_an_agent_says_for_how_long_it_was_throttled_if_it_was() {
    let page = |cpu_throttled_us| {
        agent(&visitor(), &agent_page(AgentView { cpu_throttled_us, ..view("toast") }))
    };
    assert!(!page(0).contains("throttled"));
    assert!(page(3_000_000).contains(", throttled for 3 s"));
}

#[test]
fn the_page_of_a_crash_has_the_own_frames_first_and_says_what_to_do() {
    let page = crash_page(record());
    let own = page.find("polecat::rigs::find").expect("the own frame");
    let other = page.find("core::panicking::panic_fmt").expect("the other frame");
    assert!(own < other);
    for wanted in [
        "toast panicked",
        "src/rigs.rs:48:9",
        "2.3 MiB of 64 MiB",
        "restart after 520 ms",
        "cargo test for 3 s, with 256 MiB of memory",
        "Read the message, and open",
        "looking for a rig",
        "agent.turn",
        "### `toast` panicked",
        "data-copy=\"markdown\"",
    ] {
        assert!(page.contains(wanted), "{wanted}");
    }
    let mut bare = record();
    bare.frames = of(json!([]));
    bare.last_log_lines.clear();
    let page = crash_page(bare);
    assert!(page.contains("There is no backtrace") && page.contains("It wrote no lines."));
}

#[test]
fn a_crash_says_how_often_it_was_seen_where_that_is_known() {
    let once = CrashRecord { deterministic: Determinism::Unknown, ..record() };
    let page = crash_page_of(once.clone(), &[Arc::new(once.clone())]);
    assert!(!page.contains("Repeats") && !page.contains("Seen"), "one case says nothing");
    let other = CrashRecord { fingerprint: "another".into(), crashed_at: Timestamp(0), ..record() };
    let before = CrashRecord { crashed_at: Timestamp(1_768_000_000_000), ..record() };
    let kept = [once.clone(), before, other, record()].map(Arc::new);
    let page = crash_page_of(once, &kept);
    let seen = page.split("<dt>Seen</dt>").nth(1).and_then(|rest| rest.split("</dd>").next());
    let seen = seen.expect("how often");
    assert!(seen.contains("3 times since") && seen.contains("2026-01-09T23:06:40"), "{seen}");
    let repeats = CrashRecord { deterministic: Determinism::True, ..record() };
    assert!(crash_page(repeats).contains("the same input leads to the same end"));
}

#[test]
fn every_abnormal_end_has_advice() {
    for name in ExitReason::NAMES {
        let reason: ExitReason = of(json!(name));
        let page = crash_page(CrashRecord { reason, ..record() });
        assert!(page.contains(name), "{name}");
        assert_eq!(page.contains("next-heading"), !reason.is_normal(), "{name}");
    }
}

fn container_page(runs: Vec<PreviousRun>) -> ContainerPage {
    let usage: UsageView = of(json!({
        "at": "2026-01-15T09:31:12.250Z", "priced": true, "total": counts(), "entries": [], "today": [],
        "budgets": [{"role": null, "budget": "cost_per_day", "used": 5_000_000, "bound": 10_000_000}], "merged": 0
    }));
    ContainerPage { health: health(), memory: memory(), usage, runs }
}

#[test]
fn the_page_of_the_container_says_why_runs_ended() {
    let run = |id: &str, cause: &str| -> PreviousRun {
        of(json!({
            "previousRunId": id, "cause": cause, "confidence": "high", "evidence": ["the counter rose from 1 to 2"],
            "excluded": ["clean: no mark"], "lastState": "hydrated", "lastSeq": 7, "lastTs": "2026-01-15T08:29:00.000Z",
            "lastMemory": null, "inFlight": [{"agentId": "toast", "incarnation": 1, "phase": "handle", "since": "2026-01-15T08:28:00.000Z"}],
            "exitCode": null, "signal": 9
        }))
    };
    let page =
        container(&visitor(), &container_page(vec![run("r-0", "clean"), run("r-1", "oom_kill")]));
    let (newer, older) =
        (page.find("oom_kill").expect("newer"), page.find("ended cleanly").expect("older"));
    assert!(newer < older, "the newest is first");
    for wanted in [
        "the counter rose",
        "At work then: toast (handle)",
        "0.0050 of 0.0100",
        "1.5 % of the last 10 s",
    ] {
        assert!(page.contains(wanted), "{wanted}");
    }
}

#[test]
fn a_curve_has_its_limit_breaks_where_the_agent_was_down_and_is_also_a_sentence() {
    let at = |seconds: i64, bytes: u64| MemorySample { ts: Timestamp(seconds * 1000), bytes };
    let samples =
        vec![at(0, 0), at(5, 1024), at(10, 2048), at(1000, 512), at(1005, 4096), at(9000, 64)];
    let chart = |samples, limit| {
        let lines = vec![Line { label: "in use", class: "line-1", samples }];
        Chart { id: "c", title: "Memory", lines, limit, sample_ms: 5000 }.draw().into_string()
    };
    let drawn = chart(samples.clone(), Some(8192));
    let path = drawn.split(" d=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a path");
    assert_eq!(path.matches('M').count(), 3, "{path}");
    assert!(path.ends_with("h0.1"), "one sample alone is a dot: {path}");
    assert!(drawn.contains("class=\"limit\"") && drawn.contains("limit 8 KiB"), "{drawn}");
    assert!(
        drawn.contains("in use: from 0 bytes to 4 KiB, at last 64 bytes. The limit is 8 KiB."),
        "{drawn}"
    );
    let one = chart(vec![at(5, 0)], None);
    assert!(
        !one.contains("NaN") && !one.contains("inf") && !one.contains("class=\"limit\""),
        "{one}"
    );
    assert!(chart(Vec::new(), Some(1)).contains("No samples"));
}

#[test]
fn coarse_samples_come_before_fine_ones_and_none_twice() {
    let at = |seconds: i64| MemorySample { ts: Timestamp(seconds * 1000), bytes: 1 };
    let series = SeriesView { coarse: vec![at(0), at(60), at(120)], fine: vec![at(100), at(105)] };
    let joined: Vec<_> = crate::chart::joined(&series).iter().map(|sample| sample.ts.0).collect();
    assert_eq!(joined, [0, 60_000, 100_000, 105_000]);
}

#[test]
fn assets_are_in_the_binary_and_have_a_name_for_what_is_in_them() {
    for (name, kind) in [
        ("console.css", "text/css"),
        ("console.js", "text/javascript"),
        ("icon.svg", "image/svg+xml"),
    ] {
        let file = asset(name).expect("a file");
        assert!(file.kind.starts_with(kind) && file.text.len() > 100, "{name}");
        assert!(file.etag().len() == 18 && file.etag().starts_with('"'), "{name}");
    }
    for name in ["", "../console.css", "console.map"] {
        assert!(asset(name).is_none(), "{name}");
    }
    let script = asset("console.js").expect("the script").text;
    for banned in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("] {
        assert!(!script.contains(banned), "{banned}");
    }
}
