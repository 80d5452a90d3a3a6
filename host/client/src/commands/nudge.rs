//! `bulkhead nudge`: leaves a message that comes when no other does.

use bulkhead_api::nudge::MAX_NUDGE_BYTES;
use bulkhead_api::{Issue, NudgeAnswer, NudgeRequest};
use bulkhead_types::AgentId;
use clap::Args;

use super::input::text_or_stdin;
use crate::args::{HostArgs, OutputArgs, parse_agent};
use crate::failure::Failure;
use crate::session::{Call, Session, agent_path};
use bulkhead_printable as text;

/// Arguments of `nudge`.
#[derive(Debug, Args)]
#[command(after_help = NUDGE_HELP)]
pub struct NudgeArgs {
    /// Id of the agent.
    #[arg(value_name = "AGENT", value_parser = parse_agent)]
    pub agent: AgentId,
    /// The text, at most 16 KiB; - reads stdin.
    #[arg(value_name = "TEXT")]
    pub text: String,
    /// Name of the sender [default: operator].
    #[arg(long, value_name = "NAME")]
    pub source: Option<String>,
    /// Output format.
    #[command(flatten)]
    pub output: OutputArgs,
    /// The host to call.
    #[command(flatten)]
    pub host: HostArgs,
    /// The request, once it is put together.
    #[arg(skip)]
    pub(crate) request: Vec<u8>,
}

const NUDGE_HELP: &str = "\
Exit codes:
  0    the host accepted the nudge
  1    the host is unreachable, timed out, or sent an invalid response
  2    invalid command line; no request was sent
  3    the host refused the request: no such agent, not running, too many nudges, invalid token
  4    the host failed; its log has the details
  130  interrupted with Ctrl-C";

impl NudgeArgs {
    pub(crate) fn prepare(&mut self) -> Result<(), String> {
        let message = text_or_stdin(&self.text, "the nudge", MAX_NUDGE_BYTES)?;
        let request = serde_json::json!({ "message": message, "source": self.source });
        self.request = request.to_string().into_bytes();
        let problem = |issues: Vec<Issue>| {
            let issue = |Issue { path, message }: &Issue| format!("{path}: {message}");
            issues.iter().map(issue).collect::<Vec<_>>().join("; ")
        };
        NudgeRequest::parse(&self.request).map(|_| ()).map_err(problem)
    }
}

pub(crate) async fn run(args: &NudgeArgs, session: &Session) -> Result<(), Failure> {
    let id = &args.agent;
    let asked = format!("nudge to {id}");
    let call = Call::post(agent_path(id, "nudge"), asked, args.request.clone());
    let answer = session.call(call).await?;
    if session.json {
        return session.print_json::<NudgeAnswer>(&answer);
    }
    let NudgeAnswer { nudge_id, .. } = session.read(&answer)?;
    session.screen.print(&format!("left for {id} as nudge {}\n", text::line(&nudge_id)))
}
