//! Model names that misbehave, for tests of what an agent does then.
//!
//! | model | what the server does |
//! | --- | --- |
//! | `fail-<status>` | answers with that status and an error object, for example `fail-500` |
//! | `slow-<ms>` | waits, then follows the script |
//! | `garbage` | answers 200 with a body that is neither JSON nor an event stream |
//! | `empty` | answers 200 with no choice in it |
//! | `cut` | streams the first half of the answer, then breaks the connection |
//! | `midway` | streams the first half of the answer, then an error event: no capacity |
//! | `stall` | sends the first chunk, then nothing for a minute |

use std::time::Duration;

/// How long a `stall` lasts. Bounded, so that a server can always end.
pub const STALL: Duration = Duration::from_secs(60);

/// What to do instead of a plain answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// This status instead of an answer.
    Fail(u16),
    /// The answer, this much later.
    Slow(Duration),
    /// Noise.
    Garbage,
    /// No choices.
    Empty,
    /// Half an answer.
    Cut,
    /// Half an answer, then an error event.
    Midway,
    /// A first chunk, then silence.
    Stall,
}

impl Fault {
    /// The fault that a model name asks for, if it does.
    pub fn of_model(model: &str) -> Option<Self> {
        if let Some(status) = model.strip_prefix("fail-") {
            return status
                .parse()
                .ok()
                .filter(|status| (400..600).contains(status))
                .map(Self::Fail);
        }
        if let Some(ms) = model.strip_prefix("slow-") {
            return ms.parse().ok().map(|ms| Self::Slow(Duration::from_millis(ms).min(STALL)));
        }
        match model {
            "garbage" => Some(Self::Garbage),
            "empty" => Some(Self::Empty),
            "cut" => Some(Self::Cut),
            "midway" => Some(Self::Midway),
            "stall" => Some(Self::Stall),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_named_by_its_model() {
        assert_eq!(Fault::of_model("fail-503"), Some(Fault::Fail(503)));
        assert_eq!(Fault::of_model("slow-20"), Some(Fault::Slow(Duration::from_millis(20))));
        assert_eq!(Fault::of_model("cut"), Some(Fault::Cut));
        for plain in ["scripted", "gpt-4o", "fail-200", "fail-x", "slow-"] {
            assert_eq!(Fault::of_model(plain), None, "{plain}");
        }
    }
}
