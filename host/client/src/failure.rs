//! Why a command did not do what it was asked to do, and the exit code for it.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::time::Duration;

use bulkhead_api::ErrorBody;

use bulkhead_printable as text;

use bulkhead_terminal::words;

/// Every end of a command but the good one.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The reader of stdout has seen enough: as good as an end as any.
    NobodyReads,
    /// The host cannot be reached, does not answer in time, or answers what nobody understands.
    NoAnswer(String),
    /// The command line, or a file that it names, is wrong. Nothing was asked.
    Usage(String),
    /// The host was asked and has nothing of the kind.
    NotThere(String),
    /// The host does not do it.
    Refused(Box<Refusal>),
    /// The host did it, and it failed: a start, or a turn.
    Failed(Box<Refusal>),
    /// The wait was over first; the turn goes on. Reported already.
    Unfinished,
    /// Several things were asked, and this is the code for the worst of them. Reported already.
    Reported(u8),
    /// Ctrl-C, and what goes on all the same.
    Interrupted(String),
}

/// An answer of the host with a status of 400 and above.
#[derive(Debug)]
pub(crate) struct Refusal {
    /// What was asked, for example `start of bad`.
    pub(crate) asked: String,
    pub(crate) status: u16,
    pub(crate) body: ErrorBody,
    /// The body as it came.
    pub(crate) json: String,
    /// The header `Retry-After`.
    pub(crate) retry_after: Option<Duration>,
}

impl Failure {
    /// The end by this signal, with the code that a shell reports of it.
    pub(crate) fn signaled(number: u8) -> Self {
        Self::Reported(128 + number)
    }

    /// The exit code. The help of each command lists its own.
    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::NobodyReads => 0,
            Self::NoAnswer(_) => 1,
            Self::Usage(_) => 2,
            Self::NotThere(_) | Self::Refused(_) => 3,
            Self::Failed(_) => 4,
            Self::Unfinished => 5,
            Self::Reported(code) => *code,
            Self::Interrupted(_) => 130,
        }
    }

    /// What stderr gets, if anything.
    pub(crate) fn words(&self) -> Option<String> {
        match self {
            Self::NobodyReads | Self::Unfinished | Self::Reported(_) => None,
            Self::NoAnswer(message)
            | Self::Usage(message)
            | Self::NotThere(message)
            | Self::Interrupted(message) => Some(text::lines(message).into_owned()),
            Self::Refused(refusal) => Some(refusal.words("refused")),
            Self::Failed(refusal) => Some(refusal.words("failed")),
        }
    }

    /// The host's own words, when it gave some, else the same in its form: what is not the host's has no `status`.
    pub(crate) fn json(&self) -> Option<Cow<'_, str>> {
        let kind = match self {
            Self::Refused(refusal) | Self::Failed(refusal) => return Some((&*refusal.json).into()),
            // Who ends a command that follows something by Ctrl-C has seen no error.
            Self::NobodyReads | Self::Unfinished | Self::Reported(_) | Self::Interrupted(_) => {
                return None;
            }
            Self::NoAnswer(_) => "no-answer",
            Self::Usage(_) => "usage",
            Self::NotThere(_) => "not-there",
        };
        let error_type = Some(kind.to_owned());
        let body = ErrorBody { error_type, ..ErrorBody::new(self.words()?) };
        let json = serde_json::to_string(&body).ok()?;
        Some(text::json(&json).into_owned().into())
    }
}

impl Refusal {
    /// Whether the host still boots, and may yet restore what was asked about.
    pub(crate) fn is_early(&self) -> bool {
        self.status == 503 && self.body.error_type.as_deref() == Some("not-back-yet")
    }

