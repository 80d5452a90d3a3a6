//! Every command against a real host: what a person sees, and what a program gets.

use bulkhead_api::CrashesPage;
use bulkhead_types::Symbolized;
use harness::client::Client;
use harness::host::CLEAN;
use harness::{Host, Value, wait_until};
use rustix::process::Signal;

use super::Person;

/// The names of the fields of an object, in their order.
fn fields(object: &Value) -> Vec<&String> {
    object.as_object().unwrap_or_else(|| panic!("no object: {object}")).keys().collect()
}

fn crash_id_of(client: &Client, agent: &str) -> String {
    let exit = client.ended(agent).exit.expect("it ended");
    exit.crash_id.unwrap_or_else(|| panic!("no crash: {}", exit.message))
}

#[test]
fn a_person_sees_what_came_of_it() {
    let host = Host::builder().guest("puppet").start().ready();
    let person = Person::of(&host);
    assert_eq!(person.says(&["ps"]).ok(), "no agents\n");
    assert_eq!(
        person.says(&["start", "one", "--role", "echo", "--name", "The One"]).ok(),
        "one started: running, incarnation 1, role echo, component echo\n"
    );
    let kept = person.says(&["start", "one", "--role", "echo", "--if-running", "keep"]).ok();
    assert!(kept.starts_with("one kept as it runs: running, incarnation 1,"), "{kept}");
    let again = person.says(&["start", "one", "--role", "echo"]).ok();
    assert!(again.starts_with("one started: running, incarnation 2,"), "{again}");
    let joined = person.says(&["start", "one", "--role", "echo"]).ok();
    assert!(joined.starts_with("one was already up: running, incarnation 2,"), "{joined}");
    person.says(&["start", "one", "--role", "echo", "--if-running", "restart"]).ok();
    assert_eq!(host.client().status("one").incarnation.0, 3);

    let reply = person.says(&["send", "one", "hello\nthere", "--wait", "50s"]).ok();
    let (first, rest) = reply.split_once('\n').expect("two lines");
    assert!(first.starts_with("one took message ") && first.ends_with(" and is idle again"));
    assert_eq!(rest, "hello\nthere\n");
    let sent = person.types(&["send", "one", "-"], "from stdin").ok();
    assert!(sent.starts_with("sent to one as message "), "{sent}");
    let nudged = person.says(&["nudge", "one", "a hint"]).ok();
    assert!(nudged.starts_with("left for one as nudge "), "{nudged}");

    person.says(&["start", "bad", "--role", "puppet"]).ok();
    person.says(&["send", "bad", "panic", "--wait", "50s"]).fails(
        4,
        &[
            "turn of bad failed (status 502, agent-ended)",
            "told to panic",
            "ended     panic",
            "crash ",
        ],
    );
    let crash_id = crash_id_of(host.client(), "bad");

    let table = person.says(&["ps"]).ok();
    let lines: Vec<_> = table.lines().collect();
    assert!(lines[0].starts_with("AGENT  ROLE    STATUS"), "{table}");
    assert!(lines[1].starts_with("one    echo    running"), "{table}");
    assert!(lines[2].starts_with("bad    puppet  failed"), "{table}");
    assert!(lines[2].contains("panic ") && lines[2].ends_with(" ago: told to panic"), "{table}");

    let status = person.says(&["status", "bad"]).ok();
    for part in
        ["agent      bad: failed\n", "told to panic", &crash_id, "not restarted after panic"]
    {
        assert!(status.contains(part), "{part:?}: {status}");
    }
    let container = person.says(&["status"]).ok();
    for part in ["ok, ready for starts", "2: 1 failed, 1 running", "attention  bad: failed: "] {
        assert!(container.contains(part), "{part:?}: {container}");
    }
    let events = person.says(&["events", "bad"]).ok();
    assert!(events.lines().any(|line| line.contains(" agent.exit ")), "{events}");
    assert!(person.says(&["memory"]).ok().contains("container  "));
    assert!(person.says(&["memory", "one"]).ok().contains(" of 64 MiB ("));

    assert_eq!(person.says(&["stop", "one"]).ok(), "one stopped: stopped\n");
    host.finish();
}

