//! `docs/api.md`: an introduction for people, and every operation of the document of the API, with a request that the
//! server accepts and a response that is a value of its type. `UPDATE_EXPECT=1` rewrites the page, and
//! `docs/openapi.json` beside it.

use std::fmt::Write as _;

use bulkhead_api::openai::{Completion, ModelCard, ModelList};
use bulkhead_api::{
    AgentList, AgentMemoryView, AgentView, ContainerMemoryView, CrashesPage, ErrorBody, EventsPage,
    Health, MessageAnswer, MoveAnswer, NudgeAnswer, Readiness, RefreshTokenAnswer, StartAnswer,
    StopAnswer, SyncAnswer, TicketAnswer, UpdateAnswer, UsageView, WithIgnored,
};
use bulkhead_types::CrashRecord;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::contract::{self, api, calls};
use super::fake::Rig;
use crate::answer::tests::ALL as START_FAILURES;

mod upgrade;
mod workspaces;

const PAGE: &str = include_str!("document/api.md");

/// What an operation of the document has for an example.
struct Sample {
    /// As the router has it.
    call: &'static str,
    /// A path of it.
    path: &'static str,
    status: u16,
    /// JSON, or text of metrics.
    answer: String,
}

/// A value of the type, written as the server writes it. It must have every field of the type, and no other.
fn of<T: Serialize + DeserializeOwned>(json: Value) -> String {
    let value: T = serde_json::from_str(&json.to_string()).expect("a value of the type");
    assert_eq!(serde_json::to_value(&value).expect("JSON"), json, "all fields, and no other");
    serde_json::to_string_pretty(&value).expect("JSON")
}

fn agent() -> Value {
    json!({
        "agentId": "polecat-1", "name": "Polecat One", "role": "polecat", "component": "polecat",
        "townId": "riverside", "rigId": null, "model": "large", "status": "running", "busy": false,
        "incarnation": 2, "startedAt": "2026-01-15T09:30:00.000Z", "lastActivityAt": "2026-01-15T09:31:12.250Z",
        "activeTools": ["read-file"], "messageCount": 3, "mailboxDepth": 0, "nudges": 0, "cpuUs": 18250,
        "cpuThrottledUs": 0,
        "memory": {
            "usedBytes": 2424832, "guestBytes": 2359296, "hostBytes": 65536,
            "host": {"mailbox": 0, "events": 1536, "log": 0, "http": 0, "tools": 0, "snapshot": 0, "resources": 64000, "instances": 0},
            "toolBytes": 0,
            "peakBytes": 3145728, "softBytes": 53687091, "limitBytes": 67108864, "deniedGrowths": 0, "refused": 0
        },
        "usage": {"incarnation": counts(4), "total": counts(31)},
        "restart": {
            "policy": "transient", "attemptsInWindow": 1, "maxRestarts": 5, "windowMs": 300000,
            "history": [{
                "at": "2026-01-15T09:29:59.480Z", "incarnation": 1, "reason": "trap", "fingerprint": "1f0c8f5c2a7b4d19",
                "atStart": false, "crashId": "019bc0de-5a1c-7a3e-9d2b-6f1f0a3c7e55", "deterministic": false
            }]
        },
        "exitReason": null
    })
}

fn counts(calls: u64) -> Value {
    json!({
        "calls": calls, "failed": 1,
        "tokens": {"input": 5200 * calls, "cached": 4100 * calls, "output": 310 * calls, "reasoning": 120 * calls},
        "costNano": 9_180_000 * calls
    })
}

fn trend() -> Value {
    json!({"bytesPerMinute": 20480, "fit": 0.91, "samples": 120, "overMs": 595000, "grows": true, "timeLeftMs": 189000000})
}

fn series() -> Value {
    json!({"fine": [{"ts": "2026-01-15T09:31:10.000Z", "bytes": 2424832}], "coarse": []})
}

