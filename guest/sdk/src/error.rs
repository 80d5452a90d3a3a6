//! Making the error record that every lifecycle call returns.

use crate::AgentError;

impl AgentError {
    /// Fails this call; the agent stays alive. (From `start` and `restore` it ends it all the same.)
    ///
    /// `code` is kebab case and stable, `message` one sentence for a person, without secrets.
    pub fn failed(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into(), fatal: false, exceptions: Vec::new() }
    }

    /// Ends the incarnation as `guest_error`.
    pub fn fatal(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into(), fatal: true, exceptions: Vec::new() }
    }
}
