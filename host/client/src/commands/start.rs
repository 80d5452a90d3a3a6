//! `bulkhead start`: starts an agent and says what came of it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bulkhead_api::{Issue, StartAnswer, StartRequest, WithIgnored};
use bulkhead_types::message::MAX_BODY_BYTES;
use clap::{Args, ValueEnum};
use serde_json::{Map, Value};

use super::input::{file_or_stdin, text_or_stdin};
use crate::args::{HostArgs, OutputArgs};
use crate::failure::Failure;
use crate::session::{Call, LONG, Session};
use bulkhead_printable as text;
use bulkhead_terminal::words::parse_some_time;

/// Largest request of `--file` and largest file of `--env-file`: the largest body that the control server takes.
const MAX_FILE_BYTES: usize = 2 * 1024 * 1024;

/// More than the deadline, so that the host reports that it passed.
const AFTER_DEADLINE: Duration = Duration::from_secs(10);

/// Arguments of `start`.
#[derive(Debug, Args)]
#[command(after_help = START_HELP)]
pub struct StartArgs {
    /// Id of the agent. May be omitted when --file has it.
    #[arg(value_name = "AGENT", required_unless_present = "file")]
    pub agent: Option<String>,
    /// Name of a role in the host's configuration.
    #[arg(long, required_unless_present = "file")]
    pub role: Option<String>,
    /// The first message; - reads stdin.
    #[arg(long, value_name = "TEXT")]
    pub prompt: Option<String>,
    /// Display name.
    #[arg(long)]
    pub name: Option<String>,
    /// Name of a configured component to run instead of the role's.
    #[arg(long)]
    pub component: Option<String>,
    /// System prompt.
    #[arg(long, value_name = "TEXT")]
    pub system_prompt: Option<String>,
    /// Language model to use.
    #[arg(long)]
    pub model: Option<String>,
    /// Id of its town.
    #[arg(long)]
    pub town: Option<String>,
    /// Id of its rig, the repository that it works on if its role says `git = true`.
    #[arg(long)]
    pub rig: Option<String>,
    /// Memory limit in MiB instead of the role's.
    #[arg(long, value_name = "MEBIBYTES", value_parser = clap::value_parser!(u64).range(1..))]
    pub memory: Option<u64>,
    /// Set an environment variable; NAME alone copies it from this process. Arguments are visible to every
    /// user of this machine: pass secrets with --secrets-file.
    #[arg(long = "env", value_name = "NAME=VALUE")]
    pub env: Vec<String>,
    /// File of NAME=VALUE lines with environment variables. Values are not unquoted; blank lines and lines that
    /// begin with # are ignored.
    #[arg(long, value_name = "FILE")]
    pub env_file: Option<PathBuf>,
    /// File like --env-file whose values are credentials. They are no part of the agent's identity: a start with
    /// other secrets joins a running agent and replaces its secrets.
    #[arg(long, value_name = "FILE")]
    pub secrets_file: Option<PathBuf>,
    /// Start the agent although it is quarantined.
    #[arg(long)]
    pub force: bool,
    /// What to do when the agent is already starting or running [default: join].
    #[arg(long, value_name = "WHAT")]
    pub if_running: Option<IfRunningArg>,
    /// Deadline of the start instead of the role's, for example 30s.
    #[arg(long, value_name = "TIME", value_parser = parse_some_time)]
    pub deadline: Option<Duration>,
    /// JSON file with a start request, as for POST /agents/start; - reads stdin. Arguments override its fields.
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Output format.
    #[command(flatten)]
    pub output: OutputArgs,
    /// The host to call.
    #[command(flatten)]
    pub host: HostArgs,
    /// The request, once it is put together.
    #[arg(skip)]
    pub(crate) request: Option<(StartRequest, Vec<u8>)>,
}

const START_HELP: &str = "\
A start that the host does not admit (unknown role, quarantine, no capacity, a newer start) has exit code 3. A
start that it admits and that fails (component, guest, deadline) has 4. stderr has the phase, the error type and
a remedy.

Exit codes:
  0    started, joined, or kept
  1    the host is unreachable, timed out, or sent an invalid response
  2    invalid command line, or a file it names cannot be read; no request was sent
  3    the host refused the request
  4    the start failed
  130  interrupted with Ctrl-C; the host continues the start";

/// What to do when the agent starts or runs already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum IfRunningArg {
    /// Join it when it has the same spec, else replace it.
    Join,
    /// Stop it and start it again.
    Restart,
    /// Keep it as it is.
    Keep,
}