#[test]
fn what_is_done_about_an_end_is_shown() {
    let never = "restart = \"permanent\"\nmax_attempts = 1\nrestart_backoff_ms = 31536000000\nrestart_backoff_max_ms = 31536000000";
    let host = Host::builder()
        .guest("puppet")
        .role("away", "puppet", never)
        .role(
            "hopeless",
            "puppet",
            "restart = \"permanent\"\nrestart_max = 1\nmax_attempts = 1\nrestart_backoff_ms = 1",
        )
        .start()
        .ready();
    let person = Person::of(&host);
    for agent in ["away", "hopeless"] {
        person.says(&["start", agent, "--role", agent, "--prompt", "count"]).ok();
    }
    let killed = |incarnation| {
        host.client().runs("hopeless", incarnation);
        assert_eq!(person.says(&["send", "hopeless", "panic", "--wait", "50s"]).code, 4);
    };
    killed(1);
    killed(2);
    assert_eq!(person.says(&["send", "away", "panic", "--wait", "50s"]).code, 4);
    host.client().reaches("away", "backoff");
    host.client().reaches("hopeless", "quarantined");

    let away = person.says(&["status", "away"]).ok();
    assert!(away.contains("then       after panic: restart in "), "{away}");
    let hopeless = person.says(&["status", "hopeless"]).ok();
    assert!(hopeless.contains("start it with --force, or with another spec"), "{hopeless}");
    assert!(hopeless.contains(" are followed by a restart"), "{hopeless}");
    assert!(!hopeless.contains("one more than that"), "it is quarantined: {hopeless}");
    let table = person.says(&["ps"]).ok();
    assert!(table.contains("quarantined") && table.contains("s ago, restart in "), "{table}");
    let container = person.says(&["status"]).ok();
    assert!(container.contains("away: backoff: ") && container.contains("hopeless: quarantined: "));

    let refused = person.says(&["start", "hopeless", "--role", "hopeless", "--prompt", "count"]);
    refused.fails(3, &["refused in admission (status 409, quarantined)", "before ", "do  "]);
    let forced = ["start", "hopeless", "--role", "hopeless", "--prompt", "count", "--force"];
    assert!(person.says(&forced).ok().starts_with("hopeless started: running, incarnation 3"));
    let all = person.says(&["stop", "--all", "--yes"]).ok();
    assert!(all.contains("away stopped: ") && all.contains("hopeless stopped: "), "{all}");
    assert_eq!(person.says(&["stop", "--all", "--yes"]).ok(), "no agents to stop\n");
    host.finish();
}

#[test]
fn a_program_gets_the_documents_of_the_api() {
    let host = Host::builder().guest("puppet").start().ready();
    let (person, client) = (Person::of(&host), host.client());
    let started = person.says(&["start", "one", "--role", "puppet", "--json"]).json();
    assert_eq!((&started["agentId"], &started["status"]), (&"one".into(), &"running".into()));
    let status = person.says(&["status", "one", "--json"]).json();
    let served = |path: &str| client.get(path).expect(200);
    assert_eq!(fields(&status), fields(&served("/agents/one/status")));
    assert_eq!(fields(&person.says(&["ps", "--json"]).json()[0]), fields(&served("/agents")[0]));
    let sent = person.says(&["send", "one", "hello", "--wait", "50s", "--json"]).json();
    assert_eq!((&sent["outcome"], &sent["reply"]), (&"idle".into(), &"hello".into()));
    let sent = person.says(&["send", "one", "hello", "--json"]).json();
    assert_eq!((&sent["sent"], &sent["outcome"]), (&true.into(), &Value::Null));
    let nudged = person.says(&["nudge", "one", "hello", "--json"]).json();
    assert_eq!(nudged["queued"], true);
    for (words, path) in [
        (&["memory", "--json"][..], "/memory"),
        (&["memory", "one", "--json"], "/agents/one/memory"),
    ] {
        assert_eq!(fields(&person.says(words).json()), fields(&client.get(path).expect(200)));
    }

    let failed = person.says(&["send", "one", "panic", "--wait", "50s", "--json"]);
    failed.fails(4, &["told to panic"]);
    let error: Value = serde_json::from_str(&failed.stdout).expect("the refusal is JSON");
    assert_eq!((&error["status"], &error["exitReason"]), (&502.into(), &"panic".into()));
    client.ended("one");
    let events = person.says(&["events", "one", "--json"]).json();
    assert_eq!(events, served("/agents/one/events"));
    let events = person.says(&["events", "one", "--after", "2", "--json"]).json();
    assert_eq!(events, served("/agents/one/events?after=2"));

    let whole = person.says(&["status", "--json"]).json();
    assert_eq!(
        fields(&whole),
        ["agents", "evidence", "health", "memory", "missing", "ready", "ship"]
    );
    assert_eq!((&whole["ready"], &whole["agents"][0]["agentId"]), (&true.into(), &"one".into()));
    assert_eq!(fields(&whole["health"]), fields(&served("/health")));
    let stopped = person.says(&["stop", "one", "nobody", "--json"]);
    stopped.fails(3, &["no such agent: nobody"]);
    let lines: Vec<Value> =
        stopped.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let status_of = |line: &Value| (line["agentId"].clone(), line["status"].clone());
    assert_eq!(status_of(&lines[0]), ("one".into(), 200.into()));
    assert_eq!(status_of(&lines[1]), ("nobody".into(), 404.into()));
    host.finish();
}

