//! `bulkhead test`: scripts that pass, scripts that fail in each way there is, and what a run leaves behind.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use harness::{Need, Value, files, launcher, processes, skip, wait_until};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// A configuration and scripts beside it.
struct Project {
    dir: TempDir,
    /// Where what was compiled is found again.
    state_dir: PathBuf,
}

/// How a run ended.
struct Ran {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Project {
    /// With these lines of the configuration, and these scripts by their names.
    fn new(config: &str, scripts: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let project = Self { state_dir: dir.path().join(".bulkhead"), dir };
        let state = "[state]\ndir = \".bulkhead\"\n";
        std::fs::write(project.config(), format!("{state}{config}")).unwrap();
        std::fs::create_dir(project.path("tests")).unwrap();
        for (name, script) in scripts {
            std::fs::write(project.path(&format!("tests/{name}.toml")), script).unwrap();
        }
        project
    }

    /// With the components of these names, each with a role of its own.
    fn of(components: &[&str], scripts: &[(&str, &str)]) -> Self {
        let role = |name: &&str| {
            let path = files::component(name);
            format!("[components.{name}]\npath = {path:?}\n[roles.{name}]\ncomponent = {name:?}\n")
        };
        Self::new(&components.iter().map(role).collect::<String>(), scripts)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn config(&self) -> PathBuf {
        self.path("bulkhead.toml")
    }

    fn command(&self, args: &[&str]) -> Command {
        test_command(&self.config(), &self.state_dir, args)
    }

    fn run(&self, args: &[&str]) -> Ran {
        Ran::of(self.command(args))
    }
}

fn test_command(config: &Path, state_dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(files::binary());
    command.arg("test").arg("--config").arg(config).args(args);
    command.env("BULKHEAD_STATE_DIR", state_dir).stdin(Stdio::null());
    command
}

impl Ran {
    fn of(mut command: Command) -> Self {
        let output = command.output().expect("run bulkhead test");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        let (stdout, stderr) = (text(output.stdout), text(output.stderr));
        Self { code: output.status.code(), stdout, stderr }
    }

    /// Ended with this code, and said all of this.
    #[track_caller]
    fn expect(self, code: i32, says: &[&str]) -> Self {
        let Self { stdout, stderr, .. } = &self;
        assert_eq!(self.code, Some(code), "{stdout}{stderr}");
        for text in says {
            let is_there = stdout.contains(text) || stderr.contains(text);
            assert!(is_there, "no {text:?} in\n{stdout}{stderr}");
        }
        self
    }

