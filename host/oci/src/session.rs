//! One registry, asked about one component: who asks, and where an answer leads.
//!
//! ```text
//!   GET ─▶ registry ── 401 ─▶ token of its realm, or the password ─▶ GET again, once
//!             ├── 3xx ─▶ another host, without credentials
//!             └── 200, 404, 429, ...
//! ```

use std::sync::Arc;

use bulkhead_net::{Destination, retry_after};
use bulkhead_types::Secret;
use http::header::{AUTHORIZATION, LOCATION};
use http::{HeaderName, HeaderValue, Request, StatusCode, Uri};
use jiff::Timestamp;
use parking_lot::Mutex;
use serde::Deserialize;

use crate::Reference;
use crate::challenge::Challenge;
use crate::exchange::{Answer, send};
use crate::failure::{Cause, bounded};
use crate::login::{Presented, bearer};
use crate::settings::{Access, Settings};

/// Most redirects of one request.
const MAX_REDIRECTS: usize = 5;

/// Largest answer of a server of tokens, and largest explanation of a status, in bytes.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// A header of a request.
pub(crate) type Header = (HeaderName, HeaderValue);

/// Asks one registry about one component.
pub(crate) struct Session {
    settings: Arc<Settings>,
    reference: Reference,
    to: Destination,
    /// What the registry wanted to see.
    authorization: Mutex<Option<HeaderValue>>,
}

#[derive(Deserialize)]
struct Token {
    token: Option<Secret>,
    access_token: Option<Secret>,
}

#[derive(Deserialize)]
struct Explanation {
    errors: Vec<Explained>,
}

#[derive(Deserialize)]
struct Explained {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

impl Session {
    pub(crate) fn new(settings: Arc<Settings>, reference: Reference) -> Self {
        let plain = settings.access(&reference).may_be_plain(&reference.destination(false));
        let to = reference.destination(!plain);
        Self { settings, reference, to, authorization: Mutex::default() }
    }

    /// The registry: host and port.
    pub(crate) fn at(&self) -> String {
        self.to.host_and_port()
    }

    pub(crate) fn reference(&self) -> &Reference {
        &self.reference
    }

    /// What the repository has under `manifests` or `blobs`: the head of a success. `what` is for texts.
    pub(crate) async fn get(
        &self,
        path: &str,
        what: &str,
        headers: &[Header],
    ) -> Result<Answer, Cause> {
        let path = format!("/v2/{}/{path}", self.reference.repository());
        let answer = self.follow(&path, headers).await?;
        if answer.head.status != StatusCode::UNAUTHORIZED {
            return self.judge(answer, what).await;
        }
        let Some(challenge) = Challenge::of(&answer.head.headers) else {
            return Err(self.unauthorized("it does not say how to log in".into()));
        };
        let authorization = self.authorize(&challenge).await?;
        *self.authorization.lock() = Some(authorization);
        let answer = self.follow(&path, headers).await?;
        self.judge(answer, what).await
    }

    fn access(&self) -> &Access {
        self.settings.access(&self.reference)
    }

    async fn follow(&self, path: &str, headers: &[Header]) -> Result<Answer, Cause> {
        let mut url = format!("{}{path}", origin(&self.to)).parse::<Uri>().map_err(|error| {
            Cause::Refused { at: self.at(), reason: format!("cannot be asked for {path}: {error}") }
        })?;
        let mut to = self.to.clone();
        for _ in 0..=MAX_REDIRECTS {
            let mut request = Request::new(());
            *request.uri_mut() = url.clone();
            request.headers_mut().extend(headers.iter().cloned());
            // Credentials are for the registry, and not for where it leads.
            let is_home = to == self.to;
            if is_home && let Some(authorization) = self.authorization() {
                request.headers_mut().insert(AUTHORIZATION, authorization);
            }
            let answer = send(&self.settings.connector, &self.settings.times, &to, request).await?;
            match answer.head.status.as_u16() {
                301 | 302 | 303 | 307 | 308 => (url, to) = self.next(&answer, &to)?,
                401 if !is_home => {
                    let reason = format!("wants credentials; {} leads there", self.at());
                    return Err(Cause::Refused { at: to.host_and_port(), reason });
                }
                _ => return Ok(answer),
            }
        }
        Err(self.refused(format!("redirects more than {MAX_REDIRECTS} times")))
    }

    /// Where a redirect leads. What it says is not quoted: it may be signed, which is a credential.
    fn next(&self, answer: &Answer, from: &Destination) -> Result<(Uri, Destination), Cause> {
        let unclear = || self.refused("redirects to nowhere".into());
        let location = answer.head.headers.get(LOCATION).and_then(|it| it.to_str().ok());
        let location = location.ok_or_else(unclear)?;
        let url = match location.starts_with('/') && !location.starts_with("//") {
            true => format!("{}{location}", origin(from)).parse::<Uri>(),
            false => location.parse::<Uri>(),
        };
        let url = url.map_err(|_| unclear())?;
        let next = Destination::of(&url).map_err(|_| unclear())?;
        if !next.tls && (from.tls || !self.access().may_be_plain(&next)) {
            let to = next.host_and_port();
            return Err(self.refused(format!("redirects to {to} over HTTP without TLS")));
        }
        Ok((url, next))
    }

