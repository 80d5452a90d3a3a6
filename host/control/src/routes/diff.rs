//! `GET /agents/{id}/diff?against=`: what an agent did in its repository. The agent need not run, or be known.

use axum::extract::State;
use axum::response::Response;
use bulkhead_api::{DiffBase, DiffView};

use crate::Backend;
use crate::answer::Refusal;
use crate::long;
use crate::openapi::{Group, Operation};
use crate::params::{Kind, Param, Params, PathId};

/// Of the difference, where the request does not say.
const BYTES: u64 = 1024 * 1024;

/// Of the difference, in one response.
const MAX_BYTES: u64 = 4 * 1024 * 1024;

const AGAINST: Param = Param::new(
    "against",
    Kind::Word(DiffBase::WORDS),
    "`upstream`: where the branch left the remote's (default). `head`: the commit that is checked out.",
);
const MAX: Param = Param::new(
    "maxBytes",
    Kind::Number(1, MAX_BYTES),
    "Bytes of the difference to return at most. Default: 1048576.",
);
const QUERY: &[Param] = &[AGAINST, MAX];

pub(super) fn operation() -> Operation {
    Operation::new(Group::Workspaces, "Returns what an agent did in its repository")
        .about("The agent need not run. Git runs in the agent's sandbox for it.")
        .agent()
        .query(QUERY)
        .answers::<DiffView>(200, "The difference, and how far the branch is from the remote's.")
        .refuses(404, "The agent has no repository (`unprepared`), or the host makes none (`no-repositories`).")
        .works_on_repositories()
}

pub(super) async fn get<B: Backend>(
    State(backend): State<B>,
    PathId(id): PathId,
    params: Params,
) -> Result<Response, Refusal> {
    let params = params.only(QUERY)?;
    let against = params.word(&AGAINST)?.unwrap_or_default();
    let max_bytes = params.number(&MAX)?.unwrap_or(BYTES);
    let max_bytes = usize::try_from(max_bytes).unwrap_or(usize::MAX);
    let view = backend.diff(&id, against, max_bytes).await?;
    long::json(move || view).await
}
