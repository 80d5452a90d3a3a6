//! Making the error record that every lifecycle call returns.

use std::error::Error;
use std::panic::Location;

use crate::AgentError;
use crate::bindings::bulkhead::agent::agent_types::{Exception, SourceFrame};

/// How many causes of an error are kept, itself included.
const MAX_EXCEPTIONS: usize = 8;

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

    /// Ends the incarnation as `exception`: the crash record has the error, what caused it, and the line of this call.
    ///
    /// `code` is kebab case and stable. An agent that panics has a record with the same facts; this is for errors that it
    /// passes on.
    #[track_caller]
    pub fn exception<E: Error + 'static>(code: impl Into<String>, error: &E) -> Self {
        let causes = std::iter::successors(error.source(), |cause| (*cause).source());
        let exception = |kind: &str, error: &dyn Error, frames| Exception {
            kind: kind.to_owned(),
            message: error.to_string(),
            frames,
        };
        let own = exception(short_name::<E>(), error, vec![frame(Location::caller())]);
        let causes = causes.map(|cause| exception("cause", cause, Vec::new()));
        let exceptions = std::iter::once(own).chain(causes).take(MAX_EXCEPTIONS).collect();
        Self { exceptions, ..Self::fatal(code, error.to_string()) }
    }
}

fn frame(at: &Location<'_>) -> SourceFrame {
    SourceFrame {
        function: None,
        file: at.file().to_owned(),
        line: at.line(),
        column: Some(at.column()),
    }
}

/// `ParseIntError` of `core::num::ParseIntError`; parameters of a type stay as they are.
fn short_name<E>() -> &'static str {
    let name = std::any::type_name::<E>();
    let path = name.split('<').next().unwrap_or(name);
    path.rfind("::").map_or(name, |at| &name[at + 2..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::StateError;

    #[test]
    fn an_exception_has_its_kind_its_line_and_its_causes() {
        let not_json = serde_json::from_str::<u32>("x").unwrap_err();
        let error = StateError::NotASnapshot(not_json);
        let (made, line) = (AgentError::exception("bad-state", &error), line!());
        assert!(made.fatal && made.code == "bad-state" && made.message == error.to_string());
        let [own, cause] = made.exceptions.as_slice() else { panic!("{made:?}") };
        assert_eq!(
            (own.kind.as_str(), own.message.as_str()),
            ("StateError", made.message.as_str())
        );
        assert_eq!(own.frames[0].line, line);
        assert!(own.frames[0].file.ends_with("error.rs"));
        assert_eq!(cause.kind, "cause");
        assert!(cause.message.contains("expected value"), "{cause:?}");
    }
}
