//! `bulkhead test`: agents driven by scripts of messages and of a model's answers, for their author's CI.
//!
//! ```text
//!  tests/*.toml ─▶ files ─▶ script ─┐
//!  bulkhead.toml ─▶ project ────────┼─▶ play ─▶ verdict ─▶ report ─▶ stdout
//!  the child ─▶ process ─▶ its API ─┘    │
//!       └─ asks ─▶ model ─▶ chat ◀───────┘ answers of the step
//! ```
//!
//! The host is a child process as `bulkhead run` has it, with a state directory of its own ([`state`]), with the model of
//! this program in place of all that the configuration names, and with no way to anything else. How the configuration is
//! changed for that is the daemon's to know.

mod chat;
mod files;
mod model;
mod observed;
mod play;
mod report;
mod script;
mod state;
mod subset;
mod verdict;

use std::cell::RefCell;
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use bulkhead_api::StartRequest;
use bulkhead_terminal::{ColourChoice, words};
use clap::Args;
use tokio::time::sleep;

use crate::author::fact::{Complaint, Fact};
use crate::author::process::{Process, Said, ended};
use crate::author::project::{Project, ReadProject};
use crate::author::signals::Signals;
use crate::failure::Failure;
use crate::screen::Screen;
use crate::session::Session;
use crate::target::{self, Configured};
use crate::waiting::Waiting;
use files::ScriptFile;
use model::Model;
use play::play;
use report::Tally;
use state::State;

pub use state::NAME as TEST_DIRECTORY;

/// Arguments of `test`.
#[derive(Debug, Args)]
#[command(after_help = TEST_HELP)]
pub struct TestArgs {
    /// Scripts, or directories of scripts [default: the directory `tests` beside the configuration file].
    #[arg(value_name = "PATH")]
    pub scripts: Vec<PathBuf>,
    /// Configuration file.
    #[arg(
        long,
        short,
        env = "BULKHEAD_CONFIG",
        hide_env_values = true,
        default_value = "bulkhead.toml"
    )]
    pub config: PathBuf,
    /// Only scripts with this text in their path.
    #[arg(long, value_name = "TEXT")]
    pub filter: Option<String>,
    /// Print JSON, one object per script, and one for all of them at the end.
    #[arg(long)]
    pub json: bool,
}

const TEST_HELP: &str = "\
A script is a TOML file with messages to a new agent, what its model answers, and what is expected.
docs/writing-agents.md describes it. Agents reach the scripted model and nothing else. The host of the run has the
directory `test` in the state directory to itself; its log is test.log there. One script runs after the other.

Exit codes:
  0         all scripts passed
  1         a script failed, or the host cannot run, or another `bulkhead test` runs
  2         invalid command line, configuration or script, or there is no script
  130       ended by Ctrl-C
  129, 143  ended by SIGHUP or SIGTERM";

/// A first start that takes longer is explained.
const SLOW: Duration = Duration::from_secs(2);

/// The log of the host, in the directory of the run.
const LOG: &str = "test.log";

/// Runs scripts. `program` is what runs the host: this same program, which takes the URL of the model as `--test-model`.
/// The code is one of those in the help.
pub fn run_test(
    args: &TestArgs,
    colours: ColourChoice,
    read: ReadProject,
    program: &Path,
) -> ExitCode {
    let screen = Screen::of_stdout(colours);
    let cannot = |error: std::io::Error| Failure::NoAnswer(format!("cannot run: {error}"));
    // One thread: the child is bound to the life of the one that starts it.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let done = runtime.map_err(cannot).and_then(|runtime| {
        runtime.block_on(async {
            let mut signals = Signals::new().map_err(cannot)?;
            let run = Run::prepare(args, screen, read)?;
            run.run(program, &mut signals).await
        })
    });
    let Err(failure) = done else { return ExitCode::SUCCESS };
    if let Some(words) = failure.words() {
        eprintln!("bulkhead: {}", bulkhead_printable::lines(&words));
    }
    ExitCode::from(failure.code())
}

struct Run<'a> {
    args: &'a TestArgs,
    screen: Screen,
    project: Project,
    /// With how the agent of each is started.
    scripts: Vec<(ScriptFile, StartRequest)>,
    state: State,
    tally: RefCell<Tally>,
}

impl<'a> Run<'a> {
    fn prepare(args: &'a TestArgs, screen: Screen, read: ReadProject) -> Result<Self, Failure> {
        let project = read(&args.config).map_err(Failure::Usage)?;
        let filter = args.filter.as_deref();
        let scripts = files::read(&args.scripts, &args.config, filter).map_err(Failure::Usage)?;
        let with_agent = |file: ScriptFile| {
            let agent = agent_of(&file, &project).map_err(Failure::Usage)?;
            Ok((file, agent))
        };
        let scripts = scripts.into_iter().map(with_agent).collect::<Result<_, Failure>>()?;
        let state = State::take(&project.control.state_dir)?;
        Ok(Self { args, screen, project, scripts, state, tally: RefCell::default() })
    }

