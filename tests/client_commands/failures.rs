//! Every exit code, with a host that is well.

use std::path::Path;

use harness::{Host, Value, wait_until};
use rustix::process::Signal;

use super::Person;

#[test]
fn a_wrong_command_line_asks_nobody() {
    // No host is there: a command ends with another code.
    let person = Person::at("http://127.0.0.1:1");
    std::fs::write(person.dir.path().join("broken.json"), "{").expect("write a file");
    for (words, named) in [
        (&["status", "../etc"][..], "agent id"),
        (&["start", "one"], "--role"),
        (&["start", "one", "--role", "echo", "--deadline", "5"], "such as 500ms, 30s, 5m or 2h"),
        (&["start", "--file", "broken.json"], "--file"),
        (&["start", "--file", "missing.json"], "missing.json"),
        (&["start", "one", "--role", "echo", "--env-file", "missing"], "missing"),
        (&["stop"], "AGENT"),
        (&["stop", "--all"], "--yes"),
        (&["stop", "one", "--all"], "--all"),
        (&["send", "one"], "TEXT"),
        (&["send", "one", ""], "the message is empty"),
        (&["send", "one", "hi", "--wait", "11m"], "the maximum is 10m"),
        (&["events", "one", "--after=-1"], "--after"),
        (&["ps", "--url", "ftp://town"], "http:// or https://"),
        (&["ps", "--url", "http://town:65536"], "between 1 and 65535"),
        (
            &["ps", "--url", "https://town", "--ca-file", "missing"],
            "--ca-file: cannot read missing",
        ),
        (&["ps", "--url", "http://hunter3@town"], "user or password"),
        (&["ps", "--token-file", "missing"], "cannot read the secret"),
        (&["ps", "--timeout", "0s"], "greater than zero"),
        (&["crashes", "--timeout", "1s"], "--url"),
    ] {
        let ended = person.says(words);
        ended.fails(2, &[named]);
        assert!(ended.stdout.is_empty() && !ended.stderr.contains("hunter3"), "{ended:?}");
    }
    assert_eq!(person.types(&["send", "one", "-"], "").code, 2, "nothing on stdin");
    let long = "x".repeat(1024 * 1024 + 1);
    person.types(&["send", "one", "-"], &long).fails(2, &["longer than 1 MiB"]);
    person.types(&["nudge", "one", "-"], &long[..20_000]).fails(2, &["longer than 16 KiB"]);
}

#[test]
fn a_person_is_warned_before_the_token_goes_over_a_network_in_the_clear() {
    // Nobody has that name, so nothing is sent.
    let warning = "bulkhead: warning: the token goes to town.invalid over plain HTTP";
    let with_token = |url| Person::at(url).with("BULKHEAD_CONTROL_TOKEN", "hunter2");
    for words in [&["ps", "--timeout", "5s"][..], &["ps", "--json", "--timeout", "5s"]] {
        let ended = with_token("http://town.invalid:1").says(words);
        assert!(ended.code != 0 && ended.stderr.starts_with(warning), "{ended:?}");
        assert!(
            !ended.stdout.contains("warning") && !ended.stderr.contains("hunter2"),
            "{ended:?}"
        );
    }
    for person in [
        Person::at("http://town.invalid:1"),
        with_token("https://town.invalid:1"),
        with_token("http://127.0.0.1:1"),
    ] {
        let ended = person.says(&["ps", "--timeout", "5s"]);
        assert!(ended.code != 0 && !ended.stderr.contains("warning"), "{ended:?}");
    }
}

#[test]
fn what_the_host_refuses_is_shown_with_its_reason() {
    let host = Host::builder()
        .guest("puppet")
        .role("small", "puppet", "mailbox_messages = 1")
        .start()
        .ready();
    let person = Person::of(&host);
    for words in [
        &["status", "nobody"][..],
        &["stop", "nobody"],
        &["send", "nobody", "hi"],
        &["nudge", "nobody", "hi"],
        &["events", "nobody"],
        &["memory", "nobody"],
    ] {
        person.says(words).fails(3, &["nobody refused (status 404, no-such-agent)"]);
    }
    let unknown = person.says(&["start", "one", "--role", "nosuch"]);
    unknown
        .fails(3, &["refused in admission (status 400, unknown-role)", "field     role", "do  "]);
    assert!(unknown.stdout.is_empty(), "{unknown:?}");

    person.says(&["start", "one", "--role", "small"]).ok();
    std::thread::scope(|scope| {
        let turn = host.occupy(scope, "one", "hello");
        person.says(&["send", "one", "waits"]).ok();
        person
            .says(&["send", "one", "full"])
            .fails(3, &["status 429, mailbox-full", "again     in 1 s"]);

        // The host drains, and the turn keeps it from ending.
        host.signal(Signal::TERM);
        wait_until("the host drains", || person.says(&["status"]).stdout.contains("draining: "));
        let late = person.says(&["start", "two", "--role", "echo"]);
        late.fails(3, &["status 503, draining", "again     in 5 s"]);
        host.release("one");
        assert_eq!(turn.join().expect("the turn").status, 200);
    });
    host.ends_with(harness::host::CLEAN);
}

