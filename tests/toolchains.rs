//! Components by toolchain: what `bulkhead new` writes for C and Go is built as its page says, checked, run, and broken in
//! each way. `just toolchains` runs this.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use harness::{Host, ModelServer, Value, files, json, model_server};

use crate::runners;

/// A language, and what it calls what goes wrong.
struct Toolchain {
    name: &'static str,
    /// The file that the author edits.
    entry: &'static str,
    /// Lines of it, and what takes their place, so that a message or a name can ask for a fault.
    edits: &'static [(&'static str, &'static str)],
    /// Faults in a file beside it.
    faults: &'static str,
    expected: &'static [Fault],
    /// A fault of the load, in another file.
    load: Option<(&'static str, Fault)>,
}

/// What a message brings about, or the name of an agent that begins with `start-`.
struct Fault {
    message: &'static str,
    reason: &'static str,
    /// Of the exception that the language's runtime prints.
    kind: Option<&'static str>,
    /// Part of the record's message.
    words: &'static str,
    /// The function that the record's first frame of the author's names, if it names one.
    function: Option<&'static str>,
}

const C: Toolchain = Toolchain {
    name: "c",
    entry: "agent.c",
    edits: &[
        (
            "static char *answer(const char *text) {\n",
            "void fault(const char *text);\nvoid fault_in_start(const char *text);\n\
             static char *answer(const char *text) {\n  fault(text);\n",
        ),
        (
            "  exports_bulkhead_agent_lifecycle_start_request_free(request);\n",
            "  fault_in_start(copy(&request->agent_id));\n",
        ),
    ],
    faults: "faults.c",
    expected: &[
        Fault {
            message: "assert",
            reason: "exception",
            kind: Some("Assertion failed"),
            words: "number > 0",
            function: Some("fault"),
        },
        Fault {
            message: "nil",
            reason: "trap",
            kind: None,
            words: "unreachable",
            function: Some("fault"),
        },
        Fault {
            message: "panic",
            reason: "trap",
            kind: None,
            words: "unreachable",
            function: Some("fault"),
        },
        Fault {
            message: "exit",
            reason: "guest_exit",
            kind: None,
            words: "status 1",
            function: None,
        },
        Fault { message: "loop", reason: "cpu_deadline", kind: None, words: "CPU", function: None },
        Fault {
            message: "memory",
            reason: "memory_limit",
            kind: None,
            words: "memory",
            function: None,
        },
        Fault {
            message: "recursion",
            reason: "stack_exhausted",
            kind: None,
            words: "stack",
            function: Some("recurse"),
        },
        Fault {
            message: "callback",
            reason: "exception",
            kind: Some("Assertion failed"),
            words: "left == right",
            function: Some("compare"),
        },
        Fault {
            message: "refused",
            reason: "exception",
            kind: Some("Assertion failed"),
            words: "bulkhead_agent_host_send",
            function: Some("send"),
        },
        Fault {
            message: "start-assert",
            reason: "exception",
            kind: Some("Assertion failed"),
            words: "number > 0",
            function: Some("fault"),
        },
        Fault {
            message: "start-recursion",
            reason: "stack_exhausted",
            kind: None,
            words: "stack",
            function: Some("recurse"),
        },
    ],
    load: Some((
        "load.c",
        Fault {
            message: "loaded",
            reason: "trap",
            kind: None,
            words: "unreachable",
            function: Some("load"),
        },
    )),
};

const GO: Toolchain = Toolchain {
    name: "go",
    entry: "agent.go",
    edits: &[("\ta.Turns++\n", "\ta.Turns++\n\tfault(message.Body)\n")],
    faults: "faults.go",
    expected: &[
        Fault {
            message: "nil",
            reason: "exception",
            kind: Some("runtime error"),
            words: "nil pointer dereference",
            function: Some("fault"),
        },
        Fault {
            message: "panic",
            reason: "exception",
            kind: Some("panic"),
            words: "not like that",
            function: Some("fault"),
        },
        Fault {
            message: "exit",
            reason: "guest_exit",
            kind: None,
            words: "status 1",
            function: None,
        },
        Fault { message: "loop", reason: "cpu_deadline", kind: None, words: "CPU", function: None },
        Fault {
            message: "memory",
            reason: "memory_limit",
            kind: None,
            words: "memory",
            function: None,
        },
        // Frames without lines: Go's have no DWARF that the host reads.
        Fault {
            message: "recursion",
            reason: "stack_exhausted",
            kind: None,
            words: "stack",
            function: None,
        },
        Fault {
            message: "callback",
            reason: "exception",
            kind: Some("panic"),
            words: "in a callback",
            function: Some("fault"),
        },
        Fault {
            message: "goroutine",
            reason: "exception",
            kind: Some("panic"),
            words: "in a goroutine",
            function: Some("fault"),
        },
        Fault {
            message: "timer",
            reason: "exception",
            kind: Some("panic"),
            words: "in a timer",
            function: Some("fault"),
        },
        Fault {
            message: "refused",
            reason: "exception",
            kind: Some("panic"),
            words: "it was not sent",
            function: Some("fault"),
        },
        Fault {
            message: "start-panic",
            reason: "exception",
            kind: Some("panic"),
            words: "not like that",
            function: Some("fault"),
        },
    ],
    load: Some((
        "load.go",
        Fault {
            message: "loaded",
            reason: "exception",
            kind: Some("panic"),
            words: "not at load",
            function: None,
        },
    )),
};

const JS: Toolchain = Toolchain {
    name: "js-component",
    entry: "agent.js",
    edits: &[(
        "function answer(text) {\n",
        "function fault(text) {\n  if (text === \"throw\") null.x;\n  if (text === \"recursion\") return 1 + fault(text);\n  \
         if (text === \"loop\") for (;;);\n}\nfunction answer(text) {\n  fault(text);\n",
    )],
    faults: "agent.js",
    expected: &[
        Fault {
            message: "throw",
            reason: "exception",
            kind: Some("TypeError"),
            words: "null",
            function: Some("fault"),
        },
        Fault { message: "loop", reason: "cpu_deadline", kind: None, words: "CPU", function: None },
    ],
    load: None,
};

const PYTHON: Toolchain = Toolchain {
    name: "python-component",
    entry: "agent.py",
    edits: &[(
        "def answer(text):\n",
        "def answer(text):\n    if text == \"throw\":\n        {}[text]\n    while text == \"loop\":\n        pass\n",
    )],
    faults: "agent.py",
    expected: &[
        Fault {
            message: "throw",
            reason: "exception",
            kind: Some("KeyError"),
            words: "throw",
            function: Some("answer"),
        },
        Fault { message: "loop", reason: "cpu_deadline", kind: None, words: "CPU", function: None },
    ],
    load: None,
};

/// An endless loop ends soon.
const ROLE: &str = "snapshot = \"turn\"\nsnapshot_ms = 1\ncpu_ms = 3000\nmemory_limit_mb = 64";

/// Messages of one incarnation: a collector of garbage runs often enough.
const MESSAGES: usize = 5000;

impl Toolchain {
    /// Writes the agent, and builds it as it is.
    fn project(&self, dir: &Path) -> PathBuf {
        succeeds(Command::new(files::binary()).args(["new", "toast", "--lang", self.name]), dir);
        let project = dir.join("toast");
        self.build(&project);
        project
    }

