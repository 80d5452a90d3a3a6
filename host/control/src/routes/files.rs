//! `GET /agents/{id}/files?path=`: a directory or a part of a file of an agent's workspace. Read-only; the agent need not
//! run, or be known.

use axum::extract::State;
use axum::response::Response;
use bulkhead_api::FilesView;

use crate::Backend;
use crate::answer::Refusal;
use crate::long;
use crate::openapi::{Group, Operation};
use crate::params::{Kind, Param, Params, PathId};

/// Of a file, where the request does not say.
const BYTES: u64 = 64 * 1024;

/// Of a file, in one response.
const MAX_BYTES: u64 = 1024 * 1024;

const PATH: Param =
    Param::new("path", Kind::Text, "Relative to the workspace. Default: the workspace.");
const OFFSET: Param = Param::new(
    "offset",
    Kind::Number(0, i64::MAX as u64),
    "Byte of a file to begin at. Default: 0.",
);
const MAX: Param = Param::new(
    "maxBytes",
    Kind::Number(1, MAX_BYTES),
    "Bytes of a file to return at most; less than 4 count as 4, the longest character. Default: 65536.",
);
const QUERY: &[Param] = &[PATH, OFFSET, MAX];

pub(super) fn operation() -> Operation {
    Operation::new(Group::Workspaces, "Returns a directory, or a part of a file, of an agent's workspace")
        .about(
            "The agent need not run. Links are not followed; a path through one is invalid, as is one with `..`. A part of a file ends before \
             a character that would be cut: the next one begins at `nextOffset`. Entries of a directory are sorted by their names, the first \
             1,000 of them.",
        )
        .agent()
        .query(QUERY)
        .answers::<FilesView>(200, "What is there.")
        .refuses(404, "Nothing is there (`not-there`).")
}

pub(super) async fn get<B: Backend>(
    State(backend): State<B>,
    PathId(id): PathId,
    params: Params,
) -> Result<Response, Refusal> {
    let params = params.only(QUERY)?;
    let path = params.text(&PATH).unwrap_or_else(|| ".".to_owned());
    let offset = params.number(&OFFSET)?.unwrap_or(0);
    let max_bytes = params.number(&MAX)?.unwrap_or(BYTES);
    let max_bytes = usize::try_from(max_bytes).unwrap_or(usize::MAX);
    let view = backend.files(&id, &path, offset, max_bytes).await?;
    long::json(move || view).await
}