#[test]
fn what_the_host_did_and_failed_is_shown_with_its_phase() {
    let host = Host::builder()
        .guest("puppet")
        .guest("slow-start")
        .component("missing", Path::new("/nowhere/missing.wasm"))
        .role("missing", "missing", "")
        .start()
        .ready();
    // Compiling is not starting, and takes longer than the deadline below.
    host.client().start("warm", "slow-start");
    let person = Person::of(&host);
    for (words, named) in [
        (
            &["start", "a", "--role", "missing"][..],
            "failed in component (status 422, component-unreadable)",
        ),
        (
            &["start", "b", "--role", "puppet", "--prompt", "error"],
            "failed in guest_start (status 502, guest-error)",
        ),
        (
            &["start", "c", "--role", "puppet", "--prompt", "panic"],
            "failed in guest_start (status 502, guest-crashed)",
        ),
        (
            &["start", "d", "--role", "slow-start", "--prompt", "90000", "--deadline", "300ms"],
            "(status 504, deadline)",
        ),
    ] {
        let ended = person.says(words);
        ended.fails(4, &[named, "do  "]);
        assert!(ended.stdout.is_empty(), "{ended:?}");
    }
    let json = person.says(&["start", "b", "--role", "puppet", "--prompt", "error", "--json"]);
    let error: Value = serde_json::from_str(&json.stdout).expect("the refusal is JSON");
    assert_eq!((&error["phase"], json.code), (&"guest_start".into(), 4), "{error}");
    host.finish();
}

#[test]
fn a_token_comes_from_the_environment_or_a_file_and_is_never_shown() {
    const TOKEN: &str = "correct-horse-battery";
    let host = Host::builder().toml(&format!("[server]\ntoken = \"{TOKEN}\"")).start().ready();
    let without = Person::of(&host);
    let hint = "set BULKHEAD_CONTROL_TOKEN, or name a file with --token-file";
    without.says(&["ps"]).fails(3, &["status 401, unauthorized", hint]);
    let wrong = Person::of(&host).with("BULKHEAD_CONTROL_TOKEN", "wrong-horse");
    let refused = wrong.says(&["start", "one", "--role", "echo"]);
    refused.fails(3, &["status 401"]);
    assert!(!format!("{refused:?}").contains("wrong-horse"), "{refused:?}");
    let right = Person::of(&host).with("BULKHEAD_CONTROL_TOKEN", TOKEN);
    assert_eq!(right.says(&["ps"]).ok(), "no agents\n");

    let file = wrong.dir.path().join("token");
    std::fs::write(&file, format!("{TOKEN}\n")).expect("write a file");
    let by_file = wrong.says(&["status", "--token-file", "token"]).ok();
    assert!(!by_file.contains(TOKEN), "{by_file}");
    let url = format!("http://{}", host.address());
    assert_eq!(right.says(&["crashes", "--url", &url]).ok(), "no crash records\n");

    // The configuration says both, where no address is named, whatever else stands in it.
    let own = Person::at("");
    let text = format!(
        "[server]\nlisten = \"{}\"\ntoken = \"{TOKEN}\"\n[half]\nedited = 1\n",
        host.address()
    );
    let path = own.dir.path().join("bulkhead.toml");
    std::fs::write(&path, text).expect("write a file");
    let mut command = own.command(&["ps"]);
    command.env_remove("BULKHEAD_URL");
    assert_eq!(super::Running::of(command).ends().ok(), "no agents\n");
    assert_eq!(own.says(&["ps", "--url", &url]).ok(), "no agents\n");
    // To another address it does not go.
    let other = format!("http://localhost:{}", host.address().port());
    own.says(&["ps", "--url", &other]).fails(3, &["status 401"]);
    host.finish();
}

#[test]
fn texts_of_a_guest_do_nothing_to_a_terminal() {
    let host = Host::builder().guest("trap").start().ready();
    let person = Person::of(&host);
    // Clears the screen, renames the window, and hides what follows, in both encodings of control
    // characters; then turns the direction of writing around.
    let evil = "a\x1b[2J\x1b]0;x\x07\u{9b}8m\u{202e}\rb";
    person.says(&["start", "one", "--role", "echo", "--name", evil, "--rig", evil]).ok();
    person.says(&["start", "bad", "--role", "trap", "--name", evil]).ok();
    let reply = person.says(&["send", "one", evil, "--wait", "50s"]).ok();
    let shown = r"a\u{1b}[2J\u{1b}]0;x\u{7}\u{9b}8m\u{202e}\rb";
    assert!(reply.ends_with(&format!("{shown}\n")), "{reply:?}");
    let said: Value = person.says(&["send", "one", evil, "--wait", "50s", "--json"]).json();
    assert_eq!(said["reply"], evil, "a program gets the text itself");
    assert_eq!(person.says(&["send", "bad", "panic", "--wait", "50s"]).code, 4);
    host.client().ended("bad");

    let url = format!("http://{}", host.address());
    for words in [
        &["ps"][..],
        &["ps", "--json"],
        &["status"],
        &["status", "one"],
        &["status", "one", "--json"],
        &["events", "one"],
        &["events", "one", "--json"],
        &["send", "one", evil, "--wait", "50s", "--json"],
        &["memory"],
        &["crashes", "show", "--url", &url],
        &["crashes", "show", "--json", "--url", &url],
        &["start", "x", "--role", evil],
        &["ps", "--url", evil],
    ] {
        let ended = person.says(words);
        for text in [&ended.stdout, &ended.stderr] {
            let wrong = |found: char| (found.is_control() && found != '\n') || found == '\u{202e}';
            assert!(!text.contains(wrong), "{words:?}: {text:?}");
        }
    }
    let status = person.says(&["status", "one"]).ok();
    assert!(status.contains(&format!("one ({shown}): running")), "{status:?}");
    host.finish();
}
