//! Files, repositories and programs of agents.

use serde_json::json;

use super::fake::Rig;

#[test]
fn a_file_is_shown_within_bounds() {
    let rig = Rig::start();
    let mut client = rig.client();
    let file = client.get("/agents/a/files?path=src%2Fa.rs&offset=3&maxBytes=7");
    let expected = json!({
        "path": "src/a.rs", "kind": "file", "bytes": 9, "offset": 3, "utf8": true, "text": "7", "truncated": true,
        "nextOffset": 4
    });
    assert_eq!((file.status, file.json()), (200, expected));
    let plain = client.get("/agents/a/files").json();
    assert_eq!((&plain["path"], &plain["text"]), (&json!("."), &json!("65536")));
    for (query, field) in [
        ("maxBytes=0", "maxBytes"),
        ("maxBytes=1048577", "maxBytes"),
        ("offset=-1", "offset"),
        ("file=a", "file"),
    ] {
        let refused = client.get(&format!("/agents/a/files?{query}"));
        assert_eq!((refused.status, &refused.json()["issues"][0]["path"]), (400, &json!(field)));
    }
    let missing = client.get("/agents/ghost/files?path=x");
    assert_eq!((missing.status, &missing.json()["error_type"]), (404, &json!("not-there")));
    let outside = client.get("/agents/outside/files?path=..").json();
    assert_eq!((&outside["status"], &outside["issues"][0]["path"]), (&json!(400), &json!("path")));
}

#[test]
fn a_difference_says_why_there_is_none() {
    let rig = Rig::start();
    let mut client = rig.client();
    let diff = client.get("/agents/a/diff?against=head&maxBytes=5");
    assert_eq!((diff.status, &diff.json()["patch"]), (200, &json!("5")));
    assert_eq!(client.get("/agents/a/diff").json()["against"], "upstream");
    assert_eq!(client.get("/agents/a/diff?against=main").status, 400);
    for (agent, status, kind) in [
        ("ghost", 404, "unprepared"),
        ("slow", 504, "timeout"),
        ("full", 507, "no-space"),
        ("busy", 503, "locked"),
    ] {
        let refused = client.get(&format!("/agents/{agent}/diff"));
        assert_eq!((refused.status, &refused.json()["error_type"]), (status, &json!(kind)));
    }
}

#[test]
fn a_program_is_run_or_refused_by_name() {
    let rig = Rig::start();
    let mut client = rig.client();
    let ran = client.post(
        "/agents/a/exec",
        r#"{"program":"git","arguments":["log","-1"],"stdin":"x","environment":{"A":"b"}}"#,
    );
    let answer = ran.json();
    assert_eq!((ran.status, &answer["end"], &answer["code"]), (200, &json!("exited"), &json!(0)));
    assert_eq!((&answer["stdout"], &answer["stderr"]), (&json!("log -1"), &json!("x")));
    for (program, status, kind) in [
        ("rm", 403, "denied"),
        ("gone", 422, "not-found"),
        ("../sh", 422, "invalid"),
        ("later", 503, "tools-unavailable"),
        ("last", 409, "agent-ended"),
    ] {
        let refused = client.post("/agents/a/exec", &json!({"program": program}).to_string());
        assert_eq!((refused.status, &refused.json()["error_type"]), (status, &json!(kind)));
    }
    let ghost = client.post("/agents/ghost/exec", r#"{"program":"git"}"#);
    assert_eq!((ghost.status, &ghost.json()["error_type"]), (404, &json!("no-such-agent")));
    let nothing = client.post("/agents/a/exec", "{}");
    assert_eq!((nothing.status, &nothing.json()["issues"][0]["path"]), (400, &json!("program")));
}

#[test]
fn a_rig_is_prepared_and_merged() {
    let rig = Rig::start();
    let mut client = rig.client();
    let known = client.post("/rigs/known/prepare", "");
    assert_eq!((known.status, &known.json()["defaultBranch"]), (200, &json!("main")));
    for (name, status, kind) in [
        ("none", 404, "no-repositories"),
        ("ghost", 404, "no-such-rig"),
        ("closed", 502, "unauthorized"),
    ] {
        let refused = client.post(&format!("/rigs/{name}/prepare"), "{}");
        assert_eq!((refused.status, &refused.json()["error_type"]), (status, &json!(kind)));
    }
    let merged = client.post("/rigs/known/merge", r#"{"source":"work","target":"main"}"#);
    let expected = json!({"target": "main", "commit": "c0"});
    assert_eq!((merged.status, merged.json()), (200, expected));
    let conflict = client.post("/rigs/known/merge", r#"{"source":"conflict"}"#);
    assert_eq!((conflict.status, &conflict.json()["error_type"]), (409, &json!("conflict")));
    assert_eq!(conflict.json()["files"], json!(["a.txt", "b.txt"]));
    let missing = client.post("/rigs/known/merge", r#"{"source":"missing"}"#);
    assert_eq!((missing.status, &missing.json()["error_type"]), (404, &json!("branch-missing")));
}

#[test]
fn a_workspace_is_removed_unless_somebody_needs_it() {
    let rig = Rig::start();
    let mut client = rig.client();
    assert_eq!(client.get("/workspaces").json()["workspaces"][0]["agentId"], "a1");
    for (path, status, kind) in [
        ("ghost", 404, "no-workspace"),
        ("up?force", 409, "in-use"),
        ("work", 409, "not-pushed"),
        ("shipped", 503, "archived"),
    ] {
        let refused = client.ask("DELETE", &format!("/workspaces/{path}"), "", "");
        assert_eq!((refused.status, &refused.json()["error_type"]), (status, &json!(kind)));
    }
    for path in ["a1", "work?force=true"] {
        let removed = client.ask("DELETE", &format!("/workspaces/{path}"), "", "");
        let expected = json!({"bytes": 4096, "entries": 1, "left": null});
        assert_eq!((removed.status, removed.json()), (200, expected));
    }
}