fn crash() -> Value {
    json!({
        "crashId": "019bc0de-5a1c-7a3e-9d2b-6f1f0a3c7e55", "agentId": "polecat-1", "role": "polecat",
        "name": "Polecat One", "rigId": null, "townId": "riverside", "runId": "019bc0dd-0000-7000-8000-000000000001",
        "incarnation": 1, "startAttempt": 1, "component": "polecat",
        "componentSha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "reason": "trap", "trap": "unreachable", "message": "wasm trap: unreachable", "location": null, "status": null,
        "code": null, "requestedBytes": null, "fingerprint": "1f0c8f5c2a7b4d19", "deterministic": "unknown",
        "frames": [{
            "index": 0, "function": "polecat::work", "module": "polecat", "functionIndex": 214, "moduleOffset": 80123,
            "file": "guest/polecat/src/work.rs", "line": 42, "column": 9, "inApp": true
        }],
        "symbolized": "done", "startedAt": "2026-01-15T09:20:00.000Z", "crashedAt": "2026-01-15T09:29:59.480Z",
        "agentUptimeMs": 599480, "phase": "handle", "messageId": "m-17", "hostCall": null,
        "resources": {
            "memoryBytes": 2424832, "memoryPeakBytes": 3145728, "memoryLimitBytes": 67108864,
            "hostBytes": {"mailbox": 512, "events": 1536, "log": 0, "http": 0, "tools": 0, "snapshot": 0, "resources": 0, "instances": 0},
            "softLimitCrossed": false, "deniedGrowths": 0, "cpuUs": 18250, "turns": 3, "hostCalls": 57,
            "mailboxDepth": 0, "samples": [], "models": counts(4)
        },
        "lastLogLines": ["reading README.md"], "lastEvents": [], "activeTools": ["read-file"], "activeAgents": 12,
        "rssMB": 143.5, "pressure": 0.0,
        "consequence": {
            "decision": "restart", "restartAt": "2026-01-15T09:30:00.000Z", "backoffMs": 520, "attemptsInWindow": 1
        },
        "coreDump": null
    })
}

