//! Paths and methods that do not exist.

use hyper::{Method, StatusCode, Uri};

use crate::answer::Refusal;
use crate::refused::truncated;

/// Longest path that an answer repeats, in characters.
pub(super) const SHOWN_CHARS: usize = 256;

pub(super) async fn path(uri: Uri) -> Refusal {
    let error = format!("no such path: {}", truncated(uri.path(), SHOWN_CHARS));
    Refusal::new(StatusCode::NOT_FOUND, error).kind("no-such-path")
}

/// axum adds the `Allow` header.
pub(super) async fn method(method: Method, uri: Uri) -> Refusal {
    let (method, path) =
        (truncated(method.as_str(), SHOWN_CHARS), truncated(uri.path(), SHOWN_CHARS));
    let error = format!("method {method} is not allowed on {path}; see the Allow header");
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, error).kind("method-not-allowed")
}
