//! What a request says outside its body: the agent id in the path, what is in the query, its trace.

use axum::extract::{FromRequestParts, Path, Query};
use axum::http::request::Parts;
use bulkhead_api::Issue;
use bulkhead_api::unknown::{issue, nearest};
use bulkhead_telemetry::TraceContext;
use bulkhead_types::AgentId;

use crate::answer::Refusal;

/// The `{id}` of a path: percent-decoded, then checked.
pub(crate) struct PathId(pub(crate) AgentId);

impl<S: Send + Sync> FromRequestParts<S> for PathId {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let text: Path<String> = Path::from_request_parts(parts, state)
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

/// The query, once it is known which keys may be in it. Of a repeated key the last one counts.
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
    pub(crate) fn only(self, known: &[&str]) -> Result<Self, Refusal> {
        let unknown =
            self.0.iter().filter(|(key, _)| !known.contains(&key.as_str())).take(MAX_NAMED);
        let issues: Vec<_> = unknown.map(|(key, _)| issue(key, nearest(key, known))).collect();
        if issues.is_empty() { Ok(self) } else { Err(Refusal::invalid_query(issues)) }
    }

    /// Whether `key` is there and means yes.
    pub(crate) fn flag(&self, key: &str) -> Result<bool, Refusal> {
        let Some((_, text)) = self.0.iter().rfind(|(name, _)| name == key) else {
            return Ok(false);
        };
        match text.as_str() {
            "" | "true" | "1" => Ok(true),
            "false" | "0" => Ok(false),
            _ => Err(Refusal::invalid_query([Issue::new(key, "must be true, 1, false or 0")])),
        }
    }

    /// The text at `key`, when there is one that is not empty.
    pub(crate) fn text(&self, key: &str) -> Option<String> {
        let (_, text) = self.0.iter().rfind(|(name, _)| name == key)?;
        (!text.is_empty()).then(|| text.clone())
    }

    /// The number at `key`, when there is one.
    pub(crate) fn whole_number(&self, key: &str, max: u64) -> Result<Option<u64>, Refusal> {
        let Some((_, text)) = self.0.iter().rfind(|(name, _)| name == key) else { return Ok(None) };
        match text.parse::<u64>() {
            Ok(number) if number <= max => Ok(Some(number)),
            _ => {
                let rule = format!("must be a whole number from 0 to {max}");
                Err(Refusal::invalid_query([Issue::new(key, rule)]))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(query: &str) -> Result<Option<u64>, String> {
        let uri = format!("/x?{query}").parse().unwrap();
        let Query(pairs) = Query::try_from_uri(&uri).unwrap();
        let refused = |refusal: Refusal| refusal.body.issues[0].path.clone();
        Params(pairs).whole_number("wait", 100).map_err(refused)
    }

    fn params(query: &str) -> Params {
        let uri = format!("/x?{query}").parse().unwrap();
        let Query(pairs) = Query::try_from_uri(&uri).unwrap();
        Params(pairs)
    }

    #[test]
    fn a_key_that_is_not_known_is_refused_with_the_nearest_one() {
        assert!(params("after=1&limit=2").only(&["after", "limit"]).is_ok());
        assert!(params("").only(&[]).is_ok());
        let refusal = params("afetr=1&zzz=2&after=3").only(&["after", "limit"]).err().unwrap();
        let said: Vec<_> =
            refusal.body.issues.iter().map(|one| (&*one.path, &*one.message)).collect();
        let expected =
            [("afetr", "is not known here; did you mean after?"), ("zzz", "is not known here")];
        assert_eq!(said, expected);
    }

    #[test]
    fn a_flag_has_few_forms() {
        let flag = |query| params(query).flag("strict").map_err(|refusal| refusal.status.as_u16());
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
    }
}
