//! Pages with little on them: the login, and what went wrong.

use bulkhead_api::ErrorBody;
use maud::html;

use crate::Visitor;
use crate::frame::{Place, page, status};
use crate::words::line;

/// What came of a form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// A message is in the mailbox.
    Sent,
    /// A nudge waits.
    Nudged,
    /// The agent was started.
    Started,
    /// The agent was stopped.
    Stopped,
}

impl Said {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Sent, Self::Nudged, Self::Started, Self::Stopped];

    /// Its word in a query.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Nudged => "nudged",
            Self::Started => "started",
            Self::Stopped => "stopped",
        }
    }

    pub(crate) fn sentence(self) -> &'static str {
        match self {
            Self::Sent => "The message is in the mailbox.",
            Self::Nudged => "The nudge waits for an empty mailbox.",
            Self::Started => "The agent was started.",
            Self::Stopped => "The agent was stopped.",
        }
    }
}

/// The form that asks for the token. `refused`: what was wrong with the last try. `next`: the page that was asked for,
/// a path of the console.
pub fn login(next: &str, refused: Option<&str>) -> String {
    let described = refused.map(|_| "refused");
    let main = html! {
        main #main.narrow {
            h1 { "Log in" }
            @if let Some(refused) = refused { p #refused.problem role="alert" { (refused) } }
            form method="post" action="/console/login" {
                input type="hidden" name="next" value=(next);
                label for="token" { "Control token" }
                input #token type="password" name="token" autocomplete="current-password" required autofocus
                    aria-describedby=[described];
                button { "Log in" }
            }
            p.hint {
                "The control token is the value of " code { "BULKHEAD_CONTROL_TOKEN" } " or " code { "server.token" }
                ", or in the file that " code { "BULKHEAD_CONTROL_TOKEN_FILE" } " or " code { "server.token_file" }
                " names, else in the file " code { "control-token" } " in the host's state directory."
            }
        }
    };
    page("Log in", Place::Other, None, main)
}

/// A request that was refused, for a person.
pub fn problem(visitor: Option<&Visitor>, error: &ErrorBody) -> String {
    let status_code = error.status.unwrap_or(500);
    let title = match status_code {
        404 => "Not found",
        400..=499 => "Refused",
        _ => "That did not work",
    };
    let main = html! {
        main #main.narrow {
            h1 { (title) }
            (status(None))
            p #problem.problem { (line(&error.error)) }
            @if !error.issues.is_empty() {
                ul { @for issue in &error.issues { li { code { (line(&issue.path)) } ": " (line(&issue.message)) } } }
            }
            @if let Some(action) = &error.action { p { "What to do: " (line(action)) "." } }
            @if let Some(crash) = &error.crash_id {
                p { a href={ "/console/crashes/" (crash) } { "Read the crash record" } }
            }
            p { "Status " (status_code) ". " a href="/console" { "Back to the agents" } }
        }
    };
    page(title, Place::Other, visitor, main)
}