    /// Whatever ends it, the child ends first.
    async fn run(&self, program: &Path, signals: &mut Signals) -> Result<(), Failure> {
        let cannot = |error| Failure::NoAnswer(format!("cannot listen for the model: {error}"));
        let model = Model::listen().await.map_err(cannot)?;
        let mut process = None;
        let done = tokio::select! {
            biased;
            signal = signals.next() => Err(signal.err().unwrap_or_else(interrupted)),
            done = self.with_host(program, &model, &mut process) => done,
            never = model.serve() => match never {},
        };
        if let Some(process) = &mut process {
            process.end().await;
        }
        done
    }

    async fn with_host(
        &self,
        program: &Path,
        model: &Model,
        slot: &mut Option<Process>,
    ) -> Result<(), Failure> {
        let process = slot.insert(Process::start(program, &self.args.config, |command| {
            command.args(["--listen", "127.0.0.1:0", "--test-model", &model.url()]);
            command.env("BULKHEAD_STATE_DIR", self.state.path()).env_remove("BULKHEAD_SUPERVISE");
        })?);
        let log = self.state.path().join(LOG);
        let say = |words: &str| {
            aside(words);
            Ok(())
        };
        let listen = process.ready(&log, say).await?;
        let configured = Configured {
            listen,
            token: self.project.control.token.clone(),
            state_dir: self.state.path().to_owned(),
        };
        let target = target::own(listen, &configured).map_err(Failure::Usage)?;
        let (screen, waiting) = (self.screen, Waiting::default());
        let session = Session { target, screen, waiting, timeout: None, json: false };
        tokio::select! {
            biased;
            done = self.scripts(&session, model) => done,
            lost = watch(process) => Err(lost.err().unwrap_or_else(interrupted)),
        }
    }

    async fn scripts(&self, session: &Session, model: &Model) -> Result<(), Failure> {
        let began = Instant::now();
        for (file, agent) in &self.scripts {
            self.script(file, agent, session, model).await?;
        }
        let (tally, took) = (self.tally.borrow(), began.elapsed());
        self.screen.print(&match self.args.json {
            true => report::json_of_all(&tally, took),
            false => report::of_all(&tally, took, self.screen),
        })?;
        if tally.failed == 0 { Ok(()) } else { Err(Failure::Reported(1)) }
    }

    async fn script(
        &self,
        file: &ScriptFile,
        agent: &StartRequest,
        session: &Session,
        model: &Model,
    ) -> Result<(), Failure> {
        let began = Instant::now();
        let failed = play(&file.script, agent.clone(), session, model).await?;
        let (failed, took) = (failed.as_ref(), began.elapsed());
        match failed {
            None => self.tally.borrow_mut().passed += 1,
            Some(_) => self.tally.borrow_mut().failed += 1,
        }
        let base = self.project.role(&agent.role).map(|role| &*role.base);
        self.screen.print(&match self.args.json {
            true => report::json_of_script(&file.path, took, failed),
            false => report::of_script(&file.path, took, failed, base, self.screen),
        })
    }
}

/// How the agent of a script is started: as the first that the configuration has of its role, under a name of its own and
/// with no prompt, which would be a message of its own.
fn agent_of(file: &ScriptFile, project: &Project) -> Result<StartRequest, String> {
    let role = match (&file.script.role, project.agents.first(), &*project.roles) {
        (Some((role, line)), ..) => {
            if project.role(role).is_none() {
                let known: Vec<_> = project.roles.iter().map(|role| &*role.name).collect();
                let (path, known) = (file.path.display(), known.join(", "));
                return Err(format!(
                    "{path}: line {line}, role: there is no role {role}; the configuration has {known}"
                ));
            }
            role
        }
        (None, Some(agent), _) => &agent.role,
        (None, None, [only]) => &only.name,
        (None, None, roles) => {
            let (path, number) = (file.path.display(), roles.len());
            return Err(format!(
                "{path}: `role` is missing: the configuration has {number} roles and no [[agents]]"
            ));
        }
    };
    let configured = project.agents.iter().find(|agent| agent.role == *role).cloned();
    let agent = configured.unwrap_or_else(|| StartRequest::new(file.agent.clone(), role.clone()));
    Ok(StartRequest { agent_id: file.agent.clone(), prompt: String::new(), ..agent })
}

/// Reads what the host says, for as long as it runs. A first start that takes long is explained.
async fn watch(process: &mut Process) -> Result<Infallible, Failure> {
    let mut slow = std::pin::pin!(sleep(SLOW));
    let mut first_start = FirstStart::Compiles;
    loop {
        tokio::select! {
            said = process.next() => match said? {
                Said::Log(line) => first_start = first_start.max(log_line(&line)),
                Said::Words(words) => aside(&words),
                Said::Ended(status) => return Err(ended(status)),
            },
            () = &mut slow, if first_start < FirstStart::Over => {
                if let Some(words) = first_start.explained() {
                    aside(words);
                }
                first_start = FirstStart::Over;
            }
        }
    }
}

