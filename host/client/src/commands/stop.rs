//! `bulkhead stop`: ends agents and says how they ended.

use std::io::{IsTerminal, Write};

use bulkhead_api::{AgentList, StopAnswer};
use bulkhead_types::AgentId;
use clap::Args;
use futures_util::StreamExt;
use futures_util::stream;

use super::status::is_active;
use crate::args::{HostArgs, OutputArgs, parse_agent};
use crate::failure::Failure;
use crate::http::Answer;
use crate::session::{Call, LONG, Session, agent_path};
use bulkhead_printable as text;
use bulkhead_terminal::words::counted;

/// Stops that are under way at once.
const AT_ONCE: usize = 8;

/// Arguments of `stop`.
#[derive(Debug, Args)]
#[command(after_help = STOP_HELP)]
pub struct StopArgs {
    /// Ids of the agents.
    #[arg(value_name = "AGENT", value_parser = parse_agent, required_unless_present = "all", conflicts_with = "all")]
    pub agents: Vec<AgentId>,
    /// Stop all agents that run or will be restarted. Asks for confirmation.
    #[arg(long)]
    pub all: bool,
    /// Do not ask for confirmation. --all requires it without a terminal.
    #[arg(long, short, requires = "all")]
    pub yes: bool,
    /// Output format.
    #[command(flatten)]
    pub output: OutputArgs,
    /// The host to call.
    #[command(flatten)]
    pub host: HostArgs,
}

const STOP_HELP: &str = "\
With --json prints one line per agent with `agentId`, `status`, and the host's `answer` if there was one.

Exit codes; with several agents, the highest:
  0    stopped
  1    the host is unreachable, timed out, or sent an invalid response
  2    invalid command line, or --all was not confirmed; nothing was stopped
  3    the host refused the request: no such agent, invalid token
  4    the host failed; its log has the details
  130  interrupted with Ctrl-C; the host continues";

pub(crate) async fn run(args: &StopArgs, session: &Session) -> Result<(), Failure> {
    let agents = if args.all { all(args, session).await? } else { args.agents.clone() };
    let what = match &*agents {
        [] => return session.screen.print("no agents to stop\n"),
        [one] => one.to_string(),
        many => counted(many.len(), "agent"),
    };
    let goes_on = format!("the host continues the stop of {what}");
    let _over = session.waiting.begin(format!("{what} to stop"), Some(goes_on));
    let mut answers = stream::iter(&agents)
        .map(|id| async move {
            let call = Call::post(agent_path(id, "stop"), format!("stop of {id}"), Vec::new());
            (id, session.ask(call.within(LONG)).await)
        })
        .buffered(AT_ONCE);
    let mut worst = None;
    while let Some((id, answer)) = answers.next().await {
        session.waiting.wipe();
        let Err(failure) = answer.and_then(|answer| show(id, &answer, session)) else { continue };
        if let Failure::NobodyReads = failure {
            return Err(failure);
        }
        if let Some(words) = failure.words() {
            eprintln!("bulkhead: {words}");
        }
        if let (true, Some(json)) = (session.json, failure.json()) {
            let status = match &failure {
                Failure::Refused(refusal) | Failure::Failed(refusal) => Some(refusal.status),
                _ => None,
            };
            line(id, status, &json, session)?;
        }
        // That nobody answers, code 1, is worse than any answer.
        let code = failure.code();
        worst = Some(worst.map_or(code, |worst: u8| match (worst, code) {
            (1, _) | (_, 1) => 1,
            (worst, code) => worst.max(code),
        }));
    }
    worst.map_or(Ok(()), |code| Err(Failure::Reported(code)))
}

fn show(id: &AgentId, answer: &Answer, session: &Session) -> Result<(), Failure> {
    let StopAnswer { exit_reason, .. } = session.read(answer)?;
    if session.json {
        return line(id, Some(answer.status), &session.json_of(answer)?, session);
    }
    session.screen.print(&format!("{id} stopped: {}\n", text::line(&exit_reason)))
}

/// `status` is `None` where the host did not answer.
fn line(id: &AgentId, status: Option<u16>, json: &str, session: &Session) -> Result<(), Failure> {
    let status = status.map_or_else(|| "null".to_owned(), |status| status.to_string());
    // An id has no character that JSON would escape.
    session
        .screen
        .print(&format!("{{\"agentId\":\"{id}\",\"status\":{status},\"answer\":{json}}}\n"))
}

/// All that may be stopped, when the person says yes.
async fn all(args: &StopArgs, session: &Session) -> Result<Vec<AgentId>, Failure> {
    let may_ask = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
    if !args.yes && !may_ask {
        let problem = "--all stops every agent; without a terminal it requires --yes";
        return Err(Failure::Usage(problem.to_owned()));
    }
    let answer = session.call(Call::get("/agents", "list of agents")).await?;
    let agents: AgentList = session.read(&answer)?;
    let agents = agents.into_iter().filter(|agent| is_active(&agent.status));
    let mut agents: Vec<_> = agents.map(|agent| agent.agent_id).collect();
    agents.sort();
    if !args.yes && !agents.is_empty() {
        let url = &session.target.url;
        let question = format!("stop {} of {url}? [y/N] ", counted(agents.len(), "agent"));
        if !confirmed(question).await {
            return Err(Failure::Usage("nothing was stopped".to_owned()));
        }
    }
    Ok(agents)
}

async fn confirmed(question: String) -> bool {
    // On a thread of its own, so that Ctrl-C is heard.
    let asked = tokio::task::spawn_blocking(move || {
        let mut stderr = std::io::stderr();
        let _ = write!(stderr, "{question}").and_then(|()| stderr.flush());
        let mut answer = String::new();
        let read = std::io::stdin().read_line(&mut answer);
        read.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes")
    });
    asked.await.unwrap_or(false)
}
