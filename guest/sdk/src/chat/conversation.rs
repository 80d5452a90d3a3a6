//! A conversation with a model: it offers the agent's tools, runs those that the model calls, and remembers.

use super::{ChatAgent, History, Limits, Tools};
use crate::model::{self, Completion, Message, Part, Request, ToolCall};
use crate::{AgentError, debug, host};

/// Answers with tool calls in one exchange, if nothing else is set.
pub const MAX_ROUNDS: u32 = 8;

/// An agent's conversation with its model.
///
/// An exchange is a question, the calls and results that it led to, and the answer. It is remembered when it is complete: if
/// it fails, the conversation is what it was before. What tools did by then stays done.
#[derive(Debug)]
pub struct Chat<A> {
    /// How much is remembered.
    pub limits: Limits,
    /// Answers with tool calls in one exchange: [`MAX_ROUNDS`], if it is not set.
    pub max_rounds: u32,
    tools: Tools<A>,
    history: History,
}

impl<A: ChatAgent> Chat<A> {
    pub(super) fn new(tools: Tools<A>, history: History) -> Self {
        Self { limits: Limits::default(), max_rounds: MAX_ROUNDS, tools, history }
    }

    /// Asks, and returns the whole answer. Tools that the model calls are run on the way, on `agent`.
    pub fn ask(&mut self, agent: &mut A, input: impl Into<Message>) -> Result<String, AgentError> {
        self.stream(agent, input, |_| {})
    }

    /// The same, and passes on the answer's text as it comes. Those who watch the agent see it in any case.
    pub fn stream(
        &mut self,
        agent: &mut A,
        input: impl Into<Message>,
        part: impl FnMut(&str),
    ) -> Result<String, AgentError> {
        self.exchange(agent, input, |request| request, part)
    }

    /// The same, of a request that `shape` completes: an endpoint, a model, a temperature.
    pub fn exchange(
        &mut self,
        agent: &mut A,
        input: impl Into<Message>,
        shape: impl Fn(Request) -> Request,
        mut part: impl FnMut(&str),
    ) -> Result<String, AgentError> {
        let question = input.into();
        self.limits.admit(&question)?;
        let system = host::instructions(&agent.system());
        let system = (!system.is_empty()).then(|| Message::system(system));
        let mut exchange = vec![question];
        for round in 0..=self.max_rounds {
            let so_far = system.iter().chain(self.history.messages()).chain(&exchange);
            let request = shape(Request::new(so_far).tools(self.tools.offered()));
            let answer = answer(&request, &mut part)?;
            let text = answer.text();
            let calls = answer.message.tool_calls.clone();
            exchange.push(answer.message);
            if calls.is_empty() {
                self.history.commit(exchange, &self.limits);
                return Ok(text);
            }
            // What they did would stay done, and nobody would hear of it.
            if round == self.max_rounds {
                break;
            }
            for call in &calls {
                exchange.push(Message::tool_result(call, self.run(agent, call)?));
            }
        }
        Err(AgentError::failed(
            "too-many-tool-rounds",
            format!("the model called tools in {} answers and would go on", self.max_rounds),
        ))
    }

    /// A failure is a result too: the model reads it and goes on. A fatal one leaves.
    fn run(&self, agent: &mut A, call: &ToolCall) -> Result<String, AgentError> {
        let _active = host::ActiveTools::set(&[&call.name]);
        self.tools.result(agent, call).or_else(|error| {
            if error.fatal {
                return Err(error);
            }
            debug!("tool failed", tool = call.name, code = error.code, problem = error.message);
            Ok(format!("error: {}", error.message))
        })
    }
}

impl<A> Chat<A> {
    /// What is remembered.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// Forgets the conversation, or puts another in its place.
    pub fn set_history(&mut self, history: History) {
        self.history = history;
    }
}

fn answer(request: &Request, part: &mut impl FnMut(&str)) -> Result<Completion, AgentError> {
    let mut answer = Completion::default();
    for each in model::stream(request)? {
        let each = each?;
        if let Part::Text(text) = &each {
            part(text);
        }
        answer.extend([each]);
    }
    Ok(answer)
}
