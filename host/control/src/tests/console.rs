//! The console: who gets in, by what, and what a page is answered with.

use super::client::{Answer, Client};
use super::fake::Rig;
use crate::{Backend, ControlLimits};

const FORM: &str =
    "content-type: application/x-www-form-urlencoded\r\norigin: http://localhost\r\n";

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; \
                      form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

fn guarded() -> Rig {
    Rig::with(ControlLimits::default(), Some("hunter2"))
}

/// Logs in, and returns the header with the cookie.
fn log_in(client: &mut Client) -> String {
    let answer =
        client.ask("POST", "/console/login", FORM, "token=hunter2&next=%2Fconsole%2Fcontainer");
    assert_eq!((answer.status, answer.header("location")), (303, Some("/console/container")));
    let cookie = answer.header("set-cookie").expect("a cookie");
    let (pair, attributes) = cookie.split_once(';').expect("attributes");
    assert_eq!(attributes, " Path=/; Max-Age=43200; HttpOnly; SameSite=Strict");
    assert!(pair.starts_with("bulkhead_session=") && !pair.contains("hunter2"), "{pair}");
    format!("cookie: {pair}\r\n")
}

/// The token in the forms of a page.
fn form_token(page: &str) -> String {
    let field = page.split("name=\"form_token\" value=\"").nth(1).expect("a form");
    field.split('"').next().expect("its token").to_owned()
}

/// What was done, without what was read.
fn done(rig: &Rig) -> Vec<String> {
    let is_done =
        |change: &String| !change.starts_with("crashes ") && !change.starts_with("usage ");
    rig.backend.changes().into_iter().filter(is_done).collect()
}

