//! What a request says outside its body: the agent id in the path, what is in the query, its trace.

use axum::extract::path::ErrorKind;
use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequestParts, Path, Query};
use axum::http::request::Parts;
use bulkhead_api::Issue;
use bulkhead_api::unknown::{issue, nearest};
use bulkhead_telemetry::TraceContext;
use bulkhead_types::AgentId;
use serde::de::DeserializeOwned;

use crate::answer::Refusal;

/// The parameter of a path: percent-decoded.
pub(crate) struct PathText(pub(crate) String);

impl<S: Send + Sync> FromRequestParts<S> for PathText {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let text = Path::from_request_parts(parts, state).await;
        text.map(|Path(text)| Self(text)).map_err(|rejection| {
            let key = match rejection {
                PathRejection::FailedToDeserializePathParams(failed) => match failed.into_kind() {
                    ErrorKind::InvalidUtf8InPathParam { key } => key,
                    _ => ".".to_owned(),
                },
                _ => ".".to_owned(),
            };
            Refusal::invalid_path(key, "is not UTF-8 when percent-decoded")
        })
    }
}

/// The `{id}` of a path: percent-decoded, then checked.
pub(crate) struct PathId(pub(crate) AgentId);

impl<S: Send + Sync> FromRequestParts<S> for PathId {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let PathText(text) = PathText::from_request_parts(parts, state)
            .await
            .map_err(|_| Refusal::invalid_id("agent id is not UTF-8 when percent-decoded"))?;
        AgentId::parse(&text).map(Self).map_err(|error| Refusal::invalid_id(error.to_string()))
    }
}

/// The trace that the request belongs to, if it names one.
pub(crate) struct Trace(pub(crate) Option<TraceContext>);

impl<S: Send + Sync> FromRequestParts<S> for Trace {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Self::Rejection> {
        Ok(Self(TraceContext::from_headers(&parts.headers)))
    }
}

/// A parameter of a query: what the route takes, and what the document of the API says of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Param {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) kind: Kind,
}

/// What the value of a parameter may be.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    /// An agent's id.
    Agent,
    Text,
    /// `true`, `1` or nothing; `false` or `0`.
    Flag,
    /// A whole number from the first to the last.
    Number(u64, u64),
    /// One of these words.
    Word(&'static [&'static str]),
}

impl Param {
    pub(crate) const fn new(name: &'static str, kind: Kind, about: &'static str) -> Self {
        Self { name, about, kind }
    }
}

/// The query, once it is known which parameters may be in it. Of a repeated one the last one counts.
pub(crate) struct Params(Vec<(String, String)>);

impl<S: Send + Sync> FromRequestParts<S> for Params {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Self::Rejection> {
        // Pairs of strings always come out of a query: bytes that are no UTF-8 are replaced.
        let pairs =
            Query::try_from_uri(&parts.uri).map_or_else(|_| Vec::new(), |Query(pairs)| pairs);
        Ok(Self(pairs))
    }
}

/// The query of a route that asks for nothing: a key in it is a mistake.
pub(crate) struct NoParams;

impl<S: Send + Sync> FromRequestParts<S> for NoParams {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let Ok(params) = Params::from_request_parts(parts, state).await;
        params.only(&[]).map(|_| Self)
    }
}

/// Keys that an answer names, at most.
const MAX_NAMED: usize = 16;

impl Params {
    /// Refuses other keys than these.
    pub(crate) fn only(self, known: &[Param]) -> Result<Self, Refusal> {
        let known: Vec<_> = known.iter().map(|param| param.name).collect();
        let unknown =
            self.0.iter().filter(|(key, _)| !known.contains(&key.as_str())).take(MAX_NAMED);
        let issues: Vec<_> = unknown.map(|(key, _)| issue(key, nearest(key, &known))).collect();
        if issues.is_empty() { Ok(self) } else { Err(Refusal::invalid_query(issues)) }
    }

    /// Whether a [`Kind::Flag`] is there and means yes.
    pub(crate) fn flag(&self, param: &Param) -> Result<bool, Refusal> {
        match self.value(param) {
            None | Some("false" | "0") => Ok(false),
            Some("" | "true" | "1") => Ok(true),
            Some(_) => Err(wrong(param, "must be true, 1, false or 0")),
        }
    }

    /// Whether a parameter is there.
    pub(crate) fn has(&self, param: &Param) -> bool {
        self.value(param).is_some()
    }

    /// The text of a parameter, when there is one that is not empty.
    pub(crate) fn text(&self, param: &Param) -> Option<String> {
        self.value(param).filter(|text| !text.is_empty()).map(str::to_owned)
    }

