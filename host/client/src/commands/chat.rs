//! `bulkhead chat AGENT`: a conversation, with each answer as it comes.

use std::cell::RefCell;
use std::convert::Infallible;
use std::io::IsTerminal;

use bulkhead_api::{DeltaView, GapFrame, StreamFrame, TurnView};
use bulkhead_types::AgentId;
use bulkhead_types::message::MAX_BODY_BYTES;
use clap::Args;
use futures_util::FutureExt;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::spawn_blocking;

use super::send::said;
use crate::args::{HostArgs, parse_agent};
use crate::failure::{Failure, Refusal};
use crate::prompt::{Prompt, Terminal, read_line, unreadable};
use crate::screen::Screen;
use crate::session::{Call, Session, agent_path};
use crate::table::truncated;
use bulkhead_printable as text;
use bulkhead_printable::Pieces;
use bulkhead_terminal::Colour;

/// Text of a turn that is compared with its reply.
const MAX_TEXT_BYTES: usize = 4 * MAX_BODY_BYTES;

/// Arguments of `chat`.
#[derive(Debug, Args)]
#[command(after_help = CHAT_HELP)]
pub struct ChatArgs {
    /// Id of the agent.
    #[arg(value_name = "AGENT", value_parser = parse_agent)]
    pub agent: AgentId,
    /// Also show the reasoning of the model.
    #[arg(long)]
    pub reasoning: bool,
    /// The host to call.
    #[command(flatten)]
    pub host: HostArgs,
}

const CHAT_HELP: &str = "\
Sends each line as a message and prints the text of the turn as it comes; lines that begin with · are tools. On a
terminal Ctrl-C during a turn stops waiting for it; Ctrl-C or Ctrl-D at the prompt ends. There a message that is
refused, a turn that fails, a host that does not answer any more, and a text that is not UTF-8 are reported, and the
conversation goes on. What is typed during a turn waits for the next prompt, unless Ctrl-C ends the wait. Without a
terminal each line of stdin, at most 1 MiB, is a message, and the first that fails ends the command.

Exit codes:
  0    the conversation ended; on a terminal whatever came of its messages
  1    the host is unreachable, timed out, or sent an invalid response; on a terminal only at the beginning
  2    invalid command line; without a terminal also: a line is too long, or is not UTF-8
  3    the host refused: no such agent, invalid token; without a terminal also: not running, mailbox full
  4    without a terminal: a turn failed, or the agent ended first
  130  interrupted with Ctrl-C at the beginning; without a terminal at any time, and the turn continues
  129, 143  ended by SIGHUP or SIGTERM; the turn continues";

pub(crate) async fn run(args: &ChatArgs, session: &Session) -> Result<(), Failure> {
    let id = &args.agent;
    // An id that nobody knows should not be found out after a message was written.
    session.call(Call::get(agent_path(id, "status"), format!("status of {id}"))).await?;
    let cannot = |error: std::io::Error| Failure::NoAnswer(format!("cannot run: {error}"));
    let mut signals = Signals::new(session).map_err(cannot)?;
    let mut lines = Lines::open(id, session.screen)?;
    while let Some(line) = lines.next(&mut signals).await? {
        if line.trim().is_empty() {
            continue;
        }
        session.waiting.sent.set(false);
        let page = RefCell::new(TurnPage::new(session.screen, args.reasoning));
        let ended = tokio::select! {
            ended = turn(id, line, session, &page) => ended,
            never = lines.stay() => match never {},
            heard = signals.next() => {
                let words = match session.waiting.sent.get() {
                    true => format!("stopped waiting; the turn of {id} continues"),
                    false => "stopped waiting; the message was not sent".to_owned(),
                };
                match heard {
                    Heard::End(failure) => return Err(failure),
                    Heard::Interrupt if lines.is_typed() => {
                        lines.forget()?;
                        Err(Failure::NoAnswer(words))
                    }
                    Heard::Interrupt => Err(Failure::Interrupted(words)),
                }
            }
        };
        session.waiting.wipe();
        match ended {
            Err(failure) if lines.is_typed() && !matches!(failure, Failure::NobodyReads) => {
                if let Some(words) = failure.words() {
                    eprintln!("\nbulkhead: {words}");
                }
            }
            ended => ended?,
        }
    }
    Ok(())
}