impl StartArgs {
    /// Puts the request together and checks it as the host would.
    pub(crate) fn prepare(&mut self) -> Result<(), String> {
        let mut fields = match &self.file {
            Some(path) => request_in(&file_or_stdin(path, "the request", MAX_FILE_BYTES)?)?,
            None => Map::new(),
        };
        let prompt = self.prompt.as_deref();
        let prompt =
            prompt.map(|text| text_or_stdin(text, "--prompt", MAX_BODY_BYTES)).transpose()?;
        let text = |value: &Option<String>| value.clone().map(Value::from);
        let if_running = self.if_running.map(|what| match what {
            IfRunningArg::Join => Value::from("join"),
            IfRunningArg::Restart => Value::from("restart"),
            IfRunningArg::Keep => Value::from("keep"),
        });
        let deadline = self.deadline.map(bulkhead_types::time::millis);
        for (name, value) in [
            ("agentId", text(&self.agent)),
            ("role", text(&self.role)),
            ("prompt", prompt.map(Value::from)),
            ("name", text(&self.name)),
            ("component", text(&self.component)),
            ("systemPrompt", text(&self.system_prompt)),
            ("model", text(&self.model)),
            ("townId", text(&self.town)),
            ("rigId", text(&self.rig)),
            ("memoryLimitMb", self.memory.map(Value::from)),
            ("force", self.force.then_some(Value::from(true))),
            ("ifRunning", if_running),
            ("deadlineMs", deadline.map(Value::from)),
        ] {
            if let Some(value) = value {
                fields.insert(name.to_owned(), value);
            }
        }
        let env = self.environment(|name| std::env::var(name).ok())?;
        let secrets = pairs_in(self.secrets_file.as_deref(), "--secrets-file")?;
        for (name, values) in [("envVars", env), ("secrets", secrets)] {
            if values.is_empty() {
                continue;
            }
            let of_file = fields.entry(name).or_insert_with(|| Map::new().into());
            let of_file = of_file.as_object_mut();
            of_file.ok_or(format!("{name} of the request is not an object"))?.extend(values);
        }
        let body = serde_json::to_vec(&fields).map_err(|error| error.to_string())?;
        let request = StartRequest::parse_body(&body).map_err(wrong_request)?.request;
        self.request = Some((request, body));
        Ok(())
    }

    /// The values of `--env-file`, then those of `--env`. No error quotes a value.
    fn environment(
        &self,
        own: impl Fn(&str) -> Option<String>,
    ) -> Result<Map<String, Value>, String> {
        let mut values = pairs_in(self.env_file.as_deref(), "--env-file")?;
        for pair in &self.env {
            let (name, value) = match pair.split_once('=') {
                Some((name, value)) => (name, value.to_owned()),
                None => {
                    let value = own(pair);
                    (
                        pair.as_str(),
                        value.ok_or(format!("--env {pair}: no such environment variable"))?,
                    )
                }
            };
            if name.is_empty() {
                return Err("--env: a value without a name".to_owned());
            }
            values.insert(name.to_owned(), value.into());
        }
        Ok(values)
    }
}

/// The values of a file of NAME=VALUE lines, nothing without one. No error quotes a value.
fn pairs_in(path: Option<&Path>, argument: &str) -> Result<Map<String, Value>, String> {
    let Some(path) = path else { return Ok(Map::new()) };
    let text = file_or_stdin(path, argument, MAX_FILE_BYTES)?;
    let mut values = Map::new();
    for (at, line) in text.lines().enumerate() {
        let line = line.strip_suffix('\r').unwrap_or(line);
        if line.trim().is_empty() || line.trim_start().starts_with('#') {
            continue;
        }
        let pair = line.split_once('=').filter(|(name, _)| !name.trim().is_empty());
        let place = || format!("{}, line {}: expected NAME=VALUE", path.display(), at + 1);
        let (name, value) = pair.ok_or_else(place)?;
        values.insert(name.trim().to_owned(), value.into());
    }
    Ok(values)
}

fn request_in(text: &str) -> Result<Map<String, Value>, String> {
    match serde_json::from_str(text) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) => Err("--file: the request is not an object".to_owned()),
        // The parser's words say a position and no values.
        Err(error) => Err(format!("--file: {error}")),
    }
}

fn wrong_request(issues: Vec<Issue>) -> String {
    let issue = |Issue { path, message }: &Issue| format!("{path}: {message}");
    let issues: Vec<_> = issues.iter().map(issue).collect();
    format!("invalid start request: {}", issues.join("; "))
}

