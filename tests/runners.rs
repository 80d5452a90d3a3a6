//! Agents that are text files: the same agent in each language, and each way to fail.
//!
//! The runners are components that `just runners` builds.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use bulkhead_api::StartAnswer;
use harness::{Host, HostBuilder, Need, Value, files, json, model_server, runners, skip};
use rustix::process::Signal;

/// What a language calls what goes wrong.
struct Language {
    name: &'static str,
    ending: &'static str,
    /// The kinds of the exceptions of the messages `type`, `range`, `text`, `wrong`, `recursion`, `never`, `exit`.
    kinds: [&'static str; 7],
    /// Of the files that fail while they are read: `import` and `syntax`.
    broken: [&'static str; 2],
    /// The name of the function that takes messages.
    handler: &'static str,
}

const JAVASCRIPT: Language = Language {
    name: "js",
    ending: "js",
    kinds: [
        "TypeError",
        "RangeError",
        "string",
        "TypeError",
        "RangeError",
        "UnsettledPromise",
        "ReferenceError",
    ],
    broken: ["TypeError", "SyntaxError"],
    handler: "message",
};

/// Whose types are stripped: it fails as JavaScript does, at the same places.
const TYPESCRIPT: Language = Language { ending: "ts", ..JAVASCRIPT };

const PYTHON: Language = Language {
    name: "python",
    ending: "py",
    kinds: [
        "TypeError",
        "IndexError",
        "Exception",
        "TypeError",
        "RecursionError",
        "Stuck",
        "SystemExit",
    ],
    broken: ["KeyError", "SyntaxError"],
    handler: "broken",
};

/// Settings of all roles here: its state is kept, and an endless loop ends soon.
pub const ROLE: &str = "snapshot = \"turn\"\nsnapshot_ms = 1\ncpu_ms = 3000\nmemory_limit_mb = 64";

fn sources() -> PathBuf {
    files::root().join("tests/runners")
}

impl Language {
    /// A host whose role `broken` is the agent of this language, or none where its runner is not built.
    fn host(&self) -> Option<HostBuilder> {
        self.host_of(&sources())
    }

    /// The same with sources that are somewhere else.
    fn host_of(&self, sources: &Path) -> Option<HostBuilder> {
        let Some(runner) = runners::component(self.name) else {
            skip(Need::Runners, "`just runners` builds them");
            return None;
        };
        let seed = format!("[state]\naot_seed = {:?}", runners::seed());
        let host = Host::builder().toml(&seed).component(&format!("runner-{}", self.name), &runner);
        let host = host.toml(&self.role("broken", sources));
        let broken = |host: HostBuilder, name: &str| {
            let file = sources.join(format!("broken/{name}.{}", self.ending));
            host.toml(&self.role(name, &file))
        };
        Some(["import", "syntax", "start"].into_iter().fold(host, broken))
    }

    fn role(&self, name: &str, source: &std::path::Path) -> String {
        format!("[roles.{name}]\nsource = {source:?}\nrunner = {:?}\n{ROLE}", self.name)
    }

    /// Its file of this name.
    fn file(&self, name: &str) -> String {
        format!("{name}.{}", self.ending)
    }
}

/// Starts an agent afresh, sends it what kills it, and returns its crash record.
#[track_caller]
pub fn crash(host: &Host, text: &str) -> Value {
    host.client().start(text, "broken");
    let answer = host.client().send_wait(text, text).expect_error(502, &[]);
    let id = answer.crash_id.as_deref().unwrap_or_else(|| panic!("{text} is no crash: {answer:?}"));
    host.client().get(&format!("/crashes/{id}")).expect(200)
}

/// The exception of a record: its kind, and the function, file and line of its first frame.
fn thrown(record: &Value) -> (&str, &Value, &Value, &Value) {
    let first = &record["exceptions"][0];
    let frame = &first["frames"][0];
    (first["kind"].as_str().unwrap_or("none"), &frame["function"], &frame["file"], &frame["line"])
}

/// Texts and states that only some languages can write.
fn what_its_values_cannot_be(host: &Host) {
    let client = host.client();
    assert_eq!(client.ask("one", "half"), "a\u{fffd}", "half of a surrogate pair is no text");
    let emitted = client.events_named("one", "runner.half");
    assert_eq!(emitted, [json!({ "half": "a\u{fffd}" })]);
    // A state that cannot be kept is named, and ends nobody.
    client.start("unkept", "broken");
    assert_eq!(client.ask("unkept", "unkept"), "unkept");
    host.wait_for_line("why there is no snapshot", |line| {
        let text = line.to_string();
        text.contains("snapshot-failed") && text.contains("is a part of itself")
    });
    assert_eq!(client.ask("unkept", "count"), "2");
    client.stop("unkept").expect(200);
}

/// What an agent does that has no fault.
pub fn works(host: &Host, language: &str) {
    let client = host.client();
    client.start("one", "broken");
    assert_eq!(client.ask("one", "twice"), "xx", "a module of its own is imported");
    assert_eq!(client.ask("one", "emit"), "emitted");
    assert!(!client.events_named("one", "runner.tested").is_empty());
    if language != "rust" {
        what_its_values_cannot_be(host);
    }
    assert_eq!(client.ask("one", "caught"), "not-found", "a refused call of the host is caught");
    assert_eq!(client.ask("one", "ask hello"), "Hello. I answer from a script.");
    let answer = client.ask("one", "ask status bread");
    assert!(answer.contains("noted bread"), "the model called the tool: {answer}");
    // A model that thinks refuses calls without the reasoning that led to them, also in the history.
    for _ in 0..2 {
        let more = json!({"model": "thinks"});
        client.start_with("thinker", "broken", more).expect(201);
        let answer = client.ask("thinker", "ask status bread");
        assert!(answer.contains("noted bread"), "{answer}");
        client.stop("thinker").expect(200);
    }
    assert_eq!(client.ask("one", "background"), "soon");
    assert!(
        !client.events_named("one", "runner.done").is_empty(),
        "what was left to the end of the turn is done: {:?}",
        client.events("one", 0)
    );
    // Its state survives a stop; random numbers do not come again.
    let random = client.ask("one", "random");
    let count: u32 = client.ask("one", "count").parse().unwrap();
    client.stop("one").expect(200);
    client.start("one", "broken");
    assert_eq!(client.ask("one", "count"), (count + 1).to_string());
    assert_ne!(client.ask("one", "random"), random);
    assert!(host.events_of("one", "agent.crash").is_empty(), "{language}");
}

/// Failures that the agent reports itself, and those that end no call.
fn fails_and_lives(host: &Host, language: &Language) {
    let client = host.client();
    client.start("lives", "broken");
    let answer = client.send_wait("lives", "own").expect_error(502, &["not like that"]);
    assert_eq!(answer.error_type.as_deref(), Some("bad-prompt"));
    assert!(client.send_wait("lives", "much").turn().reply_cut, "{}", language.name);
    for text in ["reject", "timer"] {
        client.send_wait("lives", text).expect(200);
    }
    let rejected = host.wait_for_number(&["agent.unhandled_rejection"], 2);
    assert_eq!(rejected["agentId"], "lives");
    let seen = host.events_of("lives", "agent.unhandled_rejection");
    for event in &seen {
        let (kind, _, file, line) = thrown(event);
        let expected = ("TypeError", &json!(language.file("agent")));
        assert_eq!((kind, file), expected, "{event}");
        assert!(line.as_u64() > Some(0), "{event}");
    }
    assert!(seen[0]["message"].as_str().unwrap().contains("nobody handles me"), "{}", seen[0]);
    assert_eq!(client.ask("lives", "left"), "left");
    let line = host.wait_for_line("a line about what is left", |line| {
        line["agentId"] == "lives" && line["event"] == "agent.log" && line["level"] == "warn"
    });
    assert!(line["message"].as_str().unwrap().contains("timer"), "{line}");
    assert_eq!(client.status("lives").incarnation.0, 1, "it still lives");
    let fatal = crash(host, "fatal");
    assert_eq!((&fatal["reason"], &fatal["code"]), (&json!("guest_error"), &json!("gave-up")));
}

/// Exceptions that leave the agent's code.
fn throws(host: &Host, language: &Language) {
    let [type_error, range, text, wrong, recursion, never, exit] = language.kinds;
    let mut fingerprints = Vec::new();
    for (message, kind, function) in [
        ("type", type_error, "thrower"),
        ("range", range, "thrower"),
        ("text", text, "thrower"),
        ("cause", range, "thrower"),
        ("wrong", wrong, ""),
        ("recursion", recursion, "recurse"),
        ("refused", "HostError", language.handler),
        ("callback", type_error, "thrower"),
        ("exit", exit, language.handler),
        ("never", never, ""),
        ("long", range, ""),
    ] {
        let record = crash(host, message);
        let (found, at, file, line) = thrown(&record);
        assert_eq!((&record["reason"], found), (&json!("exception"), kind), "{message}: {record}");
        // A language keeps no place for a text that is thrown, nor for an answer of a wrong kind.
        if !(function.is_empty() || found == "string") {
            assert_eq!((at, file), (&json!(function), &json!(language.file("agent"))), "{record}");
            assert_eq!(&record["location"]["line"], line, "{record}");
        }
        assert!(record["sourceSha256"].is_string(), "{record}");
        let fingerprint = record["fingerprint"].as_str().unwrap().to_owned();
        assert!(!fingerprints.contains(&fingerprint), "{message} has the fingerprint of another");
        fingerprints.push(fingerprint);
        if message == "cause" {
            assert_eq!(record["exceptions"][1]["kind"], type_error, "{record}");
        }
    }
}

/// What an agent changes in its interpreter is seen by itself, and by no other: neither by one beside it, nor by those that
/// have its slot after it.
fn keeps_to_itself(host: &Host) {
    let client = host.client();
    for id in ["stained", "beside"] {
        client.start(id, "broken");
    }
    for round in 0..3 {
        assert_eq!(client.ask("stained", "stain"), "stained");
        assert_eq!(client.ask("stained", "stains"), "5");
        assert_eq!(client.ask("beside", "stains"), "0", "round {round}");
        client.stop("stained").expect(200);
        let next = format!("next-{round}");
        client.start(&next, "broken");
        assert_eq!(client.ask(&next, "stains"), "0", "round {round}");
        client.start("stained", "broken");
        assert_eq!(client.ask("stained", "stains"), "0", "a new incarnation");
    }
}

/// Limits of the host.
fn meets_limits(host: &Host) {
    for (message, reason) in [("memory", "memory_limit"), ("loop", "cpu_deadline")] {
        let record = crash(host, message);
        assert_eq!(record["reason"], reason, "{record}");
        // What is interpreted has no frames there.
        let frames = record["frames"].as_array().unwrap();
        let own = frames.iter().find(|frame| frame["inApp"] != false);
        assert_eq!(own, None, "{record}");
        assert!(message == "memory" || !frames.is_empty(), "{record}");
    }
}

/// Files that fail before there is an agent.
fn does_not_start(host: &Host, language: &Language) {
    let [import, syntax] = language.broken;
    for (role, kind, line) in
        [("import", import, 2), ("syntax", syntax, 0), ("start", language.kinds[1], 0)]
    {
        let answer = host.client().start_with(role, role, json!({})).expect_error(502, &[]);
        let path = format!("/crashes/{}", answer.crash_id.as_deref().expect("a crash"));
        let record = host.client().get(&path).expect(200);
        let (found, _, file, at) = thrown(&record);
        assert_eq!((&record["reason"], found), (&json!("exception"), kind), "{record}");
        assert_eq!(file, &json!(language.file(role)), "{record}");
        assert!(at.as_u64() >= Some(line.max(1)), "{record}");
        assert_eq!(record["phase"], "start", "{record}");
    }
}

/// Waits until the runner is compiled. A start that waits for that is answered after its deadline, and goes on.
fn compile(host: &Host) {
    let start = || host.client().start_with("first", "broken", json!({"deadlineMs": 20_000}));
    let started = (0..30).map(|_| start()).find(|answer| answer.status != 504);
    let answer = started.expect("the runner is compiled within ten minutes");
    assert_eq!(answer.read::<StartAnswer>(answer.status).agent.status, "running");
}

fn go_through(language: &Language, sources: &Path) {
    let Some(host) = language.host_of(sources) else { return };
    let model = model_server();
    let host = host.model(&model, "").toml("[roles.broken]\nmodels = [\"default\"]").start();
    compile(&host);
    works(&host, language.name);
    fails_and_lives(&host, language);
    throws(&host, language);
    keeps_to_itself(&host);
    meets_limits(&host);
    does_not_start(&host, language);
    host.finish();
}

#[test]
fn an_agent_in_javascript_works_and_fails_with_its_own_words() {
    go_through(&JAVASCRIPT, &sources());
}

#[test]
fn an_agent_in_typescript_works_and_fails_with_its_own_words() {
    let dir = tempfile::tempdir().expect("make a directory");
    let typed = |name: &str, types: &[(&str, &str)]| {
        let text = fs::read_to_string(sources().join(name).with_extension("js")).expect("read");
        let text = types.iter().fold(text, |text, (plain, typed)| {
            assert!(text.contains(plain), "{name}: {plain}");
            text.replace(plain, typed)
        });
        let file = dir.path().join(name).with_extension("ts");
        fs::create_dir_all(file.parent().expect("a folder")).expect("make a directory");
        fs::write(file, text).expect("write");
    };
    typed(
        "agent",
        &[
            ("./lib/twice.js", "./lib/twice"),
            ("function thrower(what) {", "function thrower(what: string): unknown {"),
            ("const status = ({ text })", "const status = ({ text }: { text: string }): unknown"),
            ("const recurse = (n) =>", "const recurse = (n: number): number =>"),
            ("async message({ text }, {", "async message({ text }: { readonly text: string }, {"),
        ],
    );
    typed("lib/twice", &[("(text)", "(text: string): string")]);
    for name in ["import", "syntax", "start"] {
        typed(&format!("broken/{name}"), &[]);
    }
    go_through(&TYPESCRIPT, dir.path());
}

#[test]
fn an_agent_in_python_works_and_fails_with_its_own_words() {
    go_through(&PYTHON, &sources());
}

/// Turns that each make more than the limit, and collect garbage thirty times.
const IMAGE_TURNS: u64 = 10;

#[test]
fn an_agent_in_javascript_may_change_what_it_shares_and_keeps_no_garbage() {
    let Some(host) = JAVASCRIPT.host() else { return };
    let file = sources().join("image.js");
    let host = host.toml(&JAVASCRIPT.role("image", &file)).start();
    compile(&host);
    host.client().start("one", "image");
    for turn in 1..=IMAGE_TURNS {
        let answer = host.client().ask("one", "go");
        let answer: Value = serde_json::from_str(&answer).expect("JSON");
        assert_eq!((&answer["failed"], &answer["turns"]), (&json!([]), &json!(turn)), "{answer}");
        // The first one makes the heap as large as it needs to be.
        assert!(turn == 1 || answer["grown"].as_f64() < Some(1e6), "{turn}: {answer}");
    }
    host.finish();
}

#[test]
fn streams_do_what_those_of_others_do() {
    let Some(host) = JAVASCRIPT.host() else { return };
    let host = host.toml(&JAVASCRIPT.role("streams", &sources().join("streams.js"))).start();
    compile(&host);
    host.client().start("one", "streams");
    let ask = |name: &str| -> Value {
        serde_json::from_str(&host.client().ask("one", name)).expect("JSON")
    };
    let traces = fs::read_to_string(sources().join("streams.json")).expect("the traces");
    let traces: BTreeMap<String, Value> = serde_json::from_str(&traces).expect("JSON");
    let mut names: Vec<String> = serde_json::from_value(ask("names")).expect("names");
    names.sort_unstable();
    assert!(names.iter().eq(traces.keys()), "{names:?}");
    for (name, trace) in traces {
        assert_eq!(ask(&name), trace, "{name}");
    }
    host.finish();
}

/// QuickJS alone has the line of a call before it: see `places.sed` of the runner.
#[test]
fn an_access_to_a_property_has_its_own_place() {
    let Some(host) = JAVASCRIPT.host() else { return };
    let dir = tempfile::tempdir().expect("make a directory");
    let source = dir.path().join("place.js");
    let agent = "import { agent } from \"@bulkhead/agent\";
export default agent({ message(_, { state }) {
  return state
    .nothing
    .here;
} });
";
    fs::write(&source, agent).expect("write the agent");
    let host = host.toml(&JAVASCRIPT.role("place", &source)).start();
    compile(&host);
    host.client().start("one", "place");
    let answer = host.client().send_wait("one", "go").expect_error(502, &[]);
    let path = format!("/crashes/{}", answer.crash_id.as_deref().expect("a crash"));
    let record = host.client().get(&path).expect(200);
    let frame = &record["exceptions"][0]["frames"][0];
    assert_eq!((&frame["line"], &frame["column"]), (&json!(5), &json!(6)), "{record}");
    host.finish();
}

/// A count that nobody reads would have each agent own the page.
#[test]
fn objects_that_agents_in_python_share_are_not_counted_and_their_own_are() {
    let Some(host) = PYTHON.host() else { return };
    let host = host.start();
    compile(&host);
    host.client().start("one", "broken");
    assert_eq!(host.client().ask("one", "shared"), "True");
    host.finish();
}

/// The report of it needs memory, which the interpreter holds in reserve.
#[test]
fn python_whose_growth_is_denied_ends_of_its_limit_and_not_of_a_panic() {
    let Some(host) = PYTHON.host() else { return };
    let dir = tempfile::tempdir().expect("make a directory");
    let source = dir.path().join("tiny.py");
    let agent = "from bulkhead import agent

head = ()

@agent
def one(ctx, message):
    global head
    while True:
        head = (head,)
";
    fs::write(&source, agent).expect("write the agent");
    let role = PYTHON.role("tiny", &source);
    let host = host.toml(&format!("{role}\non_memory_limit = \"deny\"")).start();
    compile(&host);
    host.client().start("one", "tiny");
    let answer = host.client().send_wait("one", "go").expect_error(502, &[]);
    assert_eq!(answer.exit_reason.as_deref(), Some("memory_limit"), "{answer:#?}");
    host.finish();
}

/// Past all exceptions, as the language has it.
#[test]
fn python_that_leaves_its_process_is_a_guest_exit() {
    let Some(host) = PYTHON.host() else { return };
    let host = host.start();
    compile(&host);
    let record = crash(&host, "os-exit");
    let ended = (&record["reason"], &record["status"]);
    assert_eq!(ended, (&json!("guest_exit"), &json!(1)), "{record}");
    host.finish();
}

#[test]
fn an_edit_counts_at_the_next_start_and_keeps_state_and_fingerprint() {
    let Some(host) = JAVASCRIPT.host() else { return };
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("typed.ts");
    let text = std::fs::read_to_string(sources().join("typed.ts")).unwrap();
    std::fs::write(&file, &text).unwrap();
    let role = format!("[roles.typed]\nsource = {file:?}\nrestart = \"temporary\"\n{ROLE}");
    let host = host.toml(&role).start();
    let client = host.client();
    client.start("one", "typed");
    let first = host.client().send_wait("one", "last").expect_error(502, &[]);
    let first = client.crash(&first.crash_id.unwrap());
    let line = first.location.unwrap().line;
    assert_eq!(
        text.lines().nth(line as usize - 1).unwrap().trim(),
        "return notes.at(-1)!.text as string;"
    );
    // The same bug, further down.
    client.start("one", "typed");
    assert_eq!(client.ask("one", "a note"), "1");
    std::fs::write(&file, format!("// Edited.\n\n{text}").replace("`${state", "`edited ${state"))
        .unwrap();
    client.start("one", "typed");
    assert_eq!(
        client.ask("one", "another"),
        "edited 2",
        "the running agent was replaced, and kept its state"
    );
    assert_eq!(client.status("one").incarnation.0, 3);
    // Unchanged code joins what runs.
    client.start_with("one", "typed", json!({})).expect(200);
    assert_eq!(client.status("one").incarnation.0, 3);
    client.start("two", "typed");
    let second = client.send_wait("two", "last").expect_error(502, &[]);
    let second = client.crash(&second.crash_id.unwrap());
    assert_eq!(second.location.unwrap().line, line + 2);
    assert_eq!(second.fingerprint, first.fingerprint);
    assert_ne!(second.source_sha256, first.source_sha256);
    // What cannot be read fails the start and nothing else.
    std::fs::remove_file(&file).unwrap();
    let refused = client.start_with("three", "typed", json!({}));
    let refused = refused.expect_error(422, &["typed.ts", "No such file"]);
    assert_eq!(refused.error_type.as_deref(), Some("source-invalid"));
    assert_eq!(client.ask("one", "still there"), "edited 3");
    host.finish();
}

const COUNTS: &str = "import { agent } from \"@bulkhead/agent\";
export default agent({
  state: { count: 0 },
  message(_, { state }) {
    return `${state.count += 1}`;
  },
});
";

/// It is no evidence against the state that it never saw.
#[test]
fn a_file_that_does_not_load_costs_no_state_however_often_it_starts() {
    let Some(host) = JAVASCRIPT.host() else { return };
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("counts.js");
    fs::write(&file, COUNTS).unwrap();
    let restart = "restart = \"transient\"\nrestart_max = 3\nrestart_backoff_ms = 1\n\
        restart_backoff_max_ms = 1\nrestart_same_fault = 100";
    let role = format!("[roles.counts]\nsource = {file:?}\n{restart}\n{ROLE}");
    let mut host = host.toml(&role).start().ready();
    host.client().start("one", "counts");
    assert_eq!(host.client().ask("one", "1"), "1");
    host.signal(Signal::TERM);
    host.wait();
    fs::write(&file, COUNTS.replace("({", "({{")).unwrap();
    let mut broken = host.restart().ready();
    broken.client().reaches("one", "quarantined");
    let crashes = broken.events_of("one", "agent.crash");
    assert_eq!((crashes.len(), thrown(&crashes[0]).0), (4, "SyntaxError"), "{crashes:?}");
    let force = || json!({"force": true});
    assert_ne!(broken.client().start_with("one", "counts", force()).status, 201);
    broken.client().reaches("one", "quarantined");
    assert_eq!(broken.events_of("one", "agent.snapshot_set_aside"), [] as [Value; 0]);
    broken.signal(Signal::TERM);
    broken.wait();
    fs::write(&file, format!("// Repaired.\n{COUNTS}")).unwrap();
    let repaired = broken.restart().ready();
    repaired.client().start_with("one", "counts", force()).expect(201);
    assert_eq!(repaired.client().ask("one", "2"), "2", "it goes on with its state");
    repaired.finish();
}

/// A bundle is one line, whose names say nothing: what an author reads, and what a fingerprint is made of, are the sources.
#[test]
fn exceptions_of_a_bundle_have_the_places_of_its_sources() {
    let Some(host) = JAVASCRIPT.host() else { return };
    let bundle = sources().join("bundle");
    let source = std::fs::read_to_string(bundle.join("agent.ts")).unwrap();
    let line_of = |text: &str| source.lines().position(|line| line.contains(text)).unwrap() + 1;
    let role = |name: &str| JAVASCRIPT.role(name, &bundle.join(name));
    let host = host.toml(&role("first")).toml(&role("edited")).start();
    let client = host.client();
    compile(&host);
    let crash = |role: &str| {
        client.start(role, role);
        assert_eq!(client.ask(role, "two words"), "2");
        let answer = client.send_wait(role, "crash").expect_error(502, &[]);
        client.get(&format!("/crashes/{}", answer.crash_id.unwrap())).expect(200)
    };
    let (first, edited) = (crash("first"), crash("edited"));
    let (kind, function, file, line) = thrown(&first);
    assert_eq!((kind, function, file), ("TypeError", &json!("measure"), &json!("agent.ts")));
    assert_eq!(line, &json!(line_of("words!.length")), "{first}");
    assert_eq!(first["location"]["file"], "agent.ts", "{first}");
    assert_eq!(thrown(&edited).3, &json!(line_of("words!.length") + 1), "{edited}");
    assert_eq!(first["fingerprint"], edited["fingerprint"], "{edited}");
    client.start("later", "first");
    client.send_wait("later", "later").expect(200);
    let rejected = host.wait_for_event("later", "agent.unhandled_rejection");
    let (_, function, file, line) = thrown(&rejected);
    assert_eq!((function, file), (&json!("later"), &json!("agent.ts")), "{rejected}");
    assert_eq!(line, &json!(line_of("Promise.reject")), "{rejected}");
    host.finish();
}

#[test]
fn a_runner_that_is_not_there_is_named_and_holds_up_nobody() {
    let missing = sources().join("no-runner.wasm");
    let host = Host::builder().component("runner-js", &missing);
    let host = host.toml(&JAVASCRIPT.role("broken", &sources())).start();
    let warned = host.wait_for_line("a warning", |line| {
        line["message"].as_str().is_some_and(|it| it.contains("runner"))
    });
    assert!(warned.to_string().contains("no-runner.wasm"), "{warned}");
    let refused = host.client().start_with("one", "broken", json!({"deadlineMs": 5000}));
    refused.expect_error(422, &["no-runner.wasm", "No such file"]);
    host.client().start("other", "echo");
    assert_eq!(host.client().ask("other", "hi"), "hi");
    host.finish();
}