fn is_a_guarded_page(answer: &Answer) {
    assert_eq!(answer.header("content-security-policy"), Some(POLICY));
    assert_eq!(answer.header("referrer-policy"), Some("same-origin"));
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(answer.header("content-type"), Some("text/html; charset=utf-8"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert!(answer.body.starts_with("<!DOCTYPE html>"), "{}", answer.body);
}

#[test]
fn without_a_session_there_is_only_the_login() {
    let rig = guarded();
    let mut client = rig.client();
    for path in [
        "/console",
        "/console/agents/a1",
        "/console/crashes",
        "/console/container",
        "/console/nope",
    ] {
        let answer = client.get(path);
        let next = path.replace('/', "%2F");
        assert_eq!(answer.status, 303, "{path}");
        assert_eq!(answer.header("location"), Some(&*format!("/console/login?next={next}")));
        assert_eq!(answer.header("content-security-policy"), Some(POLICY));
        assert!(answer.body.is_empty(), "{}", answer.body);
    }
    for (path, next) in [
        ("/console?after=a1", "%2Fconsole%3Fafter%3Da1"),
        ("/console/crashes?agent=a.b&before=c", "%2Fconsole%2Fcrashes%3Fagent%3Da.b%26before%3Dc"),
    ] {
        let answer = client.get(path);
        assert_eq!(answer.header("location"), Some(&*format!("/console/login?next={next}")));
        let (_, query) = path.split_once('?').unwrap();
        let form = client.get(&format!("/console/login?next={next}")).body;
        assert!(form.contains(&query.replace('&', "&amp;")), "{form}");
        let body = format!("token=hunter2&next={next}");
        let answer = client.ask("POST", "/console/login", FORM, &body);
        assert_eq!((answer.status, answer.header("location")), (303, Some(path)));
    }
    for forged in ["cookie: bulkhead_session=\r\n", "cookie: bulkhead_session=hunter2\r\n"] {
        assert_eq!(client.ask("GET", "/console", forged, "").status, 303);
        assert_eq!(client.ask("GET", "/events/stream", forged, "").status, 401);
    }
    let page = client.get("/console/login?next=%2Fconsole%2Fcrashes");
    assert_eq!(page.status, 200);
    is_a_guarded_page(&page);
    assert!(page.body.contains("value=\"/console/crashes\""), "{}", page.body);
    let answer = client.ask("POST", "/console/agents/a1/stop", FORM, "form_token=");
    let to_login = "/console/login?next=%2Fconsole%2Fagents%2Fa1&unsent=true";
    assert_eq!((answer.status, answer.header("location")), (303, Some(to_login)));
    let page = client.get(to_login).body;
    assert!(page.contains("thrown away") && page.contains("\"/console/agents/a1\""), "{page}");
    assert!(done(&rig).is_empty());
}

#[test]
fn a_browser_that_comes_by_the_address_alone_gets_to_the_console() {
    let rig = guarded();
    let mut client = rig.client();
    let browser = "accept: text/html,application/xhtml+xml,*/*;q=0.8\r\n";
    let answer = client.ask("GET", "/", browser, "");
    assert_eq!((answer.status, answer.header("location")), (303, Some("/console")));
    assert_eq!(answer.header("content-security-policy"), Some(POLICY));
    for (method, path, accept, status) in [
        ("GET", "/", "accept: */*\r\n", 401),
        ("GET", "/", "", 401),
        ("GET", "/agents", browser, 401),
        ("POST", "/", browser, 401),
    ] {
        assert_eq!(client.ask(method, path, accept, "").status, status, "{method} {path} {accept}");
    }
    let token = format!("{browser}authorization: Bearer hunter2\r\n");
    assert_eq!(client.ask("GET", "/", &token, "").status, 303);
    assert_eq!(client.ask("GET", "/", "authorization: Bearer hunter2\r\n", "").status, 404);
    assert_eq!(rig.probe().ask("GET", "/", browser, "").status, 404);
}

#[test]
fn a_wrong_token_opens_nothing_and_is_in_no_line() {
    let rig = guarded();
    let mut client = rig.client();
    for body in ["token=hunter3", "token=", "", "next=%2Fconsole"] {
        let answer = client.ask("POST", "/console/login", FORM, body);
        assert_eq!((answer.status, answer.header("set-cookie")), (401, None), "{body}");
        assert!(answer.body.contains("not the control token"), "{}", answer.body);
        assert!(!answer.body.contains("hunter3"));
    }
    let large = format!("token={}", "x".repeat(5000));
    assert_eq!(client.ask("POST", "/console/login", FORM, &large).status, 413);
    let json = "content-type: application/json\r\n";
    assert_eq!(client.ask("POST", "/console/login", json, "{\"token\":\"hunter2\"}").status, 415);
    let lines = rig.refusals();
    assert!(lines[0].starts_with("401 POST /console/login log in to the console"), "{lines:?}");
    assert!(lines.iter().all(|line| !line.contains("hunter")), "{lines:?}");
}

#[test]
fn a_session_reads_pages_and_streams_and_nothing_else() {
    let rig = guarded();
    let mut client = rig.client();
    let cookie = log_in(&mut client);
    for path in ["/console", "/console/agents/a1", "/console/crashes", "/console/container"] {
        let answer = client.ask("GET", path, &cookie, "");
        assert_eq!(answer.status, 200, "{path}");
        is_a_guarded_page(&answer);
        assert!(answer.body.contains("Log out"));
    }
    for path in ["/events/stream", "/agents/a1/events/stream"] {
        let head = rig.client().open_stream(path, &cookie);
        assert!(head.starts_with("HTTP/1.1 200"), "{path}: {head}");
    }
    for (method, path) in [
        ("GET", "/agents"),
        ("GET", "/metrics"),
        ("GET", "/ws"),
        ("POST", "/tickets"),
        ("POST", "/agents/a1/stop"),
        ("POST", "/agents/a1/message"),
    ] {
        assert_eq!(client.ask(method, path, &cookie, "").status, 401, "{method} {path}");
    }
    let bearer = "authorization: Bearer hunter2\r\n";
    let page = client.ask("GET", "/console", bearer, "");
    assert_eq!(page.status, 200);
    assert!(!page.body.contains("Log out"), "there is no session");
}

#[test]
fn a_config_in_a_header_comes_with_the_token_itself_and_not_with_a_cookie_or_a_ticket() {
    let rig = guarded();
    let mut client = rig.client();
    let cookie = log_in(&mut client);
    let bearer = "authorization: Bearer hunter2\r\n";
    let config = "x-town-config: {\"envVars\":{\"K\":1}}\r\n";
    assert_eq!(client.ask("GET", "/console", &format!("{cookie}{config}"), "").status, 200);
    let ticket = client.ask("POST", "/tickets", bearer, "").json();
    let by_ticket = format!("/events/stream?ticket={}", ticket["ticket"].as_str().unwrap());
    for (path, head) in [("/events/stream", cookie.as_str()), (&by_ticket, "")] {
        let answer = rig.client().open_stream(path, &format!("{head}{config}"));
        assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
    }
    assert!(done(&rig).is_empty(), "{:?}", done(&rig));
    let both = format!("{cookie}{bearer}{config}");
    assert_eq!(client.ask("GET", "/console", &both, "").status, 200);
    assert_eq!(done(&rig), ["sync K=1"]);
}

#[test]
fn a_form_of_another_page_does_nothing() {
    let rig = guarded();
    let mut client = rig.client();
    let (cookie, other) = (log_in(&mut client), log_in(&mut client));
    let token = form_token(&client.ask("GET", "/console/agents/a1", &cookie, "").body);
    let forms = ["stop", "start", "message", "nudge"];
    for form in forms {
        let path = format!("/console/agents/a1/{form}");
        for body in ["text=hi", "text=hi&form_token=", "text=hi&form_token=x"] {
            let answer = client.ask("POST", &path, &format!("{FORM}{cookie}"), body);
            assert_eq!(answer.status, 403, "{form} {body}");
            is_a_guarded_page(&answer);
        }
        let body = format!("text=hi&form_token={token}");
        assert_eq!(client.ask("POST", &path, &format!("{FORM}{other}"), &body).status, 403);
        // A page of another origin that had the token, which it cannot have.
        for page in [
            "origin: https://evil.example\r\n",
            "origin: null\r\n",
            "sec-fetch-site: same-site\r\n",
        ] {
            let head =
                format!("{}{cookie}{page}", FORM.replace("origin: http://localhost\r\n", ""));
            assert_eq!(client.ask("POST", &path, &head, &body).status, 403, "{page}");
        }
        let json = format!("content-type: application/json\r\n{cookie}");
        assert_eq!(client.ask("POST", &path, &json, "{}").status, 415);
    }
    assert!(done(&rig).is_empty(), "{:?}", done(&rig));
    for form in forms {
        let path = format!("/console/agents/a1/{form}");
        let body = format!("text=hi&form_token={token}");
        let answer = client.ask("POST", &path, &format!("{FORM}{cookie}"), &body);
        assert_eq!(answer.status, 303, "{form}: {}", answer.body);
        let to = answer.header("location").expect("a page").to_owned();
        assert!(to.starts_with("/console/agents/a1?said="), "{to}");
        let page = client.ask("GET", &to, &cookie, "");
        assert!(page.body.contains("role=\"status\">The "), "{}", page.body);
    }
    assert_eq!(done(&rig), ["nudge hi from operator"]);
}

#[test]
fn a_message_of_the_script_is_answered_with_its_turn() {
    let rig = Rig::start();
    let mut client = rig.client();
    let token = form_token(&client.get("/console/agents/a1").body);
    let body = format!("text=hi%0D%0Ayou&form_token={token}");
    let head = format!("{FORM}accept: text/event-stream\r\n");
    let answer = client.ask("POST", "/console/agents/a1/message", &head, &body);
    assert_eq!(answer.header("content-type"), Some("text/event-stream"));
    assert!(answer.body.contains(r#""reply":"you said hi\nyou""#), "{}", answer.body);
}

#[test]
fn logging_out_ends_the_session() {
    let rig = guarded();
    let mut client = rig.client();
    let cookie = log_in(&mut client);
    let token = form_token(&client.ask("GET", "/console", &cookie, "").body);
    let head = format!("{FORM}{cookie}");
    assert_eq!(client.ask("POST", "/console/logout", &head, "form_token=x").status, 403);
    let answer = client.ask("POST", "/console/logout", &head, &format!("form_token={token}"));
    assert_eq!((answer.status, answer.header("location")), (303, Some("/console/login")));
    assert!(answer.header("set-cookie").expect("a cookie").contains("Max-Age=0"));
    assert_eq!(client.ask("GET", "/console", &cookie, "").status, 303);
    assert_eq!(client.ask("GET", "/events/stream", &cookie, "").status, 401);
}

#[test]
fn without_a_token_nobody_logs_in_and_forms_are_guarded_all_the_same() {
    let rig = Rig::start();
    let mut client = rig.client();
    let page = client.get("/console/agents/a1");
    assert_eq!(page.status, 200);
    assert!(!page.body.contains("Log out"));
    assert_eq!(client.get("/console/login").header("location"), Some("/console"));
    assert_eq!(client.ask("POST", "/console/agents/a1/nudge", FORM, "text=hi").status, 403);
    let body = format!("text=hi&form_token={}", form_token(&page.body));
    assert_eq!(client.ask("POST", "/console/agents/a1/nudge", FORM, &body).status, 303);
    assert_eq!(done(&rig), ["nudge hi from operator"]);
}

#[test]
fn no_form_does_anything_before_boot_has_restored_the_agent() {
    let rig = Rig::start();
    let mut client = rig.client();
    let body = format!("text=hi&form_token={}", form_token(&client.get("/console/agents/a1").body));
    for form in ["message", "nudge", "start"] {
        let path = format!("/console/agents/late/{form}");
        let answer = client.ask("POST", &path, FORM, &body);
        assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")), "{form}");
        is_a_guarded_page(&answer);
    }
    assert!(done(&rig).is_empty(), "{:?}", done(&rig));
}

#[test]
fn what_is_not_there_is_a_page_and_a_line() {
    let rig = Rig::start();
    let mut client = rig.client();
    for (path, status) in [
        ("/console/nope", 404),
        ("/console/agents/ghost", 404),
        ("/console/crashes/nope", 404),
        ("/console/assets/nope.js", 404),
        ("/console/agents/no%20id", 400),
        ("/console?before=a", 400),
    ] {
        let answer = client.get(path);
        assert_eq!(answer.status, status, "{path}");
        is_a_guarded_page(&answer);
        assert!(answer.body.contains("id=\"problem\""), "{path}: {}", answer.body);
    }
    assert_eq!(client.get("/console/").header("location"), Some("/console"));
    assert_eq!(client.post("/console", "").status, 405);
    assert_eq!(rig.probe().get("/console").status, 404);
    assert_eq!(rig.refusals().len(), 8);
}

#[test]
fn assets_are_asked_for_again_and_not_sent_again() {
    let rig = guarded();
    let mut client = rig.client();
    for (name, kind) in
        [("console.js", "text/javascript; charset=utf-8"), ("icon.svg", "image/svg+xml")]
    {
        let path = format!("/console/assets/{name}");
        let first = client.get(&path);
        assert_eq!((first.status, first.header("content-type")), (200, Some(kind)));
        assert_eq!(first.header("cache-control"), Some("no-cache"));
        let etag = format!("if-none-match: {}\r\n", first.header("etag").expect("an etag"));
        let again = client.ask("GET", &path, &etag, "");
        assert_eq!((again.status, again.body.as_str()), (304, ""));
    }
}

#[test]
fn many_agents_come_in_pages() {
    let rig = Rig::start();
    let mut client = rig.client();
    let first = client.get("/console").body;
    assert!(["a1", "a2", "a3"].iter().all(|id| first.contains(&format!("id=\"row-{id}\""))));
    let rest = client.get("/console?after=a1").body;
    assert!(!rest.contains("id=\"row-a1\"") && rest.contains("id=\"row-a2\""));
}

#[test]
fn the_container_has_the_runs_that_boots_reported_each_once() {
    let rig = Rig::start();
    let run = |id: &str, cause: &str| {
        serde_json::json!({
            "previousRunId": id, "cause": cause, "confidence": "high", "evidence": [], "excluded": [],
            "lastState": null, "lastSeq": null, "lastTs": null, "lastMemory": null, "inFlight": [],
            "exitCode": null, "signal": null
        })
    };
    let report = |last: serde_json::Value, earlier: &[serde_json::Value]| {
        let mut line = last;
        line["earlier"] = earlier.into();
        let line = serde_json::value::to_raw_value(&line).unwrap();
        rig.backend.feed().publish("container.previous_run", line);
    };
    report(run("", "none"), &[]);
    report(run("r-1", "oom_kill"), &[]);
    // The report of the boot before may not have left the process.
    report(run("r-2", "external_sigkill"), &[run("r-1", "oom_kill")]);
    rig.backend.feed().publish("container.drained", serde_json::value::RawValue::NULL.to_owned());
    let page = rig.client().get("/console/container").body;
    let (newer, older) = (page.find("r-2").expect("newer"), page.find("r-1").expect("older"));
    assert!(newer < older && page.matches("r-1").count() == 1, "{page}");
    assert!(!page.contains("there was no earlier run"), "{page}");
}
