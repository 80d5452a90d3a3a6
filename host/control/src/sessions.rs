//! Sessions of people who logged in to the console with the token.
//!
//! ```text
//!  token in a form ─▶ compared ─▶ session ─▶ cookie: a random name of it, never the token
//!                        └─ 401      └─ 12 h, or until logout, or until 64 newer ones came
//! ```
//!
//! A session opens the console and the streams that its pages read, and nothing else of the API. Sessions are in
//! memory only: they end with the process. A browser sends the cookie to every port of this machine's name, so it is
//! worth as little as possible.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bulkhead_console::Visitor;
use bulkhead_types::Secret;
use hyper::header::{ACCEPT, COOKIE, HeaderMap};
use hyper::{Method, Uri};

use crate::passes::{Passes, is_secret, random};
use crate::streams::is_event_stream;

/// How long a session lasts.
pub(crate) const LASTS: Duration = Duration::from_secs(12 * 60 * 60);

/// Sessions at one time. The oldest makes room.
const MAX_SESSIONS: usize = 64;

const COOKIE_NAME: &str = "bulkhead_session";

/// Pages and forms of the console are below it.
const CONSOLE: &str = "/console";

/// All sessions. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Sessions(Arc<Shared>);

struct Shared {
    token: Option<Secret>,
    /// For visitors without a session: there is no token, or they have shown it.
    form_token: String,
    /// Each opens what its visitor's forms carry.
    open: Passes<String>,
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions").field("open", &self.0.open.count()).finish_non_exhaustive()
    }
}

impl Sessions {
    /// `token` opens a session. Without one nobody needs any.
    pub(crate) fn new(token: Option<Secret>) -> Self {
        // Without randomness no form is taken.
        let form_token = random().unwrap_or_default();
        Self(Arc::new(Shared { token, form_token, open: Passes::new(LASTS, MAX_SESSIONS) }))
    }

    /// Whether nobody has to log in.
    pub(crate) fn are_needless(&self) -> bool {
        self.0.token.is_none()
    }

    /// Begins a session for a caller that shows the token, and returns the value of its cookie.
    pub(crate) fn begin(&self, shown: &str) -> Option<String> {
        let token = self.0.token.as_ref()?;
        if !is_secret(shown.as_bytes(), token.expose().as_bytes()) {
            return None;
        }
        self.0.open.issue(random()?)
    }

    /// Ends the session of this request.
    pub(crate) fn end(&self, headers: &HeaderMap) {
        if let Some(name) = named(headers) {
            self.0.open.take(name);
        }
    }

    /// Who sends a request with the cookie of a session.
    pub(crate) fn visitor(&self, headers: &HeaderMap) -> Option<Visitor> {
        let form_token = self.0.open.shown(named(headers)?)?;
        Some(Visitor { form_token, has_session: true })
    }

    /// Who sends a request that is trusted without a session.
    pub(crate) fn without_session(&self) -> Visitor {
        Visitor { form_token: self.0.form_token.clone(), has_session: false }
    }
}

/// Whether a session opens this.
pub(crate) fn is_for_sessions(method: &Method, path: &str) -> bool {
    is_of_console(path) || (is_event_stream(path) && method == Method::GET)
}

/// Whether this is the console's.
pub(crate) fn is_of_console(path: &str) -> bool {
    path.strip_prefix(CONSOLE).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Whether somebody with a browser came by the address alone.
pub(crate) fn wants_pages(method: &Method, uri: &Uri, headers: &HeaderMap) -> bool {
    let accepts = headers.get_all(ACCEPT).iter().filter_map(|accept| accept.to_str().ok());
    let mut kinds = accepts.flat_map(|accept| accept.split(','));
    let is_html =
        |kind: &str| kind.split(';').next().is_some_and(|kind| kind.trim() == "text/html");
    *method == Method::GET && uri.path() == "/" && kinds.any(is_html)
}

/// What of the console is for everybody.
pub(crate) fn is_open(path: &str) -> bool {
    path == "/console/login" || path.starts_with("/console/assets/")
}

/// The cookie of a session that begins. `is_encrypted`: the browser came by HTTPS.
pub(crate) fn cookie(name: &str, is_encrypted: bool) -> String {
    let secure = if is_encrypted { "; Secure" } else { "" };
    let seconds = LASTS.as_secs();
    format!("{COOKIE_NAME}={name}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}")
}

/// The cookie that takes it away.
pub(crate) fn no_cookie() -> String {
    format!("{COOKIE_NAME}=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict")
}

/// What the cookie of a request says.
fn named(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = cookies.flat_map(|value| value.split(';')).map(str::trim);
    pairs.find_map(|pair| pair.strip_prefix(COOKIE_NAME)?.strip_prefix('='))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sessions() -> Sessions {
        Sessions::new(Some(Secret::from("hunter2".to_owned())))
    }

    fn with(name: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(COOKIE, format!("other=1; {COOKIE_NAME}={name}").parse().unwrap());
        headers
    }

    #[test]
    fn the_token_opens_a_session_whose_name_is_not_the_token() {
        let sessions = sessions();
        for wrong in ["", "hunter", "hunter22", "Hunter2"] {
            assert!(sessions.begin(wrong).is_none(), "{wrong}");
        }
        let (one, two) = (sessions.begin("hunter2").unwrap(), sessions.begin("hunter2").unwrap());
        assert!(one.len() == 64 && one != two && !one.contains("hunter2"));
        let (first, second) =
            (sessions.visitor(&with(&one)).unwrap(), sessions.visitor(&with(&two)).unwrap());
        assert_ne!(first.form_token, second.form_token);
        for wrong in ["", "hunter2", &one[1..]] {
            assert!(sessions.visitor(&with(wrong)).is_none(), "{wrong}");
        }
        sessions.end(&with(&one));
        assert!(sessions.visitor(&with(&one)).is_none());
        assert!(sessions.visitor(&with(&two)).is_some());
    }

    #[test]
    fn there_are_so_many_sessions() {
        let sessions = sessions();
        let names: Vec<_> =
            (0..=MAX_SESSIONS).map(|_| sessions.begin("hunter2").unwrap()).collect();
        assert!(sessions.visitor(&with(&names[0])).is_none());
        assert!(sessions.visitor(&with(&names[1])).is_some());
    }

    #[test]
    fn a_session_opens_the_console_and_its_streams_and_nothing_else() {
        for path in ["/console", "/console/agents/a", "/events/stream", "/agents/a/events/stream"] {
            assert!(is_for_sessions(&Method::GET, path), "{path}");
        }
        for path in
            ["/", "/agents", "/agents/start", "/consoles", "/ws", "/metrics", "/agents/a/stop"]
        {
            assert!(!is_for_sessions(&Method::GET, path), "{path}");
        }
        assert!(!is_for_sessions(&Method::POST, "/events/stream"));
        assert!(is_open("/console/login") && is_open("/console/assets/console.js"));
        assert!(
            !is_open("/console") && !is_open("/console/login/x") && !is_open("/console/assets")
        );
    }
}
