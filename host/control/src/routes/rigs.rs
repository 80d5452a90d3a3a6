//! `POST /rigs/{rig}/prepare`: brings the host's mirror of a repository up to date. `POST /rigs/{rig}/merge`: merges a
//! branch of it into another one, and pushes the result. Neither checks anything out.

use axum::Json;
use axum::extract::State;
use bulkhead_api::{MergeAnswer, MergeRequest, PrepareRequest, RigView};
use serde_json::json;

use crate::Backend;
use crate::answer::Refusal;
use crate::body::WholeBody;
use crate::openapi::{Group, Operation};
use crate::params::{NoParams, PathText};

const RIG: &str = "Name of the rig: one of the configuration, or any with a `gitUrl`.";

const NO_REPOSITORIES: &str = "The host makes no repositories (`no-repositories`), nobody says what the rig is (`no-such-rig`), or the remote has no such repository (`not-found`) or branch \
     (`branch-missing`).";

pub(super) fn prepare_operation() -> Operation {
    Operation::new(Group::Workspaces, "Fetches the repository of a rig")
        .about(
            "Starts of agents fetch it by themselves; this one takes the time of the first clone before. A body is \
             needed for a rig that the configuration does not have.",
        )
        .path_text("rig", RIG)
        .body::<PrepareRequest>(json!({"gitUrl": "https://git.example/riverside.git", "defaultBranch": "main"}))
        .body_is_optional()
        .answers::<RigView>(200, "The host has what the remote has.")
        .refuses(404, NO_REPOSITORIES)
        .works_on_repositories()
}

pub(super) fn merge_operation() -> Operation {
    Operation::new(Group::Workspaces, "Merges a branch of a rig's repository into another one")
        .about(
            "The merge is made of the branches as the remote has them, and pushed, without a checkout. It is made again \
             if somebody pushes meanwhile, three times in all. A `source` that `target` has already changes nothing.",
        )
        .path_text("rig", RIG)
        .body::<MergeRequest>(json!({
            "source": "bulkhead/polecat-1", "target": "main", "message": "Merge the repair of the well",
            "author": {"name": "The Mayor", "email": "mayor@riverside.example"}
        }))
        .answers::<MergeAnswer>(200, "The remote's `target` has both sides.")
        .refuses(404, NO_REPOSITORIES)
        .refuses(
            409,
            "Both sides changed the same lines (`conflict`, with `files`), or the remote did not take the result \
             (`rejected`). The remote is as before.",
        )
        .works_on_repositories()
}

pub(super) async fn prepare<B: Backend>(
    State(backend): State<B>,
    PathText(rig): PathText,
    _: NoParams,
    body: WholeBody,
) -> Result<Json<RigView>, Refusal> {
    let request = PrepareRequest::parse(body.as_slice()).map_err(Refusal::invalid_body)?;
    drop(body);
    Ok(Json(backend.prepare_rig(&rig, request).await?))
}

pub(super) async fn merge<B: Backend>(
    State(backend): State<B>,
    PathText(rig): PathText,
    _: NoParams,
    body: WholeBody,
) -> Result<Json<MergeAnswer>, Refusal> {
    let request = MergeRequest::parse(body.as_slice()).map_err(Refusal::invalid_body)?;
    drop(body);
    Ok(Json(backend.merge(&rig, request).await?))
}
