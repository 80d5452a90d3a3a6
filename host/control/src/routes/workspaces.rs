//! `GET /workspaces`: all of them, with what they take and whether their work is elsewhere too. `DELETE /workspaces/{id}`:
//! removes one whose agent does not run.

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use bulkhead_api::{RemovedWorkspace, WorkspaceList};

use crate::Backend;
use crate::answer::Refusal;
use crate::long;
use crate::openapi::{Group, Operation};
use crate::params::{Kind, NoParams, Param, Params, PathId};

const FORCE: Param =
    Param::new("force", Kind::Flag, "Also with work that is nowhere else. Default: `false`.");
const QUERY: &[Param] = &[FORCE];

const NOT_NOW: &str = "The directory of workspaces could not be used at boot (`no-inventory`), the host is at work in the \
     workspace (`locked`), or too many requests are under way (`busy`).";

/// The same of what may have an archive.
const NOT_REMOVED: &str = "The directory of workspaces could not be used at boot (`no-inventory`), the host is at work in the \
     workspace (`locked`), its archive could not be removed from where the town is shipped (`archived`), or too many requests are \
     under way (`busy`).";

pub(super) fn list_operation() -> Operation {
    Operation::new(Group::Workspaces, "Returns the workspaces of all agents, also of those that are gone")
        .about(
            "Each directory is counted, and git is asked about each repository: some seconds for a hundred workspaces of \
             10,000 files. `notPushed` goes by what the remote had at the last fetch or push.",
        )
        .answers::<WorkspaceList>(200, "The workspaces.")
        .refuses(503, NOT_NOW)
}

pub(super) fn remove_operation() -> Operation {
    Operation::new(Group::Workspaces, "Removes the workspace of an agent that does not run")
        .agent()
        .query(QUERY)
        .answers::<RemovedWorkspace>(200, "It is gone.")
        .refuses(404, "The agent has no workspace (`no-workspace`).")
        .refuses(409, "The agent is up or restarts by itself (`in-use`), or there is work that is nowhere else (`not-pushed`).")
        .refuses(503, NOT_REMOVED)
        .refuses(507, "The disk is full (`no-space`).")
}

pub(super) async fn list<B: Backend>(
    State(backend): State<B>,
    _: NoParams,
) -> Result<Response, Refusal> {
    let list = backend.workspaces().await?;
    long::json(move || list).await
}

pub(super) async fn remove<B: Backend>(
    State(backend): State<B>,
    PathId(id): PathId,
    params: Params,
) -> Result<Json<RemovedWorkspace>, Refusal> {
    let force = params.only(QUERY)?.flag(&FORCE)?;
    Ok(Json(backend.remove_workspace(&id, force).await?))
}
