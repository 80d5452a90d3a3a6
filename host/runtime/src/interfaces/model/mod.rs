//! `bulkhead:agent/model`: answers of language models.
//!
//! ```text
//!   chat ─▶ its rules (`ask`) ─▶ which endpoint, may it? (`access`) ─▶ a task on the threads that carry requests ─┐
//!   next ◀─ parts, merged where text follows text (`answer`) ◀───────────────────────────────────────────────────┘
//! ```
//!
//! A wait here has the bounds of the model's configuration and of the turn, and not that of other host calls.

mod access;
mod answer;
mod ask;
mod report;

use wasmtime::Result;
use wasmtime::component::Resource;

pub(crate) use self::access::Access;
pub use self::answer::Answer;
use crate::bindings::bulkhead::agent::model::{
    Completion, Host, HostChatStream, ModelError, Part, Request,
};
use crate::state::State;

impl Host for State {
    fn chat(&mut self, request: Request) -> Result<Result<Resource<Answer>, ModelError>> {
        match self.begin_answer(request) {
            Ok(answer) => {
                self.touched = true;
                Ok(Ok(self.table.push(answer)?))
            }
            Err(error) => Ok(Err(error)),
        }
    }

    async fn complete(&mut self, request: Request) -> Result<Result<Completion, ModelError>> {
        let mut answer = match self.begin_answer(request) {
            Ok(answer) => answer,
            Err(error) => return Ok(Err(error)),
        };
        self.meter.set_own_bounds();
        Ok(answer.whole().await)
    }
}

impl HostChatStream for State {
    async fn next(&mut self, stream: Resource<Answer>) -> Result<Result<Part, ModelError>> {
        self.meter.set_own_bounds();
        Ok(self.answer(&stream)?.next().await)
    }

    fn cancel(&mut self, stream: Resource<Answer>) -> Result<()> {
        self.answer(&stream)?.cancel();
        Ok(())
    }

    fn drop(&mut self, stream: Resource<Answer>) -> Result<()> {
        self.touched = true;
        self.table.delete(stream)?;
        Ok(())
    }
}

impl State {
    fn answer(&mut self, stream: &Resource<Answer>) -> Result<&mut Answer> {
        Ok(self.table.get_mut(stream)?)
    }

    fn begin_answer(&mut self, request: Request) -> Result<Answer, ModelError> {
        let asked = ask::check(request)?;
        self.models.begin(asked)
    }
}

/// Any text that a guest reads of the host's about its request.
fn invalid(text: impl Into<String>) -> ModelError {
    ModelError::Invalid(text.into())
}