    fn authorization(&self) -> Option<HeaderValue> {
        self.authorization.lock().clone()
    }

    /// What the registry wants to see.
    async fn authorize(&self, challenge: &Challenge) -> Result<HeaderValue, Cause> {
        let presented = self.access().login.presented(&self.reference);
        let presented = presented.map_err(|reason| self.bad_credentials(reason))?;
        if let Presented::Token(token) = &presented {
            return bearer(token)
                .ok_or_else(|| self.bad_credentials("the token fits no header".into()));
        }
        match challenge {
            Challenge::Basic => {
                presented.basic().ok_or_else(|| self.unauthorized(self.access().login.described()))
            }
            Challenge::Bearer { realm, service } => {
                self.token(realm, service.as_deref(), presented.basic()).await
            }
        }
    }

    /// Asks the realm for a token, as a user or as nobody.
    async fn token(
        &self,
        realm: &str,
        service: Option<&str>,
        basic: Option<HeaderValue>,
    ) -> Result<HeaderValue, Cause> {
        let strange = |_| self.refused("wants a token of a realm that is no URL".into());
        let realm = realm.parse::<Uri>().map_err(|_| strange(()))?;
        let to = Destination::of(&realm).map_err(|_| strange(()))?;
        if !to.tls && (self.to.tls || !self.access().may_be_plain(&to)) {
            let to = to.host_and_port();
            return Err(self.refused(format!("wants a token of {to} over HTTP without TLS")));
        }
        let mut request = Request::new(());
        *request.uri_mut() = self.with_scope(&realm, service).map_err(|_| strange(()))?;
        if let Some(basic) = basic {
            request.headers_mut().insert(AUTHORIZATION, basic);
        }
        let answer = send(&self.settings.connector, &self.settings.times, &to, request).await?;
        let answer = self.judge(answer, "token").await?;
        let at = answer.at().to_owned();
        let body = answer.whole("a token", MAX_ANSWER_BYTES).await?;
        // The parser's own text may quote the token.
        let token = serde_json::from_slice::<Token>(&body).ok();
        let token = token.and_then(|it| it.token.or(it.access_token));
        token.and_then(|token| bearer(&token)).ok_or_else(|| Cause::Refused {
            at,
            reason: "grants tokens, and answered without one".into(),
        })
    }

    /// The realm's URL with what is asked for: to pull from this repository, and nothing that the challenge says.
    fn with_scope(&self, realm: &Uri, service: Option<&str>) -> Result<Uri, http::uri::InvalidUri> {
        let mut query = form_urlencoded::Serializer::new(String::new());
        if let Some(service) = service {
            query.append_pair("service", service);
        }
        query.append_pair("scope", &format!("repository:{}:pull", self.reference.repository()));
        let mark = if realm.query().is_some() { '&' } else { '?' };
        format!("{realm}{mark}{}", query.finish()).parse()
    }

    /// An answer of success, or what its status means.
    async fn judge(&self, answer: Answer, what: &str) -> Result<Answer, Cause> {
        let (at, status) = (answer.at().to_owned(), answer.head.status.as_u16());
        match status {
            200 | 206 => Ok(answer),
            404 => {
                let repository = self.reference.repository().to_owned();
                Err(Cause::NotFound { at, what: what.to_owned(), repository })
            }
            401 | 403 => {
                let described = self.access().login.described();
                let words = explanation(answer).await;
                Err(self.unauthorized(format!("{at} answered {status}{words}, and {described}")))
            }
            408 | 425 | 429 | 500..=599 => {
                let wait = retry_after(&answer.head.headers, Timestamp::now());
                Err(Cause::Busy { at, status, wait })
            }
            _ => Err(Cause::Status { at, status, message: explanation(answer).await }),
        }
    }

    fn unauthorized(&self, reason: String) -> Cause {
        let registry = self.reference.registry().to_owned();
        Cause::Unauthorized { registry, repository: self.reference.repository().to_owned(), reason }
    }

    fn bad_credentials(&self, reason: String) -> Cause {
        Cause::Credentials { registry: self.reference.registry().to_owned(), reason }
    }

    fn refused(&self, reason: String) -> Cause {
        Cause::Refused { at: self.at(), reason }
    }
}

fn origin(to: &Destination) -> String {
    format!("{}://{}", if to.tls { "https" } else { "http" }, to.authority())
}

/// A registry's own words for a status, in parentheses, or nothing.
async fn explanation(answer: Answer) -> String {
    let body = answer.whole("an explanation", MAX_ANSWER_BYTES).await.unwrap_or_default();
    let errors = serde_json::from_slice::<Explanation>(&body).map(|it| it.errors);
    let first = errors.unwrap_or_default().into_iter().next();
    first.map_or_else(String::new, |it| bounded(&format!(" ({}: {}", it.code, it.message)) + ")")
}