/// One for every operation.
fn samples() -> Vec<Sample> {
    let sample = |call, path, answer| Sample { call, path, status: 200, answer };
    let card =
        || json!({"id": "mayor", "object": "model", "created": 1_768_469_400, "owned_by": "mayor"});
    let updated = || of::<UpdateAnswer>(json!({"updated": true}));
    let mut samples = vec![
        sample("GET /health", "/health",
            of::<Health>(json!({
                "status": "degraded", "agents": 12, "missing": 1, "servers": 0, "uptime": 3600,
                "startedAt": "2026-01-15T08:30:00.000Z", "mayorReadyAt": "2026-01-15T08:30:01.200Z",
                "runId": "019bc0dd-0000-7000-8000-000000000001", "version": "0.1.0"
            })),
        ),
        sample("GET /livez", "/livez", "{\n  \"status\": \"ok\"\n}".into()),
        sample("GET /readyz", "/readyz",
            of::<Readiness>(json!({
                "status": "ready", "missing": 1,
                "agents": [{"agentId": "polecat-2", "status": "failed", "reason": "the component file cannot be read"}],
                "store": "lost", "storeError": "write to the database: database or disk is full"
            })),
        ),
        sample("GET /metrics", "/metrics",
            "# HELP bulkhead_ready 1 while the host accepts starts.\n# TYPE bulkhead_ready gauge\nbulkhead_ready 1".into(),
        ),
        // It is a file of its own.
        sample("GET /openapi.json", "/openapi.json", String::new()),
        Sample {
                status: 201,
                ..sample("POST /agents/start", "/agents/start",
                    of::<StartAnswer>(agent()),
                )
            },
        sample("GET /agents", "/agents?limit=1",
            of::<AgentList>(json!([agent()])),
        ),
        sample("GET /agents/{id}/status", "/agents/polecat-1/status",
            of::<AgentView>({
                let mut ended = agent();
                ended["status"] = "backoff".into();
                ended["exitReason"] = "trap".into();
                ended["exit"] = json!({
                    "reason": "trap", "message": "wasm trap: unreachable", "at": "2026-01-15T09:29:59.480Z",
                    "crashId": "019bc0de-5a1c-7a3e-9d2b-6f1f0a3c7e55"
                });
                ended["restart"]["nextRestartAt"] = "2026-01-15T09:30:00.000Z".into();
                ended
            }),
        ),
        sample("POST /agents/{id}/stop", "/agents/polecat-1/stop",
            of::<StopAnswer>(json!({"stopped": true, "exitReason": "stopped"})),
        ),
        Sample {
            status: 202,
            ..sample("POST /move", "/move", of::<MoveAnswer>(json!({"epoch": 12})))
        },
        sample("POST /agents/{id}/message", "/agents/polecat-1/message?wait=30000",
                of::<MessageAnswer>(
                    json!({"sent": true, "messageId": "m-18", "outcome": "idle", "reply": "hello yourself"}),
                ),
            ),
        sample("POST /agents/{id}/nudge", "/agents/polecat-1/nudge",
                of::<NudgeAnswer>(json!({"queued": true, "nudgeId": "n-4"})),
            ),
        sample("GET /agents/{id}/events", "/agents/polecat-1/events?after=41",
            of::<EventsPage>(json!({
                "events": [{
                    "id": 42, "event": "agent.turn", "data": {"outcome": "idle"}, "timestamp": "2026-01-15T09:31:12.250Z"
                }],
                "droppedBefore": 40
            })),
        ),
        sample("GET /agents/{id}/events/stream", "/agents/polecat-1/events/stream?after=41", FRAMES.into()),
        sample("GET /events/stream", "/events/stream?agent=polecat-1,polecat-2&event=agent.*", FRAMES.into()),
        Sample { status: 101, ..sample("GET /ws", "/ws?after=41", String::new()) },
        Sample {
            status: 201,
            ..sample("POST /tickets", "/tickets",
                of::<TicketAnswer>(json!({
                    "ticket": "5f0e9a7c2b1d4e6f8091a2b3c4d5e6f708192a3b4c5d6e7f",
                    "expiresAt": "2026-01-15T09:32:12.250Z"
                })),
            )
        },
        sample("GET /v1/models", "/v1/models",
            of::<ModelList>(json!({"object": "list", "data": [card()]})),
        ),
        sample("GET /v1/models/{model}", "/v1/models/mayor", of::<ModelCard>(card())),
        sample("POST /v1/chat/completions", "/v1/chat/completions",
            of::<Completion>(json!({
                "id": "chatcmpl-m-7", "object": "chat.completion", "created": 1_768_469_472, "model": "mayor",
                "choices": [{
                    "index": 0, "message": {"role": "assistant", "content": "Hello."}, "finish_reason": "stop"
                }]
            })),
        ),
        sample("POST /mcp", "/mcp",
            serde_json::to_string_pretty(&json!({"jsonrpc": "2.0", "id": 1, "result": {
                "content": [{"type": "text", "text": "{\"agents\":[],\"more\":false}"}], "isError": false
            }}))
            .expect("JSON"),
        ),
        sample("PATCH /agents/{id}/model", "/agents/polecat-1/model",
                updated(),
            ),
        sample("PUT /agents/{id}/system-prompt", "/agents/polecat-1/system-prompt",
                updated(),
            ),
        sample("POST /dashboard-context", "/dashboard-context",
                updated(),
            ),
        sample("POST /sync-config", "/sync-config",
                of::<WithIgnored<SyncAnswer>>(json!({"synced": true})),
            ),
        sample("POST /refresh-token", "/refresh-token",
                serde_json::to_string_pretty(&RefreshTokenAnswer { refreshed: true })
                    .expect("JSON"),
            ),
    ];
    let mut memory = series();
    for (key, value) in [
        ("agentId", json!("polecat-1")),
        ("role", json!("polecat")),
        ("incarnation", json!(2)),
        ("usedBytes", json!(2424832)),
        ("hostBytes", json!(65536)),
        ("peakBytes", json!(3145728)),
        ("limitBytes", json!(67108864)),
        ("trend", trend()),
        ("sampleMs", json!(5000)),
    ] {
        memory[key] = value;
    }
    samples.extend(workspaces::samples());
    samples.extend(upgrade::samples());
    samples.extend([
        sample("GET /crashes", "/crashes?agent=polecat-1&limit=1",
            of::<CrashesPage>(json!({"crashes": [crash()], "more": false})),
        ),
        sample("GET /agents/{id}/crashes", "/agents/polecat-2/crashes",
            of::<CrashesPage>(json!({"crashes": [], "more": false})),
        ),
        sample("GET /crashes/{crashId}", "/crashes/019bc0de-5a1c-7a3e-9d2b-6f1f0a3c7e55",
            of::<CrashRecord>(crash()),
        ),
        sample("GET /memory", "/memory",
            of::<ContainerMemoryView>(json!({
                "at": "2026-01-15T09:31:12.250Z", "limitBytes": 536870912, "usedBytes": 162529280,
                "availableBytes": 374341632, "rssBytes": 150470656,
                "heap": {"usedBytes": 41943040, "totalBytes": 62914560},
                "psi": {"someAvg10": 0.0, "fullAvg10": 0.0}, "high": false, "oomKills": 0, "groupOomKills": 0,
                "limitHits": 0, "agents": 13, "activeAgents": 12, "agentsBytes": 29097984,
                "sources": {
                    "limit": "cgroup2", "limitBytes": 536870912, "pressure": "/sys/fs/cgroup/memory.pressure",
                    "pressureWatch": "trigger", "heap": "jemalloc"
                },
                "sampleMs": 5000, "trend": trend(),
                "largest": [{
                    "agentId": "polecat-1", "role": "polecat", "incarnation": 2, "usedBytes": 2424832,
                    "limitBytes": 67108864, "trend": null
                }],
                "used": series(), "rss": {"fine": [], "coarse": []}, "guests": {"fine": [], "coarse": []}
            })),
        ),
        sample("GET /agents/{id}/memory", "/agents/polecat-1/memory",
            of::<AgentMemoryView>(memory),
        ),
        sample("GET /usage", "/usage?role=polecat",
            of::<UsageView>({
                let mut entry = counts(31);
                for (key, value) in [
                    ("agentId", json!("polecat-1")),
                    ("role", json!("polecat")),
                    ("endpoint", json!("default")),
                    ("model", json!("large")),
                    ("lastAt", json!("2026-01-15T09:31:11.800Z")),
                ] {
                    entry[key] = value;
                }
                json!({
                    "at": "2026-01-15T09:31:12.250Z", "priced": true, "total": counts(31), "entries": [entry],
                    "today": [
                        {"role": null, "tokens": 912_400, "costNano": 1_480_000_000_u64},
                        {"role": "polecat", "tokens": 170_810, "costNano": 284_580_000}
                    ],
                    "budgets": [{"role": "polecat", "budget": "tokens_per_day", "used": 170_810, "bound": 2_000_000}],
                    "merged": 0
                })
            }),
        ),
    ]);
    samples
}