    /// A sentence, then a line for each thing that is known.
    fn words(&self, how: &str) -> String {
        let ErrorBody { error, issues, error_type, phase, action, crash_id, history, .. } =
            &self.body;
        let place = phase.as_ref().map_or_else(String::new, |phase| format!(" in {phase}"));
        let kind = error_type.as_ref().map_or_else(String::new, |kind| format!(", {kind}"));
        let asked = &self.asked;
        let head = format!("{asked} {how}{place} (status {}{kind}): {error}", self.status);
        let mut page = text::lines(&head).into_owned();
        let mut line = |name: &str, what: &str| {
            let _ = write!(page, "\n  {name:<9} {}", text::line(what));
        };
        for issue in issues {
            // Of a single one the sentence says it already.
            if issue.message == *error {
                line("field", &issue.path);
            } else {
                line("field", &format!("{}: {}", issue.path, issue.message));
            }
        }
        if let Some(message_id) = &self.body.message_id {
            line("message", message_id);
        }
        if let Some(reason) = &self.body.exit_reason {
            line("ended", reason);
        }
        if let Some(attempts) = self.body.attempts {
            line("delivered", &words::counted(attempts as usize, "time"));
        }
        // Of a message that was set aside there may be several; the last of them is the one.
        let one = crash_id.as_slice();
        let all = self.body.crash_ids.as_slice();
        let crashes = if all.is_empty() { one } else { all };
        for crash_id in crashes {
            line("crash", crash_id);
        }
        for end in history {
            let reason = end.reason.as_str();
            let crash =
                end.crash_id.as_ref().map_or_else(String::new, |id| format!(", crash {id}"));
            line("before", &format!("{} incarnation {}: {reason}{crash}", end.at, end.incarnation));
        }
        if let Some(action) = action {
            line("do", action);
        }
        if let Some(after) = self.retry_after {
            line("again", &format!("in {}", words::duration(after)));
        }
        if self.status == 401 {
            let ways = "set BULKHEAD_CONTROL_TOKEN, or name a file with --token-file; a host without a configured token generates one in its state directory, which --config FILE locates unless --url names another address than FILE";
            line("do", ways);
        }
        page
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typed_start_error_is_shown_line_by_line_and_safely() {
        let json = r#"{"error":"guest said \u001b[2Jno","phase":"guest_start","error_type":"guest-error",
            "action":"read the record","crashId":"c1","issues":[{"path":"role","message":"no such role"}],
            "history":[{"at":"2026-01-15T09:30:00.000Z","incarnation":2,"reason":"panic","fingerprint":"f",
            "atStart":true,"deterministic":false}]}"#;
        let body = serde_json::from_str(json).unwrap();
        let refusal = Refusal {
            asked: "start of bad".into(),
            status: 502,
            body,
            json: json.into(),
            retry_after: Some(Duration::from_secs(5)),
        };
        let failure = Failure::Failed(Box::new(refusal));
        assert_eq!(failure.code(), 4);
        let expected = "start of bad failed in guest_start (status 502, guest-error): guest said \\u{1b}[2Jno\n  \
             field     role: no such role\n  \
             crash     c1\n  \
             before    2026-01-15T09:30:00.000Z incarnation 2: panic\n  \
             do        read the record\n  \
             again     in 5 s";
        assert_eq!(failure.words().unwrap(), expected);
    }

    #[test]
    fn a_host_that_says_nothing_is_an_error_for_a_program_as_well() {
        let json = |failure: Failure| failure.json().map(Cow::into_owned);
        let expected = r#"{"error":"cannot connect \\u{1b}","error_type":"no-answer"}"#;
        assert_eq!(json(Failure::NoAnswer("cannot connect \x1b".into())).unwrap(), expected);
        let expected = r#"{"error":"no file","error_type":"usage"}"#;
        assert_eq!(json(Failure::Usage("no file".into())).unwrap(), expected);
        let interrupted = Failure::Interrupted("interrupted".into());
        for other in [Failure::NobodyReads, Failure::Unfinished, Failure::Reported(3), interrupted]
        {
            assert_eq!(json(other), None);
        }
    }

    #[test]
    fn a_message_that_was_set_aside_says_how_often_it_came_and_all_that_it_crashed() {
        let json = r#"{"error":"set aside","error_type":"message-set-aside","crashId":"c2","crashIds":["c1","c2"],
            "attempts":2,"messageId":"m1","exitReason":"panic"}"#;
        let body = serde_json::from_str(json).unwrap();
        let asked = "turn of bad".into();
        let refusal = Refusal { asked, status: 502, body, json: json.into(), retry_after: None };
        let expected = "turn of bad failed (status 502, message-set-aside): set aside\n  \
             message   m1\n  ended     panic\n  delivered 2 times\n  crash     c1\n  crash     c2";
        assert_eq!(Failure::Failed(Box::new(refusal)).words().unwrap(), expected);
    }
}
