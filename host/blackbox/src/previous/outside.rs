//! What the container's runtime knows of the end before: an exit code, a signal, a word.

use serde::Deserialize;

use super::WaitStatus;

/// Longest text that is read.
const MAX_BYTES: usize = 4096;

/// Longest reason that is kept, in bytes.
const MAX_REASON_BYTES: usize = 256;

/// What an orchestrator says of the end before, as JSON: `{"code":137,"reason":"oom"}`. Every field may be missing,
/// others are ignored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Outside {
    /// The exit code as the orchestrator shows it, 0 to 255. Above 128 it may be a signal: 137 is SIGKILL.
    pub code: Option<u8>,
    /// The signal that ended it, by its number, 1 to 64. 0 is none, as some orchestrators say it beside a code.
    pub signal: Option<i32>,
    /// A word for it, for example `oom`. At most 256 bytes are kept.
    pub reason: Option<String>,
}

/// What a reason says of the cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Word {
    Oom,
    Stop,
}

impl Outside {
    /// Reads the text of a variable. The error says what is wrong, and quotes nothing of it.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > MAX_BYTES {
            return Err(format!("it has {} bytes, at most {MAX_BYTES} are read", text.len()));
        }
        let value: serde_json::Value = serde_json::from_str(text).map_err(|error| {
            format!("it is no JSON: {:?} at column {}", error.classify(), error.column())
        })?;
        if !value.is_object() {
            return Err("it is no JSON object".into());
        }
        for (field, most) in [("code", 255), ("signal", 64)] {
            let given = value.get(field).filter(|given| !given.is_null());
            let fits =
                |given: &serde_json::Value| given.as_u64().is_some_and(|number| number <= most);
            if given.is_some_and(|given| !fits(given)) {
                return Err(format!("{field} is no number from 0 to {most}"));
            }
        }
        if value.get("reason").is_some_and(|reason| !reason.is_string() && !reason.is_null()) {
            return Err("reason is no text".into());
        }
        let mut outside: Self =
            serde_json::from_value(value).map_err(|_| "it is of another shape")?;
        let no_signal = outside.signal == Some(0);
        outside.signal = outside.signal.filter(|signal| *signal > 0);
        if let Some(reason) = &mut outside.reason {
            reason.truncate(reason.floor_char_boundary(MAX_REASON_BYTES));
        }
        if outside == Self::default() && no_signal {
            return Err("signal 0 is none, and it says neither code nor reason".into());
        }
        if outside == Self::default() {
            return Err("it says none of code, signal, reason".into());
        }
        Ok(outside)
    }

    /// The end, as far as it is like that which a parent sees.
    pub(super) fn wait(&self) -> Option<WaitStatus> {
        let code = self.code.map(|code| WaitStatus::Exited(code.into()));
        self.signal.map(WaitStatus::Signaled).or(code)
    }

    pub(super) fn word(&self) -> Option<Word> {
        let reason = self.reason.as_ref()?.to_lowercase();
        let word: String = reason.chars().filter(|c| c.is_alphanumeric()).collect();
        let has = |words: &[&str]| words.iter().any(|known| word.contains(known));
        if has(&["oom", "outofmemory"]) {
            return Some(Word::Oom);
        }
        has(&[
            "stop",
            "shutdown",
            "evict",
            "preempt",
            "deploy",
            "rollout",
            "drain",
            "scaledown",
            "sigterm",
        ])
        .then_some(Word::Stop)
    }

    /// For a person.
    pub(super) fn sentence(&self) -> String {
        let code = self.code.map(|code| format!("code {code}"));
        let signal = self.signal.map(|signal| format!("signal {signal}"));
        let reason = self.reason.as_ref().map(|reason| format!("reason {reason:?}"));
        let all: Vec<_> = [code, signal, reason].into_iter().flatten().collect();
        format!("from outside: {}", all.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_orchestrator_says_is_read() {
        let outside = Outside::parse(r#"{"code":137,"reason":"OOMKilled","node":"n1"}"#).unwrap();
        assert_eq!((outside.code, outside.word()), (Some(137), Some(Word::Oom)));
        assert_eq!(outside.wait(), Some(WaitStatus::Exited(137)));
        assert_eq!(outside.sentence(), r#"from outside: code 137, reason "OOMKilled""#);
        let outside = Outside::parse(r#"{"code":137,"signal":9}"#).unwrap();
        assert_eq!(outside.wait(), Some(WaitStatus::Signaled(9)));
        let word =
            |reason: &str| Outside { reason: Some(reason.into()), ..Outside::default() }.word();
        assert_eq!(word("Out of memory"), Some(Word::Oom));
        assert_eq!((word("Evicted"), word("scale-down")), (Some(Word::Stop), Some(Word::Stop)));
        assert_eq!(word("Error"), None);
    }

    #[test]
    fn signal_0_is_none_and_alone_says_nothing() {
        let error = Outside::parse(r#"{"signal":0}"#).unwrap_err();
        assert!(error.contains("signal 0"), "{error}");
        let outside = Outside::parse(r#"{"code":1,"signal":0}"#).unwrap();
        assert_eq!(outside.wait(), Some(WaitStatus::Exited(1)));
    }

    #[test]
    fn what_cannot_be_read_is_an_error_that_quotes_nothing() {
        let long = format!(r#"{{"reason":"{}"}}"#, "hunter2".repeat(1000));
        for bad in [
            "",
            "hunter2",
            "{\"code\":137",
            "[137]",
            "{}",
            r#"{"code":"hunter2"}"#,
            r#"{"code":256}"#,
            r#"{"code":-1}"#,
            r#"{"signal":65}"#,
            r#"{"reason":7}"#,
            r#"{"code":1.5}"#,
            &long,
        ] {
            let error = Outside::parse(bad).unwrap_err();
            assert!(!error.is_empty() && !error.contains("hunter2"), "{bad:?}: {error}");
        }
    }

    #[test]
    fn a_long_reason_is_cut() {
        let text = format!(r#"{{"reason":"{}"}}"#, "ä".repeat(200));
        assert_eq!(Outside::parse(&text).unwrap().reason.unwrap().len(), 256);
    }
}
