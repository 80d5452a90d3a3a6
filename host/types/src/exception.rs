//! What programs of languages with exceptions throw.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Exceptions that are kept of one chain of causes.
pub const MAX_EXCEPTIONS: usize = 8;

/// Frames that are kept of one exception.
pub const MAX_FRAMES: usize = 64;

/// Bytes that are kept of a kind, of a function and of a file.
pub const MAX_NAME_BYTES: usize = 256;

/// Bytes that are kept of a message.
pub const MAX_MESSAGE_BYTES: usize = 4 * 1024;

/// Something that was thrown.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Exception {
    /// Its class: `TypeError`, `KeyError`.
    pub kind: String,
    /// What it says.
    pub message: String,
    /// Where it was thrown, and what called that: innermost first.
    pub frames: Vec<SourceFrame>,
}

/// A place in the code that the agent's author wrote.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SourceFrame {
    /// As the language names it. None: code outside of functions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
    /// For example `agent.js`.
    pub file: String,
    /// From 1.
    pub line: u32,
    /// From 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<u32>,
}

impl Exception {
    /// One line: the kind and what it says. What says nothing is its kind alone.
    pub fn summary(&self) -> String {
        match self.message.is_empty() {
            true => self.kind.clone(),
            false => format!("{}: {}", self.kind, self.message),
        }
    }

    /// Cuts all of a chain of causes to its bounds.
    pub fn bounded(chain: Vec<Self>) -> Vec<Self> {
        chain.into_iter().take(MAX_EXCEPTIONS).map(Self::cut).collect()
    }

    fn cut(self) -> Self {
        let frames = self.frames.into_iter().take(MAX_FRAMES).map(SourceFrame::cut).collect();
        Self {
            kind: cut(self.kind, MAX_NAME_BYTES),
            message: cut(self.message, MAX_MESSAGE_BYTES),
            frames,
        }
    }
}

impl SourceFrame {
    /// File, line and column, as editors take them.
    pub fn place(&self) -> String {
        let Self { file, line, column, .. } = self;
        column.map_or_else(|| format!("{file}:{line}"), |column| format!("{file}:{line}:{column}"))
    }

    fn cut(self) -> Self {
        Self {
            function: self.function.map(|name| cut(name, MAX_NAME_BYTES)),
            file: cut(self.file, MAX_NAME_BYTES),
            ..self
        }
    }
}

/// Copied, so that what was cut off does not stay allocated.
fn cut(text: String, bytes: usize) -> String {
    match text.floor_char_boundary(bytes) {
        at if at < text.len() => text[..at].to_owned(),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_is_cut_to_its_bounds_and_kept_otherwise() {
        let frame = SourceFrame {
            function: Some("f".repeat(300)),
            file: "ä".repeat(200),
            line: 3,
            column: Some(1),
        };
        let exception =
            Exception { kind: "K".repeat(300), message: "m".repeat(5000), frames: vec![frame; 70] };
        let chain = Exception::bounded(vec![exception; 10]);
        assert_eq!(chain.len(), MAX_EXCEPTIONS);
        assert_eq!((chain[0].kind.len(), chain[0].message.len()), (256, 4096));
        assert_eq!(chain[0].frames.len(), MAX_FRAMES);
        let frame = &chain[0].frames[0];
        assert_eq!((frame.function.as_ref().unwrap().len(), frame.file.len()), (256, 256));
        assert_eq!(frame.place(), format!("{}:3:1", frame.file));
        assert_eq!(
            SourceFrame { column: None, ..frame.clone() }.place(),
            format!("{}:3", frame.file)
        );
        let small = vec![Exception { kind: "KeyError".into(), ..Exception::default() }];
        assert_eq!(Exception::bounded(small.clone()), small);
        assert_eq!(small[0].summary(), "KeyError");
    }
}