/// The signals of a conversation. From the first on none of them ends the process by itself.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

enum Heard {
    Interrupt,
    /// SIGTERM or SIGHUP.
    End(Failure),
}

impl Signals {
    fn new(session: &Session) -> std::io::Result<Self> {
        let interrupt = signal(SignalKind::interrupt())?;
        let terminate = signal(SignalKind::terminate())?;
        let hangup = signal(SignalKind::hangup())?;
        session.waiting.takes_interrupts.set(true);
        Ok(Self { interrupt, terminate, hangup })
    }

    async fn next(&mut self) -> Heard {
        tokio::select! {
            _ = self.interrupt.recv() => Heard::Interrupt,
            _ = self.terminate.recv() => Heard::End(Failure::signaled(15)),
            _ = self.hangup.recv() => Heard::End(Failure::signaled(1)),
        }
    }

    /// What ends it at the prompt. Where that is edited, Ctrl-C is a key.
    async fn end(&mut self, is_edited: bool) -> Result<(), Failure> {
        loop {
            match self.next().await {
                Heard::Interrupt if is_edited => {}
                Heard::Interrupt => return Ok(()),
                Heard::End(failure) => return Err(failure),
            }
        }
    }

    /// Those that came before a message was written are not about its turn.
    fn forget_interrupts(&mut self) {
        while self.interrupt.recv().now_or_never().is_some() {}
    }
}

/// Sends a message and shows its turn on a page, where others may interrupt it.
pub(crate) async fn turn(
    id: &AgentId,
    line: String,
    session: &Session,
    page: &RefCell<TurnPage>,
) -> Result<(), Failure> {
    let body = serde_json::json!({ "prompt": line }).to_string().into_bytes();
    let asked = format!("turn of {id}");
    let mut wait = Some(session.waiting.begin(format!("the {asked}"), None));
    let call = Call::post(agent_path(id, "message"), asked.clone(), body);
    let mut stream = session.open(call, None).await?;
    while let Some(frame) = stream.next().await? {
        wait.take();
        let shown = match frame {
            StreamFrame::Delta(frame) => {
                frame.deltas.iter().map(|delta| page.borrow_mut().delta(delta)).collect()
            }
            StreamFrame::Gap(GapFrame::Deltas) => page.borrow_mut().gap(),
            StreamFrame::Turn(answer) => {
                return session.screen.print(&page.borrow_mut().end(answer.turn.as_ref()));
            }
            StreamFrame::Error(body) => {
                session.screen.print(&page.borrow_mut().break_line())?;
                let json = serde_json::to_string(&body).unwrap_or_default();
                let json = text::json(&json).into_owned();
                let (status, retry_after) = (body.status.unwrap_or(502), None);
                let refusal = Refusal { asked, status, body: *body, json, retry_after };
                return Err(Failure::Failed(Box::new(refusal)));
            }
            StreamFrame::Event(_) | StreamFrame::Gap(GapFrame::Events { .. }) => continue,
        };
        session.screen.print(&shown)?;
    }
    let url = &session.target.url;
    Err(Failure::NoAnswer(format!("{url} went away before the {asked} ended")))
}

/// A turn as it is written.
pub(crate) struct TurnPage {
    screen: Screen,
    with_reasoning: bool,
    pieces: Pieces,
    reasoning: Pieces,
    /// Something stands on the line.
    is_mid_line: bool,
    is_reasoning: bool,
    /// All text of it; `None` when some is missing.
    text: Option<String>,
}

impl TurnPage {
    pub(crate) fn new(screen: Screen, with_reasoning: bool) -> Self {
        Self {
            screen,
            with_reasoning,
            pieces: Pieces::default(),
            reasoning: Pieces::default(),
            is_mid_line: false,
            is_reasoning: false,
            text: Some(String::new()),
        }
    }

