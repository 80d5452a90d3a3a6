//! `bulkhead exec`: runs a program as an agent would.

use std::fmt::Write as _;
use std::io::Write as _;

use bulkhead_api::ExecAnswer;
use bulkhead_types::{AgentId, ToolEnd};
use clap::Args;

use super::input::text_or_stdin;
use crate::args::{HostArgs, OutputArgs, parse_agent};
use crate::failure::Failure;
use crate::session::{Call, LONG, Session, agent_path};
use bulkhead_printable as text;
use bulkhead_terminal::words::{bytes, millis};

/// Of stdin. The host takes a request of 2 MiB, in which some characters take more room.
const MAX_STDIN_BYTES: usize = 1024 * 1024;

/// As `timeout` of the coreutils ends.
const TIMED_OUT: u8 = 124;

/// No word of the program, as `podman exec` and `env` say it: lower codes are those of programs.
const NOT_RUN: u8 = 125;

/// By a SIGKILL.
const KILLED: u8 = 128 + 9;

/// Arguments of `exec`.
#[derive(Debug, Args)]
#[command(after_help = EXEC_HELP)]
pub struct ExecArgs {
    /// Id of the agent.
    #[arg(value_name = "AGENT", value_parser = parse_agent)]
    pub agent: AgentId,
    /// The program, one of the `tools` of the agent's role, and its arguments.
    #[arg(
        value_name = "COMMAND",
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    pub command: Vec<String>,
    /// Where it begins, relative to the workspace.
    #[arg(long, value_name = "DIR")]
    pub dir: Option<String>,
    /// A variable of its environment. Repeat for more.
    #[arg(long, short, value_name = "NAME=VALUE", value_parser = parse_variable)]
    pub env: Vec<(String, String)>,
    /// Pass stdin to it, up to 1 MiB of UTF-8, once that is at its end.
    #[arg(long, short = 'i')]
    pub stdin: bool,
    /// Output format.
    #[command(flatten)]
    pub output: OutputArgs,
    /// The host to call.
    #[command(flatten)]
    pub host: HostArgs,
    /// What it reads, once that is read.
    #[arg(skip)]
    pub(crate) input: String,
}

const EXEC_HELP: &str = "\
The program runs in the agent's workspace, in its sandbox and under the limits of its role. Its output is printed when it
has ended; bytes that are not UTF-8 are replaced by U+FFFD, and stderr says so. It ends with the agent, and with this
command.

Exit codes:
  0..  the exit code of the program
  124  the program was ended for its time
  125  the host refused the request, or is unreachable; if it did not answer in time the program may have run
  137  the program was ended for another of its limits, or with its agent
  128 + n  the program ended by signal n
  130  interrupted with Ctrl-C; the program is ended";

fn parse_variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected NAME=VALUE".to_owned()),
    }
}

impl ExecArgs {
    pub(crate) fn prepare(&mut self) -> Result<(), String> {
        if self.stdin {
            self.input = text_or_stdin("-", "stdin", MAX_STDIN_BYTES)?;
        }
        Ok(())
    }
}

pub(crate) async fn run(args: &ExecArgs, session: &Session) -> Result<(), Failure> {
    let (program, arguments) = args.command.split_first().expect("clap wants one");
    let environment: serde_json::Map<_, _> =
        args.env.iter().map(|(name, value)| (name.clone(), value.as_str().into())).collect();
    let body = serde_json::json!({
        "program": program, "arguments": arguments, "directory": args.dir, "environment": environment,
        "stdin": args.input,
    });
    let path = agent_path(&args.agent, "exec");
    let asked = format!("{} for {}", text::line(program), args.agent);
    let call = Call::post(path, asked, body.to_string().into_bytes()).within(LONG);
    let answer = session.call(call).await?;
    let ended: ExecAnswer = session.read(&answer)?;
    if session.json {
        session.print_json::<ExecAnswer>(&answer)?;
    } else {
        let shown = |output: &str, is_terminal| match is_terminal {
            true => text::lines(output).into_owned(),
            false => output.to_owned(),
        };
        session.screen.print(&shown(&ended.stdout, session.screen.is_terminal))?;
        let stderr = std::io::stderr();
        let is_terminal = std::io::IsTerminal::is_terminal(&stderr);
        // Nobody who reads it is no reason to fail.
        let _ = stderr.lock().write_all(shown(&ended.stderr, is_terminal).as_bytes());
    }
    if !ended.utf8 && !session.json {
        eprintln!("bulkhead: the output has bytes that are not UTF-8; they are replaced");
    }
    if let Some(why) = why(&ended) {
        eprintln!("bulkhead: {} {why}", text::line(program));
    }
    match code(&ended) {
        0 => Ok(()),
        code => Err(Failure::Reported(code)),
    }
}

