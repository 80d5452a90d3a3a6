//! `POST /move`: 202 when the town begins to move. The body is not read.

use axum::Json;
use axum::extract::State;
use bulkhead_api::MoveAnswer;
use hyper::StatusCode;

use crate::Backend;
use crate::answer::Refusal;
use crate::openapi::{Group, Operation};
use crate::params::NoParams;

pub(super) fn operation() -> Operation {
    Operation::new(Group::Settings, "Hands the town over to another copy")
        .about(
            "The host ends its agents in order, ships what is left with `[ship]`, gives the lease back, and waits for it again, as \
             `GET /readyz` says. If no other copy takes it within 30 % of its TTL, this one does. The body is ignored.",
        )
        .answers::<MoveAnswer>(202, "The move has begun.")
        .refuses(409, "The host runs under no lease, so no other copy waits for its town (`no-lease`).")
}

pub(super) async fn post<B: Backend>(
    State(backend): State<B>,
    _: NoParams,
) -> Result<(StatusCode, Json<MoveAnswer>), Refusal> {
    let Some(epoch) = backend.give_up() else {
        let error = "this host runs under no lease, so no other copy waits for its town";
        let refusal = Refusal::new(StatusCode::CONFLICT, error).kind("no-lease");
        return Err(
            refusal.action("configure [lease], or end the host by SIGTERM and start it elsewhere")
        );
    };
    Ok((StatusCode::ACCEPTED, Json(MoveAnswer { epoch })))
}
