//! What one incarnation uses: in all, for its message, in its turn.

use bulkhead_types::ModelCounts;

use crate::breaker::{Breaker, LoopRules, Stuck};

/// One incarnation's book.
#[derive(Debug, Default)]
pub struct Book {
    counts: ModelCounts,
    pub(crate) message: Message,
    /// Calls that this turn began.
    pub(crate) calls: u64,
    /// A call was refused in this turn, because there were too many.
    pub(crate) calls_refused: bool,
    breaker: Breaker,
}

/// The message that the agent is at, or was at last.
#[derive(Debug, Default)]
pub(crate) struct Message {
    pub tokens: u64,
    /// Its use was reported, for the role and for the container.
    pub near: [bool; 2],
    pub refused: bool,
}

impl Book {
    /// An empty one.
    pub fn new(rules: LoopRules) -> Self {
        Self { breaker: Breaker::new(rules), ..Self::default() }
    }

    /// What the incarnation used so far.
    pub fn counts(&self) -> ModelCounts {
        self.counts
    }

    /// Another message comes, or one again that an incarnation before this one did not finish.
    pub fn begin_message(&mut self) {
        self.message = Message::default();
        self.breaker.reset();
        self.begin_turn();
    }

    /// Another turn begins, for the same message.
    pub fn begin_turn(&mut self) {
        (self.calls, self.calls_refused) = (0, false);
        self.breaker.begin_turn();
    }

    /// A turn ended. `continues`: another one follows for the same message. `produced_output`: an event, a message or
    /// a reply came of it. A tool call of a model that differs from the one before counts as well.
    pub fn turn_ended(&mut self, continues: bool, produced_output: bool) -> Option<Stuck> {
        self.breaker.turn_ended(continues, produced_output)
    }

    /// A model asks for a tool. Reports a row that is too long once for a message.
    pub fn saw_tool_call(&mut self, name: &str, arguments: &str) -> Option<Stuck> {
        self.breaker.saw_tool_call(name, arguments)
    }

    pub(crate) fn count(&mut self, call: ModelCounts) {
        self.counts = self.counts.plus(call);
        self.message.tokens = self.message.tokens.saturating_add(call.tokens.total());
    }
}