    /// The id at a [`Kind::Agent`], when there is one that is not empty.
    pub(crate) fn agent(&self, param: &Param) -> Result<Option<AgentId>, Refusal> {
        let id = self.text(param).map(|text| AgentId::parse(&text)).transpose();
        id.map_err(|error| wrong(param, error.to_string()))
    }

    /// The value of a parameter that is one of the words of its [`Kind::Word`], when there is one that is not empty.
    pub(crate) fn word<T: DeserializeOwned>(&self, param: &Param) -> Result<Option<T>, Refusal> {
        let Some(text) = self.text(param) else { return Ok(None) };
        serde_json::from_value(text.into()).map(Some).map_err(|_| {
            let Kind::Word(known) = param.kind else { return wrong(param, "is not known") };
            wrong(param, format!("must be one of {}", known.join(", ")))
        })
    }

    /// The number at a [`Kind::Number`], when there is one.
    pub(crate) fn number(&self, param: &Param) -> Result<Option<u64>, Refusal> {
        let Some(text) = self.value(param) else { return Ok(None) };
        let Kind::Number(min, max) = param.kind else { return Err(wrong(param, "is no number")) };
        match text.parse::<u64>() {
            Ok(number) if (min..=max).contains(&number) => Ok(Some(number)),
            _ => Err(wrong(param, format!("must be a whole number from {min} to {max}"))),
        }
    }

    fn value(&self, param: &Param) -> Option<&str> {
        let (_, text) = self.0.iter().rfind(|(name, _)| name == param.name)?;
        Some(text)
    }
}

fn wrong(param: &Param, rule: impl Into<String>) -> Refusal {
    Refusal::invalid_query([Issue::new(param.name, rule)])
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAIT: Param = Param::new("wait", Kind::Number(0, 100), "");
    const AFTER: Param = Param::new("after", Kind::Text, "");
    const LIMIT: Param = Param::new("limit", Kind::Number(1, 10), "");
    const STRICT: Param = Param::new("strict", Kind::Flag, "");

    fn wait(query: &str) -> Result<Option<u64>, String> {
        let refused = |refusal: Refusal| refusal.body.issues[0].path.clone();
        params(query).number(&WAIT).map_err(refused)
    }

    fn params(query: &str) -> Params {
        let uri = format!("/x?{query}").parse().unwrap();
        let Query(pairs) = Query::try_from_uri(&uri).unwrap();
        Params(pairs)
    }

    #[test]
    fn a_key_that_is_not_known_is_refused_with_the_nearest_one() {
        assert!(params("after=1&limit=2").only(&[AFTER, LIMIT]).is_ok());
        assert!(params("").only(&[]).is_ok());
        let refusal = params("afetr=1&zzz=2&after=3").only(&[AFTER, LIMIT]).err().unwrap();
        let said: Vec<_> =
            refusal.body.issues.iter().map(|one| (&*one.path, &*one.message)).collect();
        let expected =
            [("afetr", "is not known here; did you mean after?"), ("zzz", "is not known here")];
        assert_eq!(said, expected);
    }

    #[test]
    fn a_flag_has_few_forms() {
        let flag = |query| params(query).flag(&STRICT).map_err(|refusal| refusal.status.as_u16());
        for yes in ["strict=true", "strict=1", "strict", "strict=", "strict=0&strict=1"] {
            assert_eq!(flag(yes), Ok(true), "{yes}");
        }
        for no in ["strict=false", "strict=0", "", "other=1"] {
            assert_eq!(flag(no), Ok(false), "{no}");
        }
        for wrong in ["strict=yes", "strict=TRUE", "strict=2", "strict=%FF"] {
            assert_eq!(flag(wrong), Err(400), "{wrong}");
        }
    }

    #[test]
    fn a_number_within_its_bound_passes() {
        assert_eq!(wait(""), Ok(None));
        assert_eq!(wait("waiting=x&other"), Ok(None));
        assert_eq!(wait("wait=0"), Ok(Some(0)));
        assert_eq!(wait("wait=7&wait=100"), Ok(Some(100)));
    }

    #[test]
    fn everything_else_is_an_issue_of_its_key() {
        for query in ["wait=", "wait=abc", "wait=-1", "wait=1.5", "wait=101", "wait", "wait=%FF"] {
            assert_eq!(wait(query), Err("wait".to_owned()), "{query}");
        }
        assert!(wait(&format!("wait={}", "9".repeat(100))).is_err());
        assert!(params("limit=0").number(&LIMIT).is_err());
    }
}