    fn build(&self, project: &Path) {
        let began = Instant::now();
        succeeds(&mut Command::new("make"), project);
        let size = std::fs::metadata(component(project)).unwrap().len();
        println!("{}: built {size} bytes in {:.1?}", self.name, began.elapsed());
    }

    /// Adds what a message can ask for, and builds that.
    fn break_it(&self, project: &Path) {
        if self.faults != self.entry {
            let faults = files::root().join("tests/toolchains").join(self.faults);
            std::fs::copy(faults, project.join(self.faults)).unwrap();
        }
        let entry = project.join(self.entry);
        let text = std::fs::read_to_string(&entry).unwrap();
        let edited = self.edits.iter().fold(text, |text, (line, with_faults)| {
            assert!(text.contains(line), "{line} is not in {text}");
            text.replacen(line, with_faults, 1)
        });
        std::fs::write(&entry, edited).unwrap();
        self.build(project);
    }

    /// The agent that exists in each language, in place of the one that was written.
    fn is_the_same(&self, project: &Path, model: &ModelServer) {
        let same = files::root().join("tests/toolchains").join(self.entry);
        if !same.is_file() {
            return;
        }
        let entry = project.join(self.entry);
        let written = std::fs::read_to_string(&entry).unwrap();
        std::fs::copy(same, &entry).unwrap();
        self.build(project);
        let host = Host::builder().component("broken", &component(project)).model(model, "");
        let role = format!("{}\nmodels = [\"default\"]", runners::ROLE);
        let host = host.role("broken", "broken", &role).start();
        runners::works(&host, self.name);
        let fatal = runners::crash(&host, "fatal");
        assert_eq!((&fatal["reason"], &fatal["code"]), (&"guest_error".into(), &"gave-up".into()));
        host.finish();
        std::fs::write(entry, written).unwrap();
    }

    fn fails(&self, host: &Host) {
        for fault in self.expected {
            self.fails_with(host, fault, self.faults);
        }
    }

    fn fails_with(&self, host: &Host, fault: &Fault, file: &str) {
        let record = crash(host, fault.message);
        println!("{}: {}: {}", self.name, fault.message, summary(&record));
        assert_eq!(record["reason"], fault.reason, "{}: {record}", fault.message);
        assert!(record["message"].as_str().unwrap().contains(fault.words), "{record}");
        assert_eq!(record["exceptions"][0]["kind"].as_str(), fault.kind, "{record}");
        if let Some(function) = fault.function {
            names(&record, function, file);
        }
    }