/// The operations under a heading, in the order of the routes.
fn operations(heading: &str) -> String {
    let (document, samples) = (api(), samples());
    let mut text = String::new();
    for (method, path) in calls() {
        let operation = &document["paths"][path][method.to_lowercase()];
        if operation["tags"][0] != heading {
            continue;
        }
        let call = format!("{method} {path}");
        let sample = samples.iter().find(|sample| sample.call == call);
        let sample = sample.unwrap_or_else(|| panic!("samples() has none of {call}"));
        let said = |key: &str| operation[key].as_str().unwrap_or_default();
        let prose = format!("{}. {}", said("summary"), said("description"));
        let _ = writeln!(text, "### `{call}`\n\n{}\n", prose.trim_end());
        text.push_str(&parameters(&document, operation));
        let _ = writeln!(text, "```http\n{method} {}", sample.path);
        let content = &operation["requestBody"]["content"]["application/json"];
        if let Some(body) = content.get("example") {
            let _ = writeln!(text, "\n{}", serde_json::to_string_pretty(body).expect("JSON"));
        }
        let _ = writeln!(text, "```\n\n{}", answers(operation, sample));
    }
    text
}

/// A table of the parameters in the query and in headers. What all operations have in common is not in it.
fn parameters(document: &Value, operation: &Value) -> String {
    let mut rows = String::new();
    for parameter in operation["parameters"].as_array().into_iter().flatten() {
        let text = |key: &str| parameter[key].as_str().unwrap_or_default();
        let may_be = match text("in") {
            "query" => values(document, &parameter["schema"]),
            "header" => "text".to_owned(),
            _ => continue,
        };
        let _ = writeln!(
            rows,
            "| `{}` | {} | {may_be} | {} |",
            text("name"),
            text("in"),
            text("description")
        );
    }
    if rows.is_empty() {
        return rows;
    }
    format!("| parameter | in | value | meaning |\n| --- | --- | --- | --- |\n{rows}\n")
}

/// What a parameter may be.
fn values(document: &Value, schema: &Value) -> String {
    let schema = schema["anyOf"].get(0).unwrap_or(schema);
    if let Some(name) = schema["$ref"].as_str() {
        let target = document.pointer(name.trim_start_matches('#')).expect("a schema");
        assert!(target.is_object(), "{name}");
        return "an agent id".into();
    }
    if let Some(words) = schema["enum"].as_array() {
        let words = words.iter().filter_map(Value::as_str).filter(|word| !word.is_empty());
        return words.map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ");
    }
    match (schema["minimum"].as_u64(), schema["maximum"].as_u64()) {
        (Some(min), Some(max)) => format!("{min} to {max}"),
        _ => "text".into(),
    }
}

