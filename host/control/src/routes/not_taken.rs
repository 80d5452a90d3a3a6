//! What the original container did and Bulkhead leaves to others: git and terminals. Its own answer,
//! so that nobody searches for a typing mistake.

use hyper::{StatusCode, Uri};

use crate::answer::Refusal;
use crate::refused::truncated;

use super::unknown::SHOWN_CHARS;

pub(super) async fn git(uri: Uri) -> Refusal {
    not_taken(&uri, "git runs outside of the supervisor")
}

pub(super) async fn terminal(uri: Uri) -> Refusal {
    not_taken(&uri, "agents are components and have no terminal")
}

fn not_taken(uri: &Uri, why: &str) -> Refusal {
    let error = format!("not implemented: {}; {why}", truncated(uri.path(), SHOWN_CHARS));
    Refusal::new(StatusCode::NOT_IMPLEMENTED, error)
        .kind("not-implemented")
        .action("send this call to the original container")
}
