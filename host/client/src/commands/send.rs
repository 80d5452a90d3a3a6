//! `bulkhead send`: puts a message into an agent's mailbox, and says how its turn ended.

use std::time::Duration;

use bulkhead_api::{MessageAnswer, TurnView};
use bulkhead_types::message::MAX_BODY_BYTES;
use bulkhead_types::time::millis;
use bulkhead_types::{AgentId, Durable};
use clap::Args;

use super::input::text_or_stdin;
use crate::args::{HostArgs, OutputArgs, parse_agent};
use crate::failure::Failure;
use crate::session::{Call, QUICK, Session, agent_path};
use bulkhead_printable as text;
use bulkhead_terminal::words::{bytes, duration, parse_duration};

/// The longest wait that the host takes.
const MAX_WAIT: Duration = Duration::from_secs(600);

/// Arguments of `send`.
#[derive(Debug, Args)]
#[command(after_help = SEND_HELP)]
pub struct SendArgs {
    /// Id of the agent.
    #[arg(value_name = "AGENT", value_parser = parse_agent)]
    pub agent: AgentId,
    /// The text; - reads stdin.
    #[arg(value_name = "TEXT")]
    pub text: String,
    /// Wait up to this long for the end of the turn, at most 10m, and print the reply. Without it the
    /// command returns when the message is in the mailbox.
    #[arg(long, value_name = "TIME", value_parser = parse_wait)]
    pub wait: Option<Duration>,
    /// Output format.
    #[command(flatten)]
    pub output: OutputArgs,
    /// The host to call.
    #[command(flatten)]
    pub host: HostArgs,
}

const SEND_HELP: &str = "\
Exit codes:
  0    the message is in the mailbox; with --wait: its turn is over
  1    the host is unreachable, timed out, or sent an invalid response
  2    invalid command line; no request was sent
  3    the host refused the request: no such agent, not running, mailbox full, invalid token
  4    --wait: the turn failed, or the agent ended first
  5    --wait: timed out; the turn continues
  130  interrupted with Ctrl-C; the message stays in the mailbox, and its turn continues";

fn parse_wait(text: &str) -> Result<Duration, String> {
    let wait = parse_duration(text)?;
    if wait > MAX_WAIT { Err("the maximum is 10m".to_owned()) } else { Ok(wait) }
}

impl SendArgs {
    pub(crate) fn prepare(&mut self) -> Result<(), String> {
        self.text = text_or_stdin(&self.text, "the message", MAX_BODY_BYTES)?;
        Ok(())
    }
}

pub(crate) async fn run(args: &SendArgs, session: &Session) -> Result<(), Failure> {
    let id = &args.agent;
    let body = serde_json::json!({ "prompt": args.text }).to_string().into_bytes();
    let query = args.wait.map_or_else(String::new, |wait| format!("?wait={}", millis(wait)));
    let path = agent_path(id, "message") + &query;
    let patience = args.wait.map_or(QUICK, |wait| wait + QUICK);
    let asked = match args.wait {
        Some(_) => format!("turn of {id}"),
        None => format!("message to {id}"),
    };
    let goes_on = format!("the message stays in the mailbox of {id}, and its turn continues");
    let answer = {
        let _over = session.waiting.begin(format!("the {asked}"), Some(goes_on));
        let answer = session.ask(Call::post(path, asked.clone(), body).within(patience)).await;
        answer.map_err(|failure| unanswered(failure, session.waiting.sent.get(), id))?
    };
    let sent: MessageAnswer = session.read(&answer)?;
    if session.json {
        session.print_json::<MessageAnswer>(&answer)?;
    }
    let message_id = text::line(&sent.message_id);
    let Some(turn) = sent.turn else {
        if session.json {
            return Ok(());
        }
        return session.screen.print(&format!("sent to {id} as message {message_id}\n"));
    };
    if let Some(warning) = not_shipped(&turn, id) {
        eprintln!("bulkhead: {warning}");
    }
    if turn.reply_cut {
        eprintln!("bulkhead: {}", cut(id));
    }
    if answer.status == 202 {
        let waited = duration(args.wait.unwrap_or_default());
        eprintln!(
            "bulkhead: the turn of {id} has not ended after {waited}; it continues, message {message_id}"
        );
        return Err(Failure::Unfinished);
    }
    if session.json {
        return Ok(());
    }
    let outcome = text::line(&turn.outcome);
    let reply = turn.reply.as_deref().map_or_else(String::new, |reply| {
        let reply = text::lines(reply);
        if reply.ends_with('\n') { reply.into_owned() } else { format!("{reply}\n") }
    });
    session
        .screen
        .print(&format!("{id} took message {message_id} and is {}\n{reply}", said(&outcome)))
}

/// What is said of a reply that is not all that the agent said.
fn cut(id: &AgentId) -> String {
    let most = bytes(MAX_BODY_BYTES as u64);
    format!("the reply of {id} is not whole: the host keeps the first {most}")
}

/// A request without an answer may have been taken, also by a host that died since.
fn unanswered(failure: Failure, is_sent: bool, id: &AgentId) -> Failure {
    match failure {
        Failure::NoAnswer(words) if is_sent => Failure::NoAnswer(format!(
            "{words}; the message may be in the mailbox of {id}: then its turn goes on, and begins again where the host died"
        )),
        failure => failure,
    }
}

/// What a role with `durable = "fleet"` wants to hear of a turn that was not shipped in time.
fn not_shipped(turn: &TurnView, id: &AgentId) -> Option<String> {
    (turn.durable == Some(Durable::Node)).then(|| {
        format!(
            "the turn of {id} is stored on the host's machine and was not shipped in time: it does not survive the loss of \
             that machine yet (durable: node)"
        )
    })
}

/// The outcome of a turn as the end of a sentence.
pub(super) fn said(outcome: &str) -> String {
    match outcome {
        "idle" => "idle again".to_owned(),
        "continue" => "working on by itself".to_owned(),
        "done" => "done for good".to_owned(),
        other => other.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_whose_answer_did_not_come_may_be_there_if_it_was_sent() {
        let id = AgentId::parse("mayor").unwrap();
        let said = |failure, is_sent| unanswered(failure, is_sent, &id).words().unwrap();
        let lost = || Failure::NoAnswer("connection closed".to_owned());
        assert_eq!(said(lost(), false), "connection closed");
        assert!(said(lost(), true).starts_with("connection closed; the message may be in"));
        assert_eq!(said(Failure::Usage("no".to_owned()), true), "no");
    }

    #[test]
    fn a_turn_that_was_not_shipped_is_said_and_nothing_else() {
        let id = AgentId::parse("mayor").unwrap();
        let turn =
            |durable| TurnView { outcome: "idle".into(), reply: None, reply_cut: false, durable };
        let said = not_shipped(&turn(Some(Durable::Node)), &id).unwrap();
        assert!(said.contains("mayor") && said.contains("was not shipped"), "{said}");
        assert_eq!(not_shipped(&turn(Some(Durable::Fleet)), &id), None);
        assert_eq!(not_shipped(&turn(None), &id), None);
    }
}