    /// What the next piece shows.
    fn delta(&mut self, delta: &DeltaView) -> String {
        match delta {
            DeltaView::Text { text } => {
                let mut shown = self.turn_to(false);
                let piece = self.pieces.push(text);
                self.is_mid_line =
                    if piece.is_empty() { self.is_mid_line } else { !piece.ends_with('\n') };
                shown.push_str(&piece);
                let fits = |all: &String| all.len() + text.len() <= MAX_TEXT_BYTES;
                self.text = self.text.take().filter(fits).map(|all| all + text);
                shown
            }
            DeltaView::Reasoning { text } if self.with_reasoning => {
                let mut shown = self.turn_to(true);
                let piece = self.reasoning.push(text);
                if !piece.is_empty() {
                    self.is_mid_line = !piece.ends_with('\n');
                    shown += &self.screen.paint(&piece, Colour::Grey);
                }
                shown
            }
            DeltaView::ToolBegin { name, arguments, .. } => {
                let (name, arguments) = (text::line(name), text::line(arguments));
                self.remark(&format!("{name} {arguments}"))
            }
            DeltaView::Reasoning { .. } | DeltaView::ToolEnd { .. } => String::new(),
        }
    }

    /// Some of it is missing.
    fn gap(&mut self) -> String {
        self.text = None;
        self.remark("some of the turn is not shown: it came faster than it was read")
    }

    /// The end of it, with the reply where it was not shown.
    fn end(&mut self, turn: Option<&TurnView>) -> String {
        let mut shown = self.break_line();
        let Some(TurnView { outcome, reply, reply_cut, .. }) = turn else { return shown };
        let reply = reply.as_deref().map(str::trim_end).unwrap_or_default();
        let is_shown = self.text.as_ref().is_some_and(|all| all.trim_end().ends_with(reply));
        if !is_shown {
            shown += &text::lines(reply);
            shown.push('\n');
        }
        if *reply_cut {
            shown += &self.remark("the reply is not whole: the host keeps the first 1 MiB");
        }
        if outcome != "idle" {
            shown += &self.remark(&said(&text::line(outcome)));
        }
        shown
    }

    /// A line of its own that the agent did not say.
    fn remark(&mut self, what: &str) -> String {
        let line = format!("· {what}");
        let line = match self.screen.width() {
            Some(columns) => truncated(&line, columns.saturating_sub(1)),
            None => line,
        };
        self.break_line() + &self.screen.paint(&line, Colour::Grey) + "\n"
    }

    fn turn_to(&mut self, is_reasoning: bool) -> String {
        if self.is_reasoning == is_reasoning {
            return String::new();
        }
        let shown = self.break_line();
        self.is_reasoning = is_reasoning;
        shown
    }

    /// Ends a line that something stands on.
    pub(crate) fn break_line(&mut self) -> String {
        let mut shown = self.reasoning.end();
        if !shown.is_empty() {
            shown = self.screen.paint(&shown, Colour::Grey);
        }
        let left = self.pieces.end();
        let is_mid_line = self.is_mid_line || !shown.is_empty() || !left.is_empty();
        self.is_mid_line = false;
        shown + &left + if is_mid_line { "\n" } else { "" }
    }
}

/// Where messages come from.
enum Lines {
    /// A person writes them. `prompt` is `None` while one is being written.
    Typed { prompt: Option<Box<Prompt>>, words: String, terminal: Box<Terminal> },
    /// A program, or a file.
    Piped,
}

impl Lines {
    fn open(id: &AgentId, screen: Screen) -> Result<Self, Failure> {
        if !std::io::stdin().is_terminal() || !screen.is_terminal {
            return Ok(Self::Piped);
        }
        let (prompt, terminal) = (Box::new(Prompt::new()?), Box::new(Terminal::enter()?));
        Ok(Self::Typed { prompt: Some(prompt), words: format!("{id}> "), terminal })
    }

    fn is_typed(&self) -> bool {
        matches!(self, Self::Typed { .. })
    }

    /// The next message. `None`: there are no more.
    async fn next(&mut self, signals: &mut Signals) -> Result<Option<String>, Failure> {
        let Self::Typed { prompt, words, terminal } = self else {
            return tokio::select! {
                line = spawn_blocking(read_line) => line.map_err(unreadable)?,
                heard = signals.next() => Err(match heard {
                    Heard::Interrupt => Failure::Interrupted("interrupted".to_owned()),
                    Heard::End(failure) => failure,
                }),
            };
        };
        let Some(mut writer) = prompt.take() else { return Ok(None) };
        let words = words.clone();
        terminal.begin_line();
        let written = spawn_blocking(move || {
            let line = writer.read(&words);
            (writer, line)
        });
        let (writer, line) = tokio::select! {
            written = written => written.map_err(unreadable)?,
            ended = signals.end(terminal.is_edited()) => return ended.map(|()| None),
            never = terminal.stay() => match never {},
        };
        terminal.end_line();
        *prompt = Some(writer);
        signals.forget_interrupts();
        line
    }

