//! `POST /agents/{id}/exec`: runs a program as the agent would: one of its tools, in its workspace, under its limits. It
//! ends with the agent, and when the client goes away.

use axum::response::Response;
use bulkhead_api::{ExecAnswer, ExecRequest};
use serde_json::json;

use crate::Backend;
use crate::agent::PathAgent;
use crate::answer::Refusal;
use crate::body::WholeBody;
use crate::long;
use crate::openapi::{Group, Operation};
use crate::params::NoParams;

pub(super) fn operation() -> Operation {
    Operation::new(Group::Workspaces, "Runs a program in an agent's workspace, under its limits")
        .about(
            "The response follows the end of the program, with its output up to the role's `tool_output_mb`, at most 4 MiB. The agent \
             runs; its end ends the program, and so does that of the connection, if only of the client's side. The program does not count against \
             `tools_parallel`. It is in the log as a tool of the agent.",
        )
        .known_agent()
        .body::<ExecRequest>(json!({
            "program": "git", "arguments": ["log", "--oneline"], "directory": "src",
            "environment": {"LANG": "C.UTF-8"}, "stdin": ""
        }))
        .answers::<ExecAnswer>(200, "The program has ended, one way or another.")
        .refuses(403, "The agent's role does not list the program (`denied`), or as of all requests.")
        .refuses(409, "The agent does not run (`not-running`), or ended meanwhile (`agent-ended`).")
        .refuses(503, "No program runs now, or eight are run from outside already (`tools-unavailable`), boot may still restore the agent (`not-back-yet`), or too many requests are under way (`busy`).")
        .refuses(422, "The order breaks a rule (`invalid`), or the program cannot be run (`not-found`).")
}

pub(super) async fn post<B: Backend>(
    agent: PathAgent<B>,
    _: NoParams,
    body: WholeBody,
) -> Result<Response, Refusal> {
    let request = ExecRequest::parse(body.as_slice()).map_err(Refusal::invalid_body)?;
    drop(body);
    let (backend, id) = agent.restored().await?;
    let answer = backend.exec(&id, request).await?;
    long::json(move || answer).await
}