#[test]
fn crash_records_are_the_same_from_the_host_and_from_its_directory() {
    let mut host = Host::builder().guest("puppet").guest("trap").start().ready();
    let (person, client) = (Person::of(&host), host.client().clone());
    let url = format!("http://{}", host.address());
    let config = host.dir().join("bulkhead.toml");
    let config = config.to_str().expect("a path in UTF-8");
    let of_host = |words: &[&str]| person.says(&[&["crashes"], words, &["--url", &url]].concat());
    let of_dir =
        |words: &[&str]| person.says(&[&["crashes"], words, &["--config", config]].concat());
    assert_eq!(of_host(&[]).ok(), "no crash records\n");
    of_host(&["show"]).fails(3, &["no crash records"]);
    of_host(&["show", "0000"]).fails(3, &["no such crash: 0000"]);
    of_host(&["show", "../agents"]).fails(2, &["not a crash id"]);

    for agent in ["puppet", "trap"] {
        client.start(agent, agent);
        client.send_wait(agent, "panic").expect(502);
    }
    let id = crash_id_of(&client, "puppet");
    wait_until("the records have their lines", || {
        let records = client.get("/crashes").read::<CrashesPage>(200).crashes;
        records.len() == 2 && records.iter().all(|record| record.symbolized == Symbolized::Done)
    });
    let list = of_host(&["list"]).ok();
    assert_eq!(list.lines().count(), 2, "{list}");
    assert!(of_host(&["list", "--limit", "1"]).ok().lines().eq(list.lines().take(1)));
    let one = of_host(&["list", "--agent", "puppet"]).ok();
    assert!(one.starts_with(&id) && one.lines().count() == 1, "{one}");
    let page = of_host(&["show", &id]).ok();
    assert!(page.contains("agent        puppet, role puppet"), "{page}");
    assert_eq!(of_host(&["show", &id[..id.len() - 1]]).ok(), page, "the beginning of an id");
    let record: Value = of_host(&["show", &id, "--json"]).json();
    assert_eq!(record, client.get(&format!("/crashes/{id}")).expect(200));

    // While the host runs the directory may lack the newest, and both say so.
    let hint = "may have records that are not on disk yet: ask it with --url";
    assert!(of_dir(&["list"]).stderr.contains(hint));
    of_dir(&["show", "0000"]).fails(2, &["no such crash: 0000; process ", hint]);
    person.says(&["crashes", "list", "--limit", "0"]).fails(2, &["--limit"]);
    // The directory says the same when nobody writes into it any more.
    let (all, json) = (of_host(&["list"]).ok(), of_host(&["list", "--json"]).ok());
    host.signal(Signal::TERM);
    assert_eq!(host.wait().code(), Some(CLEAN));
    assert_eq!(of_dir(&["list"]).ok(), all);
    assert_eq!(of_dir(&["list", "--json"]).ok(), json);
    assert_eq!(of_dir(&["show", &id]).ok(), page);
    of_host(&["list"]).fails(1, &["cannot connect"]);
}