    /// Has the terminal stay as it is.
    async fn stay(&mut self) -> Infallible {
        match self {
            Self::Typed { terminal, .. } => terminal.stay().await,
            Self::Piped => std::future::pending().await,
        }
    }

    /// Throws away what was typed ahead.
    fn forget(&mut self) -> Result<(), Failure> {
        match self {
            Self::Typed { prompt: Some(prompt), .. } => prompt.forget(),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Screen = Screen { is_terminal: false, colours: false };

    fn text(text: &str) -> DeltaView {
        DeltaView::Text { text: text.to_owned() }
    }

    fn turn(outcome: &str, reply: Option<String>) -> TurnView {
        TurnView { outcome: outcome.to_owned(), reply, reply_cut: false, durable: None }
    }

    fn page(deltas: &[DeltaView], outcome: &str, reply: Option<&str>) -> String {
        let mut page = TurnPage::new(PLAIN, true);
        let shown: String = deltas.iter().map(|delta| page.delta(delta)).collect();
        let reply = reply.map(str::to_owned);
        shown + &page.end(Some(&turn(outcome, reply)))
    }

    #[test]
    fn text_is_shown_as_it_comes_and_once() {
        assert_eq!(page(&[text("hel"), text("lo")], "idle", Some("hello\n")), "hello\n");
        assert_eq!(page(&[text("hello\n")], "idle", None), "hello\n");
        assert_eq!(
            page(&[text("thinking about it")], "idle", Some("42")),
            "thinking about it\n42\n"
        );
        assert_eq!(page(&[], "continue", Some("42")), "42\n· working on by itself\n");
    }

    #[test]
    fn a_reply_that_was_cut_says_so() {
        let cut = TurnView { reply_cut: true, ..turn("idle", Some("hel".to_owned())) };
        let shown = TurnPage::new(PLAIN, false).end(Some(&cut));
        assert_eq!(shown, "hel\n· the reply is not whole: the host keeps the first 1 MiB\n");
    }

    #[test]
    fn tools_have_lines_of_their_own() {
        let tool = DeltaView::ToolBegin {
            id: "1".to_owned(),
            name: "read_file".to_owned(),
            arguments: "{\n\"path\":\"\x1b\"}".to_owned(),
        };
        let deltas = [text("I look"), tool, DeltaView::ToolEnd { id: "1".to_owned() }, text("ok")];
        let expected = "I look\n· read_file {\\n\"path\":\"\\u{1b}\"}\nok\n";
        assert_eq!(page(&deltas, "idle", Some("ok")), expected);
    }

    #[test]
    fn reasoning_and_text_do_not_share_a_line() {
        let reasoning = DeltaView::Reasoning { text: "hm".to_owned() };
        assert_eq!(page(&[reasoning, text("yes")], "idle", Some("yes")), "hm\nyes\n");
    }

    #[test]
    fn a_sequence_that_is_split_over_deltas_is_as_harmless_as_a_whole_one() {
        let split = [text("a\x1b"), text("[2J"), text("\u{9b}"), text("31m\u{202e}")];
        assert_eq!(page(&split, "idle", None), "a\\u{1b}[2J\\u{9b}31m\\u{202e}\n");
        // A joiner is one of the few characters of which the next one decides.
        let joiner = [text("ad\u{200d}"), text("min")];
        assert_eq!(page(&joiner, "idle", None), "ad\\u{200d}min\n");
    }

    #[test]
    fn a_reply_is_shown_when_some_text_was_missed() {
        let mut page = TurnPage::new(PLAIN, false);
        let shown = page.delta(&text("hel")) + &page.gap();
        let shown = shown + &page.end(Some(&turn("idle", Some("hello".to_owned()))));
        assert_eq!(
            shown,
            "hel\n· some of the turn is not shown: it came faster than it was read\nhello\n"
        );
    }
}
