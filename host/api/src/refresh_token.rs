//! `POST /refresh-token`.

use bulkhead_types::Secret;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::error::{Issue, required};
use crate::unknown::{Parsed, parse_shared};

/// A token of the container for the town. Whether it is any good, only the town knows.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema)]
pub struct RefreshTokenRequest {
    /// The token. Not empty.
    #[schemars(length(min = 1))]
    pub token: Secret,
}

#[derive(Deserialize)]
struct Raw {
    token: Option<Secret>,
}

impl RefreshTokenRequest {
    /// Parses and checks a body.
    pub fn parse(body: &[u8]) -> Result<Parsed<Self>, Vec<Issue>> {
        parse_shared(body, &[])?.map(Self::check)
    }

    fn check(Raw { token }: Raw) -> Result<Self, Vec<Issue>> {
        let issue = required("token", token.as_ref().map(Secret::expose));
        match (token, issue) {
            (Some(token), None) => Ok(Self { token }),
            (_, issue) => Err(issue.into_iter().collect()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_required_and_never_quoted() {
        let parse = |body: &str| RefreshTokenRequest::parse(body.as_bytes());
        assert_eq!(parse(r#"{"token":"hunter2"}"#).unwrap().request.token.expose(), "hunter2");
        for (body, path) in [
            ("{}", "token"),
            (r#"{"token":""}"#, "token"),
            (r#"{"token":["hunter2"]}"#, "token"),
            ("", "."),
        ] {
            let issues = parse(body).unwrap_err();
            assert_eq!(issues[0].path, path, "{body}");
            assert!(!format!("{issues:?}").contains("hunter2"));
        }
    }
}