/// The exit code where there is no answer of the host about the program's end.
pub(crate) fn code_of(failure: &Failure) -> u8 {
    match failure {
        Failure::Refused(refusal) if refusal.body.error_type.as_deref() == Some("agent-ended") => {
            KILLED
        }
        _ => NOT_RUN,
    }
}

/// As a shell would report it.
fn code(ended: &ExecAnswer) -> u8 {
    let number = |number: Option<i32>| number.and_then(|number| u8::try_from(number).ok());
    match ended.end {
        ToolEnd::Exited => number(ended.code).unwrap_or(u8::MAX),
        ToolEnd::Signalled => number(ended.signal).map_or(u8::MAX, |signal| 128 + signal),
        ToolEnd::WallDeadline | ToolEnd::CpuDeadline => TIMED_OUT,
        _ => KILLED,
    }
}

/// Why it did not end by itself.
fn why(ended: &ExecAnswer) -> Option<String> {
    let because = match ended.end {
        ToolEnd::Exited => return None,
        ToolEnd::Signalled => format!("ended by signal {}", ended.signal.unwrap_or_default()),
        ToolEnd::WallDeadline => "was ended: it took too long".to_owned(),
        ToolEnd::CpuDeadline => "was ended: it took too much CPU time".to_owned(),
        ToolEnd::MemoryLimit => "was ended: it wanted too much memory".to_owned(),
        ToolEnd::OutputLimit => "was ended: it wrote too much to stdout and stderr".to_owned(),
        ToolEnd::PidsLimit => "was ended: it wanted too many processes".to_owned(),
        ToolEnd::WorkspaceLimit => "was ended: the workspace grew too large".to_owned(),
        ToolEnd::Cancelled => "was ended with its agent".to_owned(),
        ToolEnd::Evicted => "was ended: the container was short of memory".to_owned(),
        ToolEnd::Lost => "was lost: the launcher of tools died".to_owned(),
    };
    let mut text = because;
    let (wall, cpu) = (millis(ended.wall_ms), millis(ended.cpu_ms));
    let _ = write!(text, " after {wall}, {cpu} of CPU, {}", bytes(ended.peak_memory_bytes));
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(end: ToolEnd) -> ExecAnswer {
        ExecAnswer {
            end,
            code: Some(7),
            signal: Some(11),
            wall_ms: 1500,
            cpu_ms: 20,
            peak_memory_bytes: 1 << 20,
            stdout: String::new(),
            stderr: String::new(),
            utf8: true,
        }
    }

    #[test]
    fn the_exit_code_is_the_programs_or_says_why_there_is_none() {
        for (end, expected) in [
            (ToolEnd::Exited, 7),
            (ToolEnd::Signalled, 139),
            (ToolEnd::WallDeadline, 124),
            (ToolEnd::MemoryLimit, 137),
            (ToolEnd::Cancelled, 137),
        ] {
            assert_eq!(code(&ended(end)), expected, "{end:?}");
        }
        assert_eq!(code(&ExecAnswer { code: Some(0), ..ended(ToolEnd::Exited) }), 0);
        assert_eq!(why(&ended(ToolEnd::Exited)), None);
        let why = why(&ended(ToolEnd::MemoryLimit)).unwrap();
        assert_eq!(why, "was ended: it wanted too much memory after 1 s, 20 ms of CPU, 1 MiB");
    }

    #[test]
    fn a_variable_has_a_name() {
        assert_eq!(parse_variable("A=b=c"), Ok(("A".into(), "b=c".into())));
        assert!(parse_variable("=b").is_err() && parse_variable("A").is_err());
    }
}