/// How far the first start is, as far as that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum FirstStart {
    /// Nothing is loaded: from the cache that would have been at once.
    Compiles,
    /// What runs the agent is loaded.
    Runs,
    /// The agent has started, or failed to; or the wait was explained.
    Over,
}

impl FirstStart {
    /// What to say of one that takes long.
    fn explained(self) -> Option<&'static str> {
        match self {
            Self::Compiles => Some("what runs the agent is compiled once, which takes a while"),
            Self::Runs => Some("the agent starts, which takes a while"),
            Self::Over => None,
        }
    }
}

/// Shows what an author should know of. Returns how far the first start is at least.
fn log_line(line: &str) -> FirstStart {
    match Fact::parse(line) {
        Some(Fact::Start { .. } | Fact::StartFailed { .. }) => return FirstStart::Over,
        Some(Fact::ComponentLoaded { component, source, duration_ms }) => {
            if source == "compiled" {
                aside(&format!("compiled {component} in {}", words::millis(duration_ms)));
            }
            return FirstStart::Runs;
        }
        Some(_) => {}
        None => {
            if let Some(complaint) = Complaint::parse(line) {
                aside(&complaint.words());
            }
        }
    }
    FirstStart::Compiles
}

/// A line beside the results.
fn aside(words: &str) {
    eprintln!("{}", bulkhead_printable::lines(words));
}

fn interrupted() -> Failure {
    Failure::Interrupted("interrupted".to_owned())
}

#[cfg(test)]
mod tests {
    use bulkhead_types::AgentId;

    use super::*;
    use crate::author::project::RoleCode;

    #[test]
    fn a_wait_is_for_a_compiler_only_while_nothing_is_loaded() {
        let loaded = r#"{"event":"container.component_loaded","component":"runner-js","source":"cache","durationMs":3}"#;
        let begin = FirstStart::Compiles.max(log_line(r#"{"event":"container.snapshot"}"#));
        assert!(begin.explained().is_some_and(|words| words.contains("compiled")));
        let begin = begin.max(log_line(loaded));
        assert_eq!(begin.explained(), Some("the agent starts, which takes a while"));
        assert_eq!(FirstStart::Over.max(log_line(loaded)).explained(), None);
    }

    fn project(roles: &[&str], agents: &[(&str, &str)]) -> Project {
        let listen = "127.0.0.1:8080".parse().unwrap();
        let control = Configured { listen, token: None, state_dir: PathBuf::new() };
        let role = |name: &&str| RoleCode {
            name: (*name).to_owned(),
            component: (*name).to_owned(),
            path: PathBuf::new(),
            base: PathBuf::new(),
            has_model: false,
        };
        let agent = |(id, role): &(&str, &str)| {
            let agent = StartRequest::new(AgentId::parse(id).unwrap(), (*role).to_owned());
            StartRequest { prompt: "go".into(), system_prompt: Some("be brief".into()), ..agent }
        };
        let (roles, agents) = (roles.iter().map(role), agents.iter().map(agent));
        Project { control, roles: roles.collect(), agents: agents.collect() }
    }

    fn agent(role: &str, project: &Project) -> Result<StartRequest, String> {
        let text = format!("{role}\n[[step]]\nsend = \"x\"\n");
        let (path, script) = (PathBuf::from("a.toml"), script::parse(&text).unwrap());
        agent_of(&ScriptFile { path, agent: AgentId::parse("a").unwrap(), script }, project)
    }

    #[test]
    fn the_role_is_that_of_the_script_or_of_the_first_agent_or_the_only_one() {
        let two = project(&["r", "s"], &[("one", "s")]);
        let first = agent("", &two).unwrap();
        assert_eq!((&*first.role, &*first.name, &*first.prompt), ("s", "one", ""));
        assert_eq!(
            (first.agent_id.as_str(), first.system_prompt.as_deref()),
            ("a", Some("be brief"))
        );
        let named = agent("role = \"r\"", &two).unwrap();
        assert_eq!((&*named.role, &*named.name), ("r", "a"));
        assert_eq!(agent("", &project(&["r"], &[])).unwrap().role, "r");
        let error = agent("", &project(&["r", "s"], &[])).unwrap_err();
        assert!(
            error.starts_with("a.toml: `role` is missing: the configuration has 2 roles"),
            "{error}"
        );
        let error = agent("\nrole = \"x\"", &two).unwrap_err();
        assert_eq!(error, "a.toml: line 2, role: there is no role x; the configuration has r, s");
    }
}