pub(crate) async fn run(args: &StartArgs, session: &Session) -> Result<(), Failure> {
    let Some((request, body)) = &args.request else {
        return Err(Failure::Usage("there is no request".to_owned()));
    };
    let id = &request.agent_id;
    let deadline = request.deadline_ms.map(Duration::from_millis);
    let patience = deadline.map_or(LONG, |deadline| deadline.saturating_add(AFTER_DEADLINE));
    let goes_on = format!("the host continues the start: see bulkhead status {id}");
    let call = Call::post("/agents/start", format!("start of {id}"), body.clone()).within(patience);
    let answer = {
        let _over = session.waiting.begin(format!("{id} to start"), Some(goes_on));
        session.ask(call).await?
    };
    if session.json {
        return session.print_json::<StartAnswer>(&answer);
    }
    let WithIgnored { answer: started, ignored } =
        session.read::<WithIgnored<StartAnswer>>(&answer)?;
    if !ignored.is_empty() {
        eprintln!("bulkhead: the host ignored unknown fields: {}", text::line(&ignored.join(", ")));
    }
    let StartAnswer { agent, joined, .. } = started;
    let what = match (answer.status, joined) {
        (_, true) => "was already up",
        (201, false) => "started",
        (_, false) => "kept as it runs",
    };
    let (role, component) = (text::line(&agent.role), text::line(&agent.component));
    let number = agent.incarnation;
    session.screen.print(&format!(
        "{id} {what}: {}, incarnation {number}, role {role}, component {component}\n",
        text::line(&agent.status)
    ))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        start: StartArgs,
    }

    fn prepared(words: &[&str]) -> Result<Value, String> {
        let line = Line::try_parse_from([&["start"], words].concat());
        let mut args = line.map_err(|error| error.to_string())?.start;
        args.prepare()?;
        Ok(serde_json::from_slice(&args.request.unwrap().1).unwrap())
    }

    fn file(text: &str) -> (tempfile::TempDir, String) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, text).unwrap();
        (dir, path.to_str().unwrap().to_owned())
    }

    #[test]
    fn arguments_become_the_fields_of_the_api() {
        let words = [
            "a",
            "--role",
            "echo",
            "--prompt",
            "hi",
            "--memory",
            "32",
            "--force",
            "--if-running",
            "keep",
            "--deadline",
            "90s",
            "--env",
            "A=1=2",
            "--env",
            "B=",
        ];
        let expected = serde_json::json!({"agentId": "a", "role": "echo", "prompt": "hi", "memoryLimitMb": 32,
            "force": true, "ifRunning": "keep", "deadlineMs": 90_000, "envVars": {"A": "1=2", "B": ""}});
        assert_eq!(prepared(&words).unwrap(), expected);
    }

    #[test]
    fn arguments_win_over_the_file_and_what_it_says_beside_them_stays() {
        let (_dir, path) =
            file(r#"{"agentId":"a","role":"x","rigId":"r","envVars":{"A":"1","B":"1"}}"#);
        let expected = serde_json::json!({"agentId": "a", "role": "echo", "rigId": "r",
            "envVars": {"A": "1", "B": "2"}});
        let words = ["--file", &path, "--role", "echo", "--env", "B=2"];
        assert_eq!(prepared(&words).unwrap(), expected);
    }

    #[test]
    fn an_environment_file_is_taken_as_it_is() {
        let (_dir, path) = file("# a comment\n\nA=\"x y\"\r\n B = 1\n");
        let made = prepared(&["a", "--role", "echo", "--env-file", &path]).unwrap();
        assert_eq!(made["envVars"], serde_json::json!({"A": "\"x y\"", "B": " 1"}));
        let made = prepared(&["a", "--role", "echo", "--secrets-file", &path]).unwrap();
        assert_eq!(made["secrets"], serde_json::json!({"A": "\"x y\"", "B": " 1"}));
        assert_eq!(made.get("envVars"), None);
    }

    #[test]
    fn wrong_input_is_named_and_no_value_quoted() {
        let (_dir, no_pair) = file("A=1\nhunter2\n");
        let (_other, no_json) = file("hunter2");
        let (_third, array) = file("[]");
        let (_fourth, bad_values) = file(r#"{"agentId":"a","role":"r","envVars":["hunter2"]}"#);
        for (words, named) in [
            (vec!["a"], "--role"),
            (vec!["--role", "echo"], "AGENT"),
            (vec!["../a", "--role", "echo"], "agentId"),
            (vec!["a", "--role", ""], "role"),
            (vec!["a", "--role", "echo", "--prompt", ""], "--prompt is empty"),
            (vec!["a", "--role", "echo", "--deadline", "5"], "--deadline"),
            (vec!["a", "--role", "echo", "--memory", "0"], "--memory"),
            (vec!["a", "--role", "echo", "--if-running", "x"], "--if-running"),
            (vec!["a", "--role", "echo", "--env", "=hunter2"], "--env"),
            (
                vec!["a", "--role", "echo", "--env", "NO_SUCH_VARIABLE_HERE"],
                "NO_SUCH_VARIABLE_HERE",
            ),
            (vec!["a", "--role", "echo", "--env-file", &no_pair], "line 2"),
            (vec!["a", "--role", "echo", "--env-file", "/nowhere"], "/nowhere"),
            (vec!["a", "--role", "echo", "--secrets-file", &no_pair], "line 2"),
            (vec!["--file", &no_json], "--file"),
            (vec!["--file", &array], "not an object"),
            (vec!["--file", &bad_values], "envVars"),
            (vec!["--file", &bad_values, "--env", "A=1"], "envVars"),
            (vec!["--file", "/nowhere"], "/nowhere"),
        ] {
            let error = prepared(&words).expect_err(named);
            assert!(error.contains(named) && !error.contains("hunter2"), "{words:?}: {error}");
        }
    }
}