    /// What is printed of one script.
    #[track_caller]
    fn script(&self, name: &str) -> &str {
        let file = format!("{name}.toml (");
        let from =
            self.stdout.find(&file).unwrap_or_else(|| panic!("no {name} in {}", self.stdout));
        let rest = &self.stdout[from..];
        let end = ["\nok ", "\nFAILED", "\n\n"].iter().filter_map(|end| rest.find(end)).min();
        &rest[..end.unwrap_or(rest.len())]
    }
}

/// Whether some process was started with a path of this directory.
fn is_used(dir: &Path) -> bool {
    let dir = dir.display().to_string();
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let mut lines =
        processes.map(|it| std::fs::read(it.path().join("cmdline")).unwrap_or_default());
    lines.any(|line| String::from_utf8_lossy(&line).contains(&dir))
}

const HELLO: &str = "[[step]]\nsend = \"hello\"\nreply = \"hello\"\n";

#[test]
fn scripts_pass_or_fail_and_are_counted_and_the_authors_state_is_as_it_was() {
    let wrong = "\n[[step]]\nsend = \"hello\"\n\n[[step]]\nsend = \"bye\"\nreply = \"hello\"\n";
    let project = Project::of(&["echo"], &[("a", HELLO), ("b", wrong)]);
    let kept = project.state_dir.join("store/bulkhead.db");
    std::fs::create_dir_all(kept.parent().unwrap()).unwrap();
    std::fs::write(&kept, "the author's").unwrap();
    let ran = project.run(&[]).expect(1, &["1 passed, 1 failed", "compiled echo in "]);
    let lines: Vec<_> = ran.stdout.lines().collect();
    assert!(lines[0].starts_with("ok     ") && lines[0].contains("tests/a.toml ("), "{lines:?}");
    let expected = [
        "step 2, line 5: send \"bye\"",
        "expected  the reply \"hello\"",
        "came      the reply \"bye\"",
    ];
    for (line, expected) in lines[2..].iter().zip(expected) {
        assert_eq!(line.trim(), expected);
    }
    let mut left: Vec<_> =
        project.state_dir.read_dir().unwrap().map(|it| it.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["store", "test"]);
    assert_eq!(std::fs::read(kept).unwrap(), b"the author's");
    assert!(!is_used(project.dir.path()), "no process is left");

    let ran = project.run(&["--filter", "a.toml", "--json"]).expect(0, &[]);
    let lines: Vec<Value> =
        ran.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(
        (lines.len(), &lines[0]["passed"], &lines[1]["failed"]),
        (2, &true.into(), &0.into())
    );
    assert!(!ran.stderr.contains("compiled"), "what was compiled is kept: {}", ran.stderr);
    project
        .run(&[&project.path("tests/b.toml").display().to_string()])
        .expect(1, &["0 passed, 1 failed"]);
}

#[test]
fn what_cannot_be_run_is_named_and_nothing_is_started() {
    let typo = "[[step]]\nsend = \"x\"\nreplies = \"x\"\n";
    let project = Project::of(&["echo", "puppet"], &[("typo", typo), ("role", HELLO)]);
    project
        .run(&["--filter", "typo"])
        .expect(2, &["typo.toml: line 3, step[0].replies: unknown field"]);
    project
        .run(&["--filter", "role"])
        .expect(2, &["role.toml: `role` is missing: the configuration has 2 roles"]);
    project.run(&["--filter", "other"]).expect(2, &["none of the 2 scripts in "]);
    project.run(&["nowhere"]).expect(2, &["there is no script nowhere"]);
    let nowhere = test_command(Path::new("nowhere.toml"), &project.state_dir, &[]);
    Ran::of(nowhere).expect(2, &["cannot read the configuration nowhere.toml"]);
    assert!(!project.state_dir.exists());
    let empty = Project::of(&["echo"], &[]);
    empty.run(&[]).expect(2, &["there are no scripts: no *.toml in ", "tests"]);

    let config = "[components.x]\npath = \"x.wasm\"\n[roles.x]\ncomponent = \"x\"\n";
    let unbuilt = Project::new(config, &[("a", HELLO)]);
    let ran = unbuilt.run(&[]).expect(1, &["0 passed, 1 failed", "x.wasm: No such file"]);
    let mut check = Command::new(files::binary());
    check.arg("check").arg("--config").arg(unbuilt.config());
    let check = Ran::of(check);
    let words =
        check.stdout.lines().find(|line| line.contains("x.wasm")).expect("the check says so");
    assert!(ran.stdout.contains(words), "{words}\n{}", ran.stdout);
}

/// A run empties the directory `test` of the state directory.
#[test]
fn a_directory_of_others_is_not_emptied_for_a_run() {
    let project = Project::of(&["echo"], &[("a", HELLO)]);
    let theirs = project.state_dir.join("test/notes.txt");
    std::fs::create_dir_all(theirs.parent().expect("a directory")).expect("make a directory");
    std::fs::write(&theirs, "precious").expect("write a file");
    project.run(&[]).expect(2, &["notes.txt", "new or an empty directory"]);
    assert_eq!(std::fs::read_to_string(theirs).expect("it is there"), "precious");
}

#[test]
fn what_the_authors_host_compiled_is_not_compiled_again() {
    let project = Project::of(&["echo"], &[("a", HELLO)]);
    let mut check = Command::new(files::binary());
    check.arg("check").arg("--config").arg(project.config());
    Ran::of(check).expect(0, &["component echo: ok"]);
    let ran = project.run(&[]).expect(0, &["1 passed, 0 failed"]);
    assert!(!ran.stderr.contains("compiled"), "{}", ran.stderr);
}

/// A component that panics, works on by itself, and is done.
#[test]
fn a_component_in_rust_is_followed_to_its_end() {
    let good = "
role = \"puppet\"
[[step]]
send = \"turns 3 x\"
[[step]]
send = \"panic\"
crash = \"panic\"
[[step]]
send = \"done\"
[[step]]
send = \"after\"
reply = \"after\"
[[step]]
restart = true
send = \"count\"
reply = \"1\"
";
    let bad = "role = \"puppet\"\n[[step]]\nsend = \"panic\"\n";
    let late = "role = \"puppet\"\n[[step]]\nsend = \"wait x\"\ndeadline_ms = 300\n";
    let project = Project::of(&["puppet"], &[("bad", bad), ("good", good), ("late", late)]);
    let ran = project.run(&[]).expect(1, &["1 passed, 2 failed"]);
    let bad = ran.script("bad");
    for text in ["came      a crash: panic: ", "puppet.rs:", "write crash = \"panic\""] {
        assert!(bad.contains(text), "{bad}");
    }
    assert!(
        ran.script("late").contains("came      no end of the turn in 300 ms"),
        "{}",
        ran.stdout
    );
}

#[test]
fn a_run_has_its_state_to_itself_and_ctrl_c_ends_all_of_it() {
    let hang = "[[step]]\nsend = \"hang 100000\"\ndeadline_ms = 100000\n";
    let project = Project::of(&["hang"], &[("hang", hang)]);
    let mut command = project.command(&[]);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    launcher::end_with_this_process(&mut command);
    let mut first = launcher::spawn(command).expect("run bulkhead test");
    let log = project.state_dir.join("test/test.log");
    let log = || std::fs::read_to_string(&log).unwrap_or_default();
    wait_until("the agent runs", || log().contains("\"agent.start\""));
    let holder = format!("another `bulkhead test` (process {}) uses ", first.id());
    project.run(&[]).expect(1, &[&holder]);
    let pid = Pid::from_child(&first);
    let hosts = processes::all_children(pid);
    assert!(!hosts.is_empty(), "it runs a host");
    kill_process(pid, Signal::INT).unwrap();
    assert_eq!(first.wait().unwrap().code(), Some(130));
    assert!(hosts.iter().all(|host| !processes::is_alive(*host)), "its host ends first");
    assert!(!is_used(project.dir.path()));
}

/// A language, and what its exceptions are called.
struct Language {
    name: &'static str,
    file: &'static str,
    /// Of the message `cause`.
    on_top: &'static str,
    /// A line of the code that throws.
    throws: &'static str,
}

const JAVASCRIPT: Language = Language {
    name: "js",
    file: "agent.js",
    on_top: "RangeError",
    throws: "if (what === \"type\") return undefined.length;",
};

const PYTHON: Language =
    Language { name: "python", file: "agent.py", on_top: "IndexError", throws: "return len(None)" };

impl Language {
    /// The runner of this language is there.
    fn is_built(&self) -> bool {
        let runner = files::target_dir().join(format!("debug/runners/{}.wasm", self.name));
        let is_built = runner.exists();
        if !is_built {
            skip(Need::Runners, "`just runners` builds them, and names them to this program");
        }
        is_built
    }