/// The sample, and in a list what else may come. What all operations may refuse is not in it.
fn answers(operation: &Value, sample: &Sample) -> String {
    let responses = operation["responses"].as_object().expect("responses");
    let about = |response: &Value| response["description"].as_str().map(str::to_owned);
    let said = about(&responses[&sample.status.to_string()]).expect("the sample's status");
    let mut text = format!("{}: {said}\n", sample.status);
    if !sample.answer.is_empty() {
        let language = if sample.answer.starts_with(['{', '[']) { "json" } else { "text" };
        let _ = writeln!(text, "\n```{language}\n{}\n```", sample.answer);
    }
    let others = responses.iter().filter(|(status, _)| **status != sample.status.to_string());
    let others: Vec<_> =
        others.filter_map(|(status, response)| Some((status, about(response)?))).collect();
    if !others.is_empty() {
        text.push('\n');
    }
    for (status, about) in others {
        let _ = writeln!(text, "- {status}: {about}");
    }
    text
}

const FRAMES: &str = "\
retry: 1000

id: 42
data: {\"type\":\"event\",\"id\":42,\"agentId\":\"polecat-1\",\"event\":\"agent.turn\",\"data\":{\"outcome\":\"idle\"},\"timestamp\":\"2026-01-15T09:31:12.250Z\"}

event: delta
data: {\"type\":\"delta\",\"agentId\":\"polecat-1\",\"messageId\":\"m-7\",\"deltas\":[{\"kind\":\"text\",\"text\":\"Here is\"}]}
";
const CHAT: &str = "\
Programs that talk to OpenAI's API talk to agents: the base URL is `http://HOST/v1`, the key is the control token, a model is
an agent. Of `messages`, messages of `user` after the last one of `assistant` are sent: the agent keeps its conversation
itself, and has its own instructions and tools. Parts that are no text are refused, and `n` other than 1; `temperature`,
`tools` and other fields do nothing, unless they look like one that is read (`Messages`). `finish_reason` is `length` when the
agent answered with more than 1 MiB, of which the host keeps the beginning.
Errors have the form `{\"error\": {\"message\", \"type\", \"param\", \"code\"}}`, with the statuses of other routes.

";
const STREAMS: &str = include_str!("document/streams.md");

fn page() -> String {
    let document = api();
    let headings = document["tags"].as_array().into_iter().flatten();
    let headings: Vec<_> = headings.filter_map(|tag| tag["name"].as_str()).collect();
    let links = headings.iter().map(|heading| {
        let anchor = heading.to_lowercase().replace(' ', "-").replace(',', "");
        format!("[{}](#{anchor})", heading.to_lowercase())
    });
    let contents = links.collect::<Vec<_>>().join(", ");
    let mut routes = String::new();
    for heading in &headings {
        let about = match *heading {
            "Streams" => STREAMS,
            "Chat clients" => CHAT,
            _ => "",
        };
        let _ = writeln!(routes, "## {heading}\n\n{about}{}", operations(heading).trim_end());
        routes.push('\n');
    }
    let mut general = String::new();
    let responses = document["components"]["responses"].as_object().expect("responses");
    let mut common: Vec<_> =
        responses.values().filter_map(|one| Some((status_of(&document, one)?, one))).collect();
    common.sort_by(|one, other| one.0.cmp(&other.0));
    for (status, response) in common {
        let _ = writeln!(
            general,
            "| {status} | {} |",
            response["description"].as_str().unwrap_or_default()
        );
    }
    let mut failures = String::new();
    let mut sorted = START_FAILURES;
    sorted.sort_by_key(|(_, status)| *status);
    for (failure, status) in sorted {
        let _ = writeln!(failures, "| {status} | `{}` | {} |", failure.as_str(), failure.action());
    }
    let error = of::<ErrorBody>(json!({
        "error": "no such role: polcat", "issues": [{"path": "role", "message": "no such role: polcat"}],
        "error_type": "unknown-role", "phase": "admission", "status": 400,
        "action": "use a role of the configuration, or add it there"
    }));
    let page = PAGE
        .replace("{{contents}}", &contents)
        .replace("{{routes}}\n", &routes)
        .replace("{{general}}\n", &(general + "\n"))
        .replace("{{failures}}\n", &(failures + "\n"))
        .replace("{{error}}", &error);
    let note = "<!-- Made of host/control/src/routes, tests/document.rs and document/api.md; UPDATE_EXPECT=1 rewrites it. -->\n";
    format!("{note}{page}")
}

/// The status that a general response is of, by an operation that refers to it.
fn status_of(document: &Value, response: &Value) -> Option<String> {
    let responses = document["components"]["responses"].as_object()?;
    let (name, _) = responses.iter().find(|(_, one)| *one == response)?;
    let reference = format!("#/components/responses/{name}");
    let operation = &document["paths"]["/sync-config"]["post"]["responses"];
    let (status, _) = operation.as_object()?.iter().find(|(_, one)| one["$ref"] == *reference)?;
    Some(status.clone())
}

#[test]
fn the_page_of_the_api_is_made_from_its_types() {
    expect_test::expect_file!["../../../../docs/api.md"].assert_eq(&page());
}

#[test]
fn the_page_of_the_api_has_its_document_beside_it() {
    let document = serde_json::to_string_pretty(&api()).expect("JSON");
    expect_test::expect_file!["../../../../docs/openapi.json"].assert_eq(&(document + "\n"));
}

#[test]
fn the_server_answers_each_request_of_the_page_as_the_page_says() {
    let rig = Rig::start();
    let mut client = rig.client();
    for Sample { call, path, status, answer } in samples() {
        let (method, template) = call.split_once(' ').expect("a method and a path");
        let operation = &api()["paths"][template][method.to_lowercase()];
        let example = operation["requestBody"]["content"]["application/json"].get("example");
        let body = example.map_or_else(String::new, Value::to_string);
        if let Some(upgrade) = stream(template) {
            let head = rig.client().open_stream(path, upgrade);
            assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{call}: {head}");
            continue;
        }
        let accept = match path {
            "/mcp" => "accept: application/json, text/event-stream\r\n",
            _ => "",
        };
        let got = client.ask(method, path, accept, &body);
        // The played supervisor keeps no crash record.
        let expected = if call == "GET /crashes/{crashId}" { 404 } else { status };
        assert_eq!(got.status, expected, "{call}: {}", got.body);
        if call == "GET /metrics" {
            assert!(got.body.contains(&answer), "{}", got.body);
        } else if call == "GET /openapi.json" {
            assert_eq!(got.json(), api());
        } else if !answer.is_empty() {
            contract::check_answer(method, path, status, "application/json", &answer);
        }
        if example.is_some() {
            contract::check_request(method, path, &body);
        }
    }
}

/// The header lines with which a stream is asked for. `None`: the path is of none.
fn stream(path: &str) -> Option<&'static str> {
    let upgrade = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
                   sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    match path {
        "/ws" => Some(upgrade),
        _ => path.ends_with("/events/stream").then_some(""),
    }
}

#[test]
fn every_parameter_of_the_document_is_taken_and_every_other_refused() {
    let rig = Rig::start();
    let mut client = rig.client();
    for (method, path) in calls() {
        let place = path.replace("{id}", "polecat-1").replace("{crashId}", "c");
        let place = place.replace("{role}", "polecat");
        let operation = &api()["paths"][path][method.to_lowercase()];
        let example = operation["requestBody"]["content"]["application/json"].get("example");
        let body = example.map_or_else(String::new, Value::to_string);
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            if parameter["in"] != "query" {
                continue;
            }
            let name = parameter["name"].as_str().expect("a name");
            let schema = &parameter["schema"];
            let schema = schema["anyOf"].get(0).unwrap_or(schema);
            let value = match &schema["enum"][1] {
                Value::String(word) => word.clone(),
                _ => schema["minimum"].as_u64().unwrap_or(1).to_string(),
            };
            let asked = format!("{place}?{name}={value}");
            if let Some(upgrade) = stream(path) {
                let head = rig.client().open_stream(&asked, upgrade);
                assert!(
                    head.starts_with("HTTP/1.1 200 ") || head.starts_with("HTTP/1.1 101 "),
                    "{asked}: {head}"
                );
                continue;
            }
            let got = client.ask(&method, &asked, "", &body);
            assert!(got.status < 400, "{method} {path} {name}={value}: {}", got.body);
        }
        // These two are asked by whatever asks probes.
        let expected = if ["/health", "/livez"].contains(&path) { 200 } else { 400 };
        let got = client.ask(&method, &format!("{place}?other=1"), "", &body);
        assert_eq!(got.status, expected, "{method} {path}: {}", got.body);
    }
}

#[test]
fn names_of_operations_differ() {
    let document = api();
    let mut ids: Vec<_> = calls()
        .iter()
        .map(|(method, path)| {
            document["paths"][path][method.to_lowercase()]["operationId"].to_string()
        })
        .collect();
    let count = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), count, "{ids:?}");
}
