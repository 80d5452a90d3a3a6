//! Does what its messages say, so that a test can bring about any order of events. It misbehaves in no
//! way of its own.
//!
//! | body | what it does | exit reason |
//! | --- | --- | --- |
//! | `panic` | panics | `panic` |
//! | `done` | says that its work is over | `completed` |
//! | `attempt` | replies with the attempt of this message | none |
//! | `panic-until <n> <body>` | panics, unless this is attempt n or later; then does what `<body>` says | `panic` |
//! | `note <body>` | appends a line `<message id> <attempt>` to `/workspace/notes` and does what `<body>` says | |
//! | `turns <n> <body>` | takes n more turns with `continue` and then does what `<body>` says | |
//! | `count` | replies with the number of messages of this incarnation | none |
//! | `wait <body>` | waits until there is a file `/workspace/go`, takes it away and does what `<body>` says | |
//! | `heed <ms>` | waits until this call may take less than that, and replies with what it may take | none |
//! | `gather <n>` | takes n nudges and replies with a line `<source> <id> <body>` for each | none |
//! | `forever <body>` | sends itself the same message once more and does what `<body>` says | |
//! | `say <n>` | writes n log lines and replies with n | none |
//! | `config <key>` | replies with the setting of that key, or `none` | none |
//! | `refuse <n>` | returns an error from its next n calls of `snapshot`, which are empty otherwise | none |
//!
//! Any other body is answered with itself. When the prompt is `panic` or `error`, `start` panics or
//! returns an error.

use std::fs::OpenOptions;
use std::io::Write;
use std::time::Duration;

use bulkhead_guest::{
    Agent, AgentError, Message, Outcome, Sender, StartRequest, config, host, info,
};

/// Its presence lets a turn go on that waits.
const GO: &str = "/workspace/go";

/// What was delivered, in order.
const NOTES: &str = "/workspace/notes";

/// Between two checks at what it waits for.
const NAP: Duration = Duration::from_millis(2);

#[derive(Default)]
struct Puppet {
    id: String,
    messages: u64,
    /// What comes after so many more turns.
    ahead: Option<(u64, String)>,
    /// Calls of `snapshot` that are still to be refused.
    refusals: u64,
}

impl Agent for Puppet {
    fn start(&mut self, request: StartRequest) -> Result<(), AgentError> {
        self.id = request.agent_id;
        match request.prompt.as_str() {
            "panic" => panic!("told to panic in its start"),
            "error" => Err(AgentError::fatal("told-to-fail", "told to fail in its start")),
            _ => Ok(()),
        }
    }

    fn handle(&mut self, message: Message) -> Result<Outcome, AgentError> {
        if matches!(message.sender, Sender::Continuation) {
            return self.go_on(&message);
        }
        self.messages += 1;
        self.obey(&message, &message.body)
    }

    fn snapshot(&mut self) -> Result<Vec<u8>, AgentError> {
        match self.refusals.checked_sub(1) {
            Some(left) => {
                self.refusals = left;
                Err(AgentError::failed("not-now", "told to give no snapshot"))
            }
            None => Ok(Vec::new()),
        }
    }
}

impl Puppet {
    fn go_on(&mut self, message: &Message) -> Result<Outcome, AgentError> {
        match self.ahead.take() {
            Some((turns @ 1.., body)) => {
                self.ahead = Some((turns - 1, body));
                Ok(Outcome::proceed())
            }
            Some((0, body)) => self.obey(message, &body),
            None => Err(AgentError::fatal("no-turn", "a continuation came without its message")),
        }
    }

    fn obey(&mut self, message: &Message, body: &str) -> Result<Outcome, AgentError> {
        let (verb, rest) = body.split_once(' ').unwrap_or((body, ""));
        let reply = match verb {
            "panic" => panic!("told to panic"),
            "done" => return Ok(Outcome::done("done")),
            "count" => self.messages.to_string(),
            "wait" => {
                nap_until(|| std::fs::remove_file(GO).is_ok());
                return self.obey(message, rest);
            }
            "attempt" => message.attempt.to_string(),
            "panic-until" => {
                let (attempt, rest) = rest.split_once(' ').unwrap_or((rest, ""));
                let wanted = number(attempt)?;
                assert!(
                    u64::from(message.attempt) >= wanted,
                    "told to panic until attempt {wanted}"
                );
                return self.obey(message, rest);
            }
            "note" => {
                note(message)?;
                return self.obey(message, rest);
            }
            "turns" => {
                let (turns, rest) = rest.split_once(' ').unwrap_or((rest, ""));
                self.ahead = Some((number(turns)?.saturating_sub(1), rest.to_owned()));
                return Ok(Outcome::proceed());
            }
            "forever" => {
                host::send(&self.id, body)
                    .map_err(|error| AgentError::failed("not-sent", host::explain(&error)))?;
                return self.obey(message, rest);
            }
            "send" => {
                let (to, bytes) = rest.split_once(' ').unwrap_or((rest, ""));
                let sent = host::send(to, &"x".repeat(number(bytes)? as usize));
                sent.map_or_else(|error| host::explain(&error), |_| "sent".to_owned())
            }
            "heed" => heed(Duration::from_millis(number(rest)?)).as_millis().to_string(),
            "gather" => gather(number(rest)?),
            "say" => say(number(rest)?),
            "refuse" => {
                self.refusals = number(rest)?;
                rest.to_owned()
            }
            "config" => config::text(rest).unwrap_or_else(|| "none".to_owned()),
            _ => body.to_owned(),
        };
        Ok(Outcome::reply(reply))
    }
}

fn number(text: &str) -> Result<u64, AgentError> {
    text.parse().map_err(|_| AgentError::failed("bad-body", "what follows is not a number"))
}

/// One write, so that a line is there whole or not at all.
fn note(message: &Message) -> Result<(), AgentError> {
    let line = format!("{} {}\n", message.id, message.attempt);
    let notes = OpenOptions::new().create(true).append(true).open(NOTES);
    notes
        .and_then(|mut notes| notes.write_all(line.as_bytes()))
        .map_err(|error| AgentError::fatal("no-notes", format!("could not take a note: {error}")))
}

fn nap_until(mut holds: impl FnMut() -> bool) {
    while !holds() {
        std::thread::sleep(NAP);
    }
}

fn heed(time: Duration) -> Duration {
    nap_until(|| host::deadline() < time);
    host::deadline()
}

fn gather(count: u64) -> String {
    let mut lines = Vec::new();
    nap_until(|| {
        let nudges = host::nudges().into_iter();
        lines.extend(nudges.map(|nudge| format!("{} {} {}", nudge.source, nudge.id, nudge.body)));
        lines.len() as u64 >= count
    });
    lines.join("\n")
}

fn say(count: u64) -> String {
    for line in 0..count {
        info!("said because it was told to", line = line);
    }
    count.to_string()
}

bulkhead_guest::export!(Puppet);