    /// Builds an agent that never comes to be one.
    fn does_not_load(&self, project: &Path, model: &ModelServer) {
        let Some((file, fault)) = &self.load else { return };
        let from = files::root().join("tests/toolchains").join(file);
        std::fs::copy(from, project.join(file)).unwrap();
        self.build(project);
        let host = host(project, model);
        self.fails_with(&host, fault, file);
        host.finish();
    }
}

/// A record leads to the author's file.
fn names(record: &Value, function: &str, file: &str) {
    let own = frames(record).find(|frame| {
        frame["file"].as_str().is_some_and(|of| of.ends_with(file))
            && frame["function"].as_str().is_some_and(|name| name.contains(function))
    });
    let own = own.unwrap_or_else(|| panic!("no {function} in {file}: {record}"));
    assert!(own["line"].as_u64() > Some(0), "{record}");
}

/// Frames of the exception, if there is one, and of the stack.
fn frames(record: &Value) -> impl Iterator<Item = &Value> {
    let thrown = record["exceptions"][0]["frames"].as_array();
    thrown.into_iter().chain(record["frames"].as_array()).flatten()
}

fn summary(record: &Value) -> String {
    let own = frames(record).find(|frame| frame["file"].is_string());
    let place = own.map_or_else(
        || "no place".to_owned(),
        |frame| format!("{} in {}:{}", frame["function"], frame["file"], frame["line"]),
    );
    format!("{} {:?}, {place}", record["reason"], record["message"].as_str().unwrap_or_default())
}

fn component(project: &Path) -> PathBuf {
    project.join("agent.wasm")
}

#[track_caller]
fn succeeds(command: &mut Command, dir: &Path) {
    let output = command.current_dir(dir).output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let text =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(output.status.success(), "{command:?}: {}{}", text[0], text[1]);
}

fn host(project: &Path, model: &ModelServer) -> Host {
    let host = Host::builder().component("toast", &component(project));
    let with_model = format!("{ROLE}\nmodels = [\"default\"]");
    host.role("toast", "toast", ROLE).role("asks", "toast", &with_model).model(model, "").start()
}

/// Starts an agent afresh, which its name or a message of that text ends, and returns its record, with files and lines if it
/// has frames.
#[track_caller]
fn crash(host: &Host, text: &str) -> Value {
    let started = host.client().start_with(text, "toast", json!({}));
    let answer = match started.status {
        201 => host.client().send_wait(text, text).expect_error(502, &[]),
        status => started.expect_error(status, &[]),
    };
    let id = answer.crash_id.as_deref().unwrap_or_else(|| panic!("{text} is no crash: {answer:?}"));
    let record = || host.client().get(&format!("/crashes/{id}")).expect(200);
    harness::wait_until("the frames have lines", || record()["symbolized"] != "pending");
    record()
}

/// What an agent does that has no fault. Its state outlives it.
fn works(host: &Host) {
    let client = host.client();
    client.start("toast", "toast");
    assert_eq!(client.ask("toast", "notes"), "no notes yet");
    assert_eq!(client.ask("toast", "hello"), "2: hello");
    client.stop("toast").expect(200);
    client.start("toast", "toast");
    assert_eq!(client.ask("toast", "hello"), "3: hello");
    client.start("asks", "asks");
    assert_eq!(client.ask("asks", "hello"), "Hello. I answer from a script.");
}

/// Many messages in one incarnation, of a size that fills its memory if nothing is given back.
fn endures(host: &Host, name: &str) {
    let (client, text) = (host.client(), "x".repeat(20_000));
    client.start("enduring", "toast");
    let began = Instant::now();
    for _ in 0..MESSAGES {
        client.send_wait("enduring", &text).expect(200);
    }
    let (took, view) = (began.elapsed(), client.status("enduring"));
    println!("{name}: {MESSAGES} messages in {took:.1?}");
    assert_eq!(view.incarnation.0, 1, "it is the same incarnation");
}

fn goes_through(toolchain: &Toolchain) {
    let dir = tempfile::tempdir().unwrap();
    let project = toolchain.project(dir.path());
    for command in ["check", "test"] {
        succeeds(Command::new(files::binary()).arg(command), &project);
    }
    let model = model_server();
    toolchain.is_the_same(&project, &model);
    toolchain.break_it(&project);
    let host = host(&project, &model);
    works(&host);
    endures(&host, toolchain.name);
    toolchain.fails(&host);
    host.finish();
    toolchain.does_not_load(&project, &model);
}

#[test]
#[ignore = "takes toolchains from package registries: just toolchains"]
fn an_agent_in_c_is_built_works_and_fails_at_a_line() {
    goes_through(&C);
}

#[test]
#[ignore = "takes toolchains from package registries: just toolchains"]
fn an_agent_in_go_is_built_works_and_fails_at_a_line() {
    goes_through(&GO);
}

#[test]
#[ignore = "takes toolchains from package registries: just toolchains"]
fn an_agent_in_a_component_of_starlingmonkey_is_built_and_works() {
    goes_through(&JS);
}

#[test]
#[ignore = "takes toolchains from package registries: just toolchains"]
fn an_agent_in_a_component_of_cpython_is_built_and_works() {
    goes_through(&PYTHON);
}
