//! `bulkhead health`, and the token that a host makes for itself.

use std::os::unix::fs::PermissionsExt;

use harness::Host;
use harness::host::Launch;
use hyper::Method;

use super::hosts::{answer, someone};
use super::{Person, Running};

#[test]
fn a_host_that_is_well_is_0_and_needs_no_token() {
    let host = Host::builder().start().ready();
    host.client().start("one", "echo");
    let person = Person::at(&format!("http://{}", host.address()));
    assert_eq!(person.says(&["health"]).ok(), "ok: 1 agent\n");
    assert_eq!(person.says(&["health", "--live"]).ok(), "ok\n");
    assert_eq!(person.says(&["health", "--ready"]).ok(), "ready\n");
    let url = format!("http://{}", host.address());
    host.finish();
    for words in [&["health"][..], &["health", "--live"], &["health", "--ready"]] {
        person.says(words).fails(1, &[&url, "cannot connect"]);
    }
}

#[test]
fn whatever_is_wrong_is_1_and_says_why() {
    let (url, thread) = someone(1, |stream| {
        let body = r#"{"error":"not ready: the container is booting or draining","status":503}"#;
        answer(stream, "503 Service Unavailable", body);
    });
    Person::at(&url).says(&["health", "--ready"]).fails(1, &["status 503", "booting or draining"]);
    thread.join().expect("answer");
    let (url, thread) = someone(1, |stream| answer(stream, "200 OK", "<html>hello</html>"));
    Person::at(&url).says(&["health"]).fails(1, &[&url]);
    thread.join().expect("answer");
    Person::at("ftp://x").says(&["health"]).fails(1, &["ftp://x"]);
}

#[test]
fn without_a_word_about_the_address_the_usual_one_is_asked() {
    let person = Person::at("http://unused").with("BULKHEAD_CONFIG", "/nowhere/bulkhead.toml");
    let mut command = person.command(&["health", "--live", "--timeout", "5s"]);
    command.env_remove("BULKHEAD_URL");
    let ended = Running::of(command).ends();
    // Somebody may listen there.
    assert!(ended.code == 0 || ended.stderr.contains("http://127.0.0.1:8080"), "{ended:?}");
}

#[test]
fn a_host_without_a_token_makes_one_that_its_own_commands_find() {
    let mut host = Host::builder().start().ready();
    let file = host.state_dir().join("control-token");
    let token = std::fs::read_to_string(&file).expect("a token");
    let mode = std::fs::metadata(&file).expect("a token").permissions().mode();
    assert_eq!((token.trim().len(), mode & 0o777), (64, 0o600));
    let nobody = host.client().clone().without_token();
    nobody.get("/agents").expect_error(401, &["unauthorized"]);
    assert_eq!(nobody.request(Method::GET, "/livez", "").status, 200);
    let asks = |host: &Host, more: &[&str]| {
        let config = host.dir().join("bulkhead.toml");
        let person = Person::at("http://unused")
            .with("BULKHEAD_CONFIG", config.to_str().expect("UTF-8"))
            .with("BULKHEAD_LISTEN", &host.address().to_string());
        let mut command = person.command(&[&["ps"], more].concat());
        command.env_remove("BULKHEAD_URL");
        Running::of(command).ends()
    };
    assert_eq!(asks(&host, &[]).ok(), "no agents\n");
    // To an address that is named it goes only where that is the configured one, as it is written there.
    let url = format!("http://{}", host.address());
    assert_eq!(asks(&host, &["--url", &url]).ok(), "no agents\n");
    let other = format!("http://localhost:{}", host.address().port());
    asks(&host, &["--url", &other]).fails(3, &["status 401", "--token-file"]);
    host.signal(rustix::process::Signal::TERM);
    host.wait();
    // It stays the same, and has nothing to do with the database.
    let args = vec!["--without-store".to_owned()];
    let again = host.restart_with(Launch { args, ..Launch::default() }).ready();
    assert_eq!(std::fs::read_to_string(&file).expect("a token"), token);
    assert_eq!(asks(&again, &[]).ok(), "no agents\n");
    for line in again.lines() {
        assert!(!line.to_string().contains(token.trim()), "{line}");
    }
}
