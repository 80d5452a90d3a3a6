//! Fails in each way that its message names. `tests/runners/agent.js` and `agent.py` are the same agent.
//!
//! | body | what it does | exit reason |
//! | --- | --- | --- |
//! | `type`, `range` | panics: `None` is unwrapped; with a message | `panic` |
//! | `cause` | returns an error with a cause | `exception` |
//! | `own`, `fatal` | returns an error of its own choice | none, `guest_error` |
//! | `callback` | panics in a tool that the model calls | `panic` |
//! | `exit` | leaves the process | `guest_exit` |
//! | `recursion`, `memory`, `loop` | takes too much | `stack_exhausted`, `memory_limit`, `cpu_deadline` |
//!
//! `ask <text>` asks the model. Any other body is answered as the first lines of `message` say.

use std::hint::black_box;
use std::num::ParseIntError;
use std::{error, fmt, process};

use bulkhead_guest::chat::{ChatAgent, Context, Tools};
use bulkhead_guest::{AgentError, Message, Outcome, host};
use serde::{Deserialize, Serialize};
use serde_json::json;

#[derive(Default, Serialize, Deserialize)]
struct Broken {
    count: u64,
}

#[derive(Deserialize)]
struct Status {
    text: String,
}

impl ChatAgent for Broken {
    fn tools() -> Tools<Self> {
        Tools::new().with("status", "Say how it goes", json!({ "text": "string" }), Self::status)
    }

    fn start(&mut self, context: &mut Context<Self>) -> Result<(), AgentError> {
        thrower(&context.me.prompt)
    }

    fn message(
        &mut self,
        message: Message,
        context: &mut Context<Self>,
    ) -> Result<Outcome, AgentError> {
        self.count += 1;
        let text = message.body.as_str();
        if let Some(question) = text.strip_prefix("ask ") {
            return Ok(Outcome::reply(context.chat.ask(self, question)?));
        }
        Ok(Outcome::reply(match text {
            "count" => self.count.to_string(),
            "twice" => "x".repeat(2),
            "random" => wasip2::random::random::get_random_u64().to_string(),
            "emit" => {
                host::emit("runner.tested", &json!({ "text": text }))?;
                "emitted".to_owned()
            }
            // Nothing runs behind the reply of a component that is no interpreter.
            "background" => {
                host::emit("runner.done", &json!({}))?;
                "soon".to_owned()
            }
            "callback" => context.chat.ask(self, "status badly")?,
            "exit" => leave(),
            "recursion" => recurse(black_box(1)).to_string(),
            "memory" => take_all().to_string(),
            "loop" => spin(),
            "refused" => host::emit("agent.mine", &json!({})).map(|()| String::new())?,
            "caught" => host::send("nobody-there", "hi")
                .unwrap_or_else(|error| AgentError::from(error).code),
            text => thrower(text).map(|()| "fine".to_owned())?,
        }))
    }
}

impl Broken {
    /// What the model calls.
    fn status(&mut self, status: Status) -> Result<String, AgentError> {
        if status.text == "badly" {
            thrower("type")?;
        }
        Ok(format!("noted {}", status.text))
    }
}

#[derive(Debug)]
struct OnTop(ParseIntError);

impl fmt::Display for OnTop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "on top")
    }
}

impl error::Error for OnTop {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        Some(&self.0)
    }
}

#[inline(never)]
fn thrower(what: &str) -> Result<(), AgentError> {
    match what {
        #[expect(clippy::unwrap_used, reason = "the fault that is asked for")]
        "type" => black_box(None::<()>).unwrap(),
        "range" => panic!("too far"),
        "cause" => {
            let number = "x".parse::<u32>().map(|_| ());
            return number.map_err(|error| AgentError::exception("on-top", &OnTop(error)));
        }
        "own" => return Err(AgentError::failed("bad-prompt", "not like that")),
        "fatal" => return Err(AgentError::fatal("gave-up", "no more")),
        _ => {}
    }
    Ok(())
}

#[inline(never)]
fn recurse(depth: u64) -> u64 {
    match black_box(depth) {
        0 => 0,
        depth => recurse(depth + 1) + 1,
    }
}

#[expect(clippy::disallowed_methods, reason = "the fault that is asked for")]
fn leave() -> ! {
    process::exit(3);
}

fn take_all() -> usize {
    let mut all = Vec::new();
    loop {
        all.push(vec![all.len(); 10_000]);
        black_box(&all);
    }
}

fn spin() -> ! {
    loop {
        black_box(());
    }
}

bulkhead_guest::export_chat!(Broken);