    /// The agent that fails as its messages say.
    fn project(&self, state_dir: &Path, scripts: &[(&str, &str)]) -> Project {
        let source = files::root().join("tests/runners");
        let config = format!(
            "[roles.broken]\nsource = {source:?}\nrunner = {:?}\nsnapshot = \"turn\"\ncpu_ms = 3000\n\
             models = [\"default\"]\n",
            self.name
        );
        Project { state_dir: state_dir.to_owned(), ..Project::new(&config, scripts) }
    }

    /// What `bulkhead new` writes passes.
    fn new_agent(&self, state_dir: &Path, lang: &str) {
        let dir = tempfile::tempdir().unwrap();
        let mut new = Command::new(files::binary());
        new.args(["new", "toast", "--lang", lang]).current_dir(dir.path());
        assert!(new.output().expect("run bulkhead new").status.success());
        let config = dir.path().join("toast/bulkhead.toml");
        Ran::of(test_command(&config, state_dir, &[])).expect(0, &["1 passed, 0 failed"]);
    }

    fn passes(&self, state_dir: &Path) {
        let Self { file, on_top, throws, .. } = self;
        let code = std::fs::read_to_string(files::root().join("tests/runners").join(file)).unwrap();
        let line = 1 + code.lines().position(|line| line.contains(throws)).expect("the line");
        let all = format!(
            "
[[step]]
send = \"count\"
reply = \"1\"

[[step]]
send = \"emit\"
reply = \"emitted\"
events = [{{ name = \"runner.tested\", data = {{ text = \"emit\" }} }}]

[[step]]
send = \"background\"
reply = \"soon\"
events = [{{ name = \"runner.done\" }}]

[[step]]
send = \"reject\"
rejection = \"TypeError\"

[[step]]
send = \"own\"
error = \"bad-prompt\"

[[step]]
send = \"type\"
crash = \"TypeError\"
crash_at = \"{file}:{line}\"

[[step]]
send = \"cause\"
crash = \"{on_top}\"

[[step]]
send = \"loop\"
crash = \"cpu_deadline\"

[[step]]
send = \"ask how it goes\"
model = [{{ tool = \"status\", arguments = {{ text = \"well\" }} }}, {{ text = [\"fi\", \"ne\"] }}]
asked_contains = [\"how it goes\", \"noted well\"]
reply = \"fine\"
"
        );
        let kept = "
[[step]]
send = \"count\"
reply = \"1\"

[[step]]
restart = true

[[step]]
send = \"count\"
reply_contains = [\"2\"]
";
        let project = self.project(state_dir, &[("all", &all), ("kept", kept)]);
        project.run(&[]).expect(0, &["2 passed, 0 failed"]);
    }

    fn fails(&self, state_dir: &Path) {
        let step = |more: &str| format!("[[step]]\n{more}\n");
        let scripts = [
            ("reply", step("send = \"count\"\nreply = \"2\"")),
            ("crash", step("send = \"type\"")),
            ("cause", step("send = \"cause\"\ncrash = \"KeyError\"")),
            ("error", step("send = \"own\"")),
            ("rejection", step("send = \"reject\"")),
            ("unanswered", step("send = \"ask what\"")),
            ("unasked", step("send = \"count\"\nmodel = [{ text = \"x\" }]")),
            (
                "asked",
                step("send = \"ask what\"\nmodel = [{ text = \"x\" }]\nasked_contains = \"who\""),
            ),
            (
                "event",
                step(
                    "send = \"emit\"\nevents = [{ name = \"runner.tested\", data = { text = \"x\" } }]",
                ),
            ),
            ("late", step("send = \"loop\"\ndeadline_ms = 200")),
        ];
        let scripts = scripts.each_ref().map(|(name, text)| (*name, text.as_str()));
        let project = self.project(state_dir, &scripts);
        let ran = project.run(&[]).expect(1, &["0 passed, 10 failed"]);
        let crash = format!("at {}", files::root().join("tests/runners").join(self.file).display());
        for (name, says) in [
            ("reply", &["expected  the reply \"2\"", "came      the reply \"1\""][..]),
            (
                "crash",
                &[
                    "came      a crash: TypeError: ",
                    "crash crashed: TypeError",
                    &crash,
                    "  > ",
                    self.throws,
                    "write crash = \"TypeError\"",
                ],
            ),
            ("cause", &["expected  a crash: KeyError", "caused by TypeError"]),
            (
                "error",
                &["came      the error bad-prompt: not like that", "write error = \"bad-prompt\""],
            ),
            (
                "rejection",
                &[
                    "expected  no unhandled rejection",
                    "rejection has a rejection that nobody handles: TypeError",
                    "write rejection = \"TypeError\"",
                ],
            ),
            (
                "unanswered",
                &["expected  no more questions to the model than `model` has answers: 0", "what"],
            ),
            (
                "unasked",
                &[
                    "expected  as many questions to the model as `model` has answers: 1",
                    "came      0 questions",
                ],
            ),
            ("asked", &["expected  a question to the model with \"who\""]),
            (
                "event",
                &[
                    "expected  the event runner.tested {\"text\":\"x\"}",
                    "came      runner.tested {\"text\":\"emit\"}",
                ],
            ),
            ("late", &["came      no end of the turn in 200 ms"]),
        ] {
            let shown = ran.script(name);
            for text in says {
                assert!(shown.contains(text), "no {text:?} in\n{shown}");
            }
        }
        assert!(!is_used(project.dir.path()), "no process is left");
    }
}

#[test]
fn agents_in_javascript_and_typescript_are_tested() {
    if !JAVASCRIPT.is_built() {
        return;
    }
    let state_dir = tempfile::tempdir().unwrap();
    JAVASCRIPT.new_agent(state_dir.path(), "js");
    JAVASCRIPT.new_agent(state_dir.path(), "ts");
    JAVASCRIPT.passes(state_dir.path());
    JAVASCRIPT.fails(state_dir.path());
}

#[test]
fn agents_in_python_are_tested() {
    if !PYTHON.is_built() {
        return;
    }
    let state_dir = tempfile::tempdir().unwrap();
    PYTHON.new_agent(state_dir.path(), "python");
    PYTHON.passes(state_dir.path());
    PYTHON.fails(state_dir.path());
}

/// With the crates that this workspace uses, so that nothing is downloaded; the SDK comes with the project.
#[test]
fn a_new_agent_in_rust_builds_as_it_is_written_and_passes() {
    // The same place each time, within another workspace: what the project depends on is compiled once.
    let dir = files::target_dir().join("new-agent-in-rust");
    let project = dir.join("toast");
    let _ = std::fs::remove_dir_all(&project);
    std::fs::create_dir_all(dir.join("target")).unwrap();
    let mut new = Command::new(files::binary());
    new.args(["new", "toast", "--lang", "rust"]).current_dir(&dir);
    Ran::of(new).expect(0, &["cargo build --release"]);
    std::os::unix::fs::symlink(dir.join("target"), project.join("target")).unwrap();
    std::fs::copy(files::root().join("Cargo.lock"), project.join("Cargo.lock")).unwrap();
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--release", "--offline"]).current_dir(&project);
    for variable in ["CARGO_TARGET_DIR", "CARGO_ENCODED_RUSTFLAGS", "RUSTC_WORKSPACE_WRAPPER"] {
        build.env_remove(variable);
    }
    Ran::of(build).expect(0, &[]);
    let state_dir = tempfile::tempdir().unwrap();
    let config = project.join("bulkhead.toml");
    Ran::of(test_command(&config, state_dir.path(), &[])).expect(0, &["1 passed, 0 failed"]);
}
