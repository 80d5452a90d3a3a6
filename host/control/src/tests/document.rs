//! `docs/api.md`: an introduction for people, and every route with a request that the server accepts and a response
//! that is a value of its type. `UPDATE_EXPECT=1` rewrites the page.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use bulkhead_api::openai::{Completion, ModelCard, ModelList};
use bulkhead_api::{
    AgentList, AgentMemoryView, AgentView, ContainerMemoryView, CrashesPage, ErrorBody, EventsPage,
    Health, MessageAnswer, NudgeAnswer, Readiness, RefreshTokenAnswer, StartAnswer, StopAnswer,
    SyncAnswer, TicketAnswer, UpdateAnswer, UsageView, WithIgnored,
};
use bulkhead_types::CrashRecord;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::fake::Rig;
use crate::answer::tests::ALL as START_FAILURES;

const PAGE: &str = include_str!("document/api.md");
const ROUTES: &str = include_str!("../routes.rs");

struct Route {
    /// As the router has it.
    call: &'static str,
    /// A path of it.
    path: &'static str,
    prose: &'static str,
    body: Option<Value>,
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
        "memory": {
            "usedBytes": 2424832, "guestBytes": 2359296, "hostBytes": 65536,
            "host": {"mailbox": 0, "events": 1536, "log": 0, "http": 0, "snapshot": 0, "resources": 64000, "instances": 0},
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
            "hostBytes": {"mailbox": 512, "events": 1536, "log": 0, "http": 0, "snapshot": 0, "resources": 0, "instances": 0},
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

/// Headings with their routes, in the order of the page.
fn groups() -> Vec<(&'static str, Vec<Route>)> {
    let route =
        |call, path, prose, answer| Route { call, path, prose, body: None, status: 200, answer };
    let with = |body, route| Route { body: Some(body), ..route };
    let updated = || of::<UpdateAnswer>(json!({"updated": true}));
    let probes = vec![
        route(
            "GET /health",
            "/health",
            "The state of the container. 200 while the server answers. `status` is `ok`, or `degraded` when something needs \
             attention. `missing`, `store`, `draining` and `mayorReadyAt` may be absent. With the token and the header \
             `X-Drain-Nonce` (and `X-Town-Id`), the host confirms to the town that this container can take over.",
            of::<Health>(json!({
                "status": "degraded", "agents": 12, "missing": 1, "servers": 0, "uptime": 3600,
                "startedAt": "2026-01-15T08:30:00.000Z", "mayorReadyAt": "2026-01-15T08:30:01.200Z",
                "runId": "019bc0dd-0000-7000-8000-000000000001", "version": "0.1.0"
            })),
        ),
        route("GET /livez", "/livez", "Liveness: the control server's thread answers.", "{\n  \"status\": \"ok\"\n}".into()),
        route(
            "GET /readyz",
            "/readyz",
            "Readiness: starts are accepted. 503 while the host boots or drains. With `strict` it is also 503 \
             (`agents-missing`) while an agent is missing. Only callers with the token see `agents`.",
            of::<Readiness>(json!({
                "status": "ready", "missing": 1,
                "agents": [{"agentId": "polecat-2", "status": "failed", "reason": "the component file cannot be read"}]
            })),
        ),
        route(
            "GET /metrics",
            "/metrics",
            "[Metrics](metrics.md), in OpenMetrics or Prometheus text depending on `Accept`.",
            "# HELP bulkhead_ready 1 while the host accepts starts.\n# TYPE bulkhead_ready gauge\nbulkhead_ready 1".into(),
        ),
    ];
    let agents = vec![
        with(
            json!({
                "agentId": "polecat-1", "role": "polecat", "name": "Polecat One", "prompt": "fix the build",
                "townId": "riverside", "model": "large", "envVars": {"REPOSITORY": "https://example.com/a.git"},
                "secrets": {"GIT_TOKEN": "..."}, "memoryLimitMb": 64, "ifRunning": "join", "deadlineMs": 30000
            }),
            Route {
                status: 201,
                ..route(
                    "POST /agents/start",
                    "/agents/start",
                    "Starts an agent. Only `agentId` and `role` are required. Also accepted: `rigId`, `systemPrompt`, \
                     `smallModel`, `component`, `force`. 201: this request began the incarnation. 200 with `joined`: an \
                     incarnation with the same spec was already starting or running. `ifRunning` selects what happens then: \
                     `join` it (or replace one with another spec), `restart` it, or `keep` it as it is.",
                    of::<StartAnswer>(agent()),
                )
            },
        ),
        route(
            "GET /agents",
            "/agents?limit=1",
            "All agents, by id. `limit` is 1 to 10,000, by default all; `after` is an id.",
            of::<AgentList>(json!([agent()])),
        ),
        route(
            "GET /agents/{id}/status",
            "/agents/polecat-1/status",
            "One agent. `status` is `starting`, `running`, `stopping`, `exited`, `failed`, `backoff` or `quarantined`. \
             `exit`, `setAside`, `restart.nextRestartAt` and `restart.quarantine` appear when they apply.",
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
        route(
            "POST /agents/{id}/stop",
            "/agents/polecat-1/stop",
            "Stops an agent and responds when its incarnation has ended. The body is ignored.",
            of::<StopAnswer>(json!({"stopped": true, "exitReason": "stopped"})),
        ),
        with(
            json!({"prompt": "hello"}),
            route(
                "POST /agents/{id}/message",
                "/agents/polecat-1/message?wait=30000",
                "Puts a message into the mailbox. With `wait`, 0 to 600,000 ms, the response follows the end of its turn. 202 \
                 with the outcome `pending`: the wait ended first, and the turn continues. Without `wait`, `outcome` and \
                 `reply` are absent. A turn that is delivered again has not ended.",
                of::<MessageAnswer>(
                    json!({"sent": true, "messageId": "m-18", "outcome": "idle", "reply": "hello yourself"}),
                ),
            ),
        ),
        with(
            json!({"message": "the build is red", "source": "witness", "nudgeId": "n-4"}),
            route(
                "POST /agents/{id}/nudge",
                "/agents/polecat-1/nudge",
                "Leaves a message that the agent gets when its mailbox is empty. `source` defaults to `operator`; the host \
                 assigns a missing `nudgeId`.",
                of::<NudgeAnswer>(json!({"queued": true, "nudgeId": "n-4"})),
            ),
        ),
        route(
            "GET /agents/{id}/events",
            "/agents/polecat-1/events?after=41",
            "Events with an id above `after`, oldest first; `limit` bounds their number. Ids rise over all agents and all runs \
             of the host, see [streams](#streams). Events that were dropped before they could be read, or may have been, end \
             before the id `droppedBefore`.",
            of::<EventsPage>(json!({
                "events": [{
                    "id": 42, "event": "agent.turn", "data": {"outcome": "idle"}, "timestamp": "2026-01-15T09:31:12.250Z"
                }],
                "droppedBefore": 40
            })),
        ),
    ];
    let settings = vec![
        with(
            json!({"model": "large", "smallModel": "small"}),
            route(
                "PATCH /agents/{id}/model",
                "/agents/polecat-1/model",
                "Changes the models from the next turn on. Without `smallModel` it stays; `null` removes it.",
                updated(),
            ),
        ),
        with(
            json!({"systemPrompt": "be brief"}),
            route(
                "PUT /agents/{id}/system-prompt",
                "/agents/polecat-1/system-prompt",
                "Changes the standing instructions from the next turn on.",
                updated(),
            ),
        ),
        with(
            json!({"context": "two builds are red"}),
            route(
                "POST /dashboard-context",
                "/dashboard-context",
                "Sets what the dashboard shows, for all agents. Blank text removes it.",
                updated(),
            ),
        ),
        with(
            json!({"env_vars": {"model.api-key": "...", "RETIRED": null}}),
            route(
                "POST /sync-config",
                "/sync-config",
                "Sets the town's configuration values, for `host.config` and the environment of agents. They replace all \
                 earlier values: one that is not named, or is `null`, is removed. Text, numbers and booleans are accepted. \
                 Unknown fields appear in `ignored`, here and on the other shared routes.",
                of::<WithIgnored<SyncAnswer>>(json!({"synced": true})),
            ),
        ),
        with(
            json!({"token": "..."}),
            route(
                "POST /refresh-token",
                "/refresh-token",
                "Replaces the token for the town's API. No agent restarts.",
                serde_json::to_string_pretty(&RefreshTokenAnswer { refreshed: true })
                    .expect("JSON"),
            ),
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
    let diagnosis = vec![
        route(
            "GET /crashes",
            "/crashes?agent=polecat-1&limit=1",
            "Crash records of this run and earlier ones, newest first. Filters: `agent`, `reason`. `before` and `after` take a \
             crash id. `limit` is at most 1000, by default 100. `more`: there are more in that direction. `cursorLost`: the \
             record of `before` or `after` is not kept any more.",
            of::<CrashesPage>(json!({"crashes": [crash()], "more": false})),
        ),
        route(
            "GET /agents/{id}/crashes",
            "/agents/polecat-2/crashes",
            "The same for one agent. An unknown agent has an empty list.",
            of::<CrashesPage>(json!({"crashes": [], "more": false})),
        ),
        route(
            "GET /crashes/{crashId}",
            "/crashes/019bc0de-5a1c-7a3e-9d2b-6f1f0a3c7e55",
            "One crash record. `eviction` appears when it was evicted.",
            of::<CrashRecord>(crash()),
        ),
        route(
            "GET /memory",
            "/memory",
            "Memory of the container, over time. `null`: this machine does not report it.",
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
        route(
            "GET /agents/{id}/memory",
            "/agents/polecat-1/memory",
            "Memory of one agent, over time, across incarnations. `usedBytes` and `hostBytes` are `null` when it is not up.",
            of::<AgentMemoryView>(memory),
        ),
        route(
            "GET /usage",
            "/usage?role=polecat",
            "Calls of language models by agent, role, endpoint and model, with earlier runs of the host, and how much of each \
             budget is used. Filters: `agent`, `role`. `agentId` is `null` in entries of agents that have none of their own \
             any more; `role` is `null` for the container. Costs are in billionths of the unit in which prices are configured. \
             See [Usage and budgets](usage.md).",
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
    ];
    let events = format!(
        "retry: 1000\n\nid: 42\ndata: {}\n\nevent: delta\ndata: {}\n",
        r#"{"type":"event","id":42,"agentId":"polecat-1","event":"agent.turn","data":{"outcome":"idle"},"timestamp":"2026-01-15T09:31:12.250Z"}"#,
        r#"{"type":"delta","agentId":"polecat-1","messageId":"m-7","deltas":[{"kind":"text","text":"Here is"}]}"#
    );
    let streams = vec![
        route(
            "GET /agents/{id}/events/stream",
            "/agents/polecat-1/events/stream?after=41",
            "Events of an agent as they happen, and its turns (`deltas=false`: without). 404 for an agent that nobody knows; \
             the stream ends when the agent is forgotten.",
            events.clone(),
        ),
        route(
            "GET /events/stream",
            "/events/stream?agent=polecat-1,polecat-2&event=agent.*",
            "Events of the container (without `agentId`) and of all agents. With `agent` of these alone, with `event` those \
             of these names alone. `deltas=true`: turns as well.",
            events,
        ),
        Route {
            status: 101,
            ..route(
                "GET /ws",
                "/ws?after=41",
                "The same over a WebSocket, with the same parameters: each frame is a text message. What a client says is \
                 not read.",
                r#"{"type":"gap","of":"events","after":41,"upto":57}"#.into(),
            )
        },
        Route {
            status: 201,
            ..route(
                "POST /tickets",
                "/tickets",
                "A ticket for one stream, good for 60 s, as `ticket` in its query in place of the token: a browser sends no \
                 headers with a stream.",
                of::<TicketAnswer>(json!({
                    "ticket": "5f0e9a7c2b1d4e6f8091a2b3c4d5e6f708192a3b4c5d6e7f",
                    "expiresAt": "2026-01-15T09:32:12.250Z"
                })),
            )
        },
    ];
    let card =
        || json!({"id": "mayor", "object": "model", "created": 1_768_469_400, "owned_by": "mayor"});
    let chat = vec![
        route(
            "GET /v1/models",
            "/v1/models",
            "The agents that take messages, as models.",
            of::<ModelList>(json!({"object": "list", "data": [card()]})),
        ),
        route(
            "GET /v1/models/{model}",
            "/v1/models/mayor",
            "One of them.",
            of::<ModelCard>(card()),
        ),
        with(
            json!({"model": "mayor", "messages": [{"role": "user", "content": "hello"}]}),
            route(
                "POST /v1/chat/completions",
                "/v1/chat/completions",
                "Sends an agent a message, and answers with its reply when the turn is over, within ten minutes. With \
                 `\"stream\": true` it comes in pieces: the text of the agent's models as they write it, \
                 `reasoning_content`, and what the reply has beyond them. A turn goes on without its reader.",
                of::<Completion>(json!({
                    "id": "chatcmpl-m-7", "object": "chat.completion", "created": 1_768_469_472, "model": "mayor",
                    "choices": [{
                        "index": 0, "message": {"role": "assistant", "content": "Hello."}, "finish_reason": "stop"
                    }]
                })),
            ),
        ),
    ];
    let models = vec![with(
        json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {
            "name": "list_agents", "arguments": {"limit": 1}
        }}),
        route(
            "POST /mcp",
            "/mcp",
            "One request of the Model Context Protocol (streamable HTTP), and its answer: no session, no stream. `Accept` has \
             `application/json` and `text/event-stream`. `server.mcp` says which tools there are; `off`: 404 `mcp-off`. What \
             goes wrong in a tool is its result, with `isError`. [mcp.md](mcp.md) has the tools.",
            serde_json::to_string_pretty(&json!({"jsonrpc": "2.0", "id": 1, "result": {
                "content": [{"type": "text", "text": "{\"agents\":[],\"more\":false}"}], "isError": false
            }}))
            .expect("JSON"),
        ),
    )];
    vec![
        ("Probes and metrics", probes),
        ("Agents", agents),
        ("Streams", streams),
        ("Chat clients", chat),
        ("Tools for models", models),
        ("Settings of running agents", settings),
        ("Crashes, memory and usage", diagnosis),
    ]
}

const CHAT: &str = "\
Programs that talk to OpenAI's API talk to agents: the base URL is `http://HOST/v1`, the key is the control token, a model is
an agent. Of `messages`, what `user` said after the last message of `assistant` is sent: the agent keeps its conversation
itself, and has its own instructions and tools. Parts that are no text are refused; `temperature`, `tools` and other fields
do nothing. Errors have the form `{\"error\": {\"message\", \"type\", \"param\", \"code\"}}`, with the statuses of other routes.

";
const STREAMS: &str = include_str!("document/streams.md");

fn page() -> String {
    let groups = groups();
    let links = groups.iter().map(|(heading, _)| {
        format!("[{}](#{})", heading.to_lowercase(), heading.to_lowercase().replace(' ', "-"))
    });
    let contents = links.collect::<Vec<_>>().join(", ");
    let mut routes = String::new();
    for (heading, group) in &groups {
        let _ = writeln!(routes, "## {heading}\n");
        match *heading {
            "Streams" => routes.push_str(STREAMS),
            "Chat clients" => routes.push_str(CHAT),
            _ => {}
        }
        for Route { call, path, prose, body, status, answer } in group {
            let method = call.split(' ').next().expect("a method");
            let _ = writeln!(routes, "### `{call}`\n\n{prose}\n\n```http\n{method} {path}");
            if let Some(body) = body {
                let body = serde_json::to_string_pretty(body).expect("JSON");
                let _ = writeln!(routes, "\n{body}");
            }
            let language = if answer.starts_with(['{', '[']) { "json" } else { "text" };
            let _ = writeln!(routes, "```\n\n{status}:\n\n```{language}\n{answer}\n```\n");
        }
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
        .replace("{{failures}}\n", &(failures + "\n"))
        .replace("{{error}}", &error);
    let note = "<!-- Made by host/control/src/tests/document.rs and document/api.md; UPDATE_EXPECT=1 rewrites it. -->\n";
    format!("{note}{page}")
}

#[test]
fn the_page_of_the_api_is_made_from_its_types() {
    expect_test::expect_file!["../../../../docs/api.md"].assert_eq(&page());
}

#[test]
fn the_page_has_exactly_the_routes_of_the_router() {
    let of_router = |line: &str| {
        let (path, handler) = line.trim().strip_prefix(".route(\"")?.split_once("\", ")?;
        let method = handler.split('(').next()?.to_uppercase();
        let path = path.replace("crash_id", "crashId");
        (method != "ANY").then(|| format!("{method} {path}"))
    };
    let routed: BTreeSet<_> = ROUTES.lines().filter_map(of_router).collect();
    let groups = groups();
    let routes = groups.iter().flat_map(|(_, routes)| routes);
    let shown: BTreeSet<_> = routes.map(|route| route.call.to_owned()).collect();
    assert_eq!(shown, routed);
}

#[test]
fn the_server_answers_each_request_of_the_page_with_its_status() {
    let rig = Rig::start();
    let mut client = rig.client();
    for Route { call, path, body, status, answer, .. } in
        groups().into_iter().flat_map(|(_, routes)| routes)
    {
        let method = call.split(' ').next().expect("a method");
        let body = body.map_or_else(String::new, |body| body.to_string());
        if path.contains("/stream") || status == 101 {
            let upgrade = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
                           sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
            let upgrade = if status == 101 { upgrade } else { "" };
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
        }
    }
}
