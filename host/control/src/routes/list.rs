//! `GET /agents?after=&limit=`: agents that are known, by their ids, ended ones included. Without a limit all of
//! them, as the original answers. When there are more, the header `Link` says where.

use axum::extract::State;
use axum::response::Response;
use bulkhead_api::AgentList;
use hyper::header::{HeaderValue, LINK};

use crate::Backend;
use crate::answer::Refusal;
use crate::long;
use crate::openapi::{Group, Operation};
use crate::params::{Kind, Param, Params};

/// Largest `limit`.
const MAX_LIMIT: u64 = 10_000;

const AFTER: Param = Param::new("after", Kind::Agent, "Only agents with a greater id.");
const LIMIT: Param =
    Param::new("limit", Kind::Number(1, MAX_LIMIT), "Most agents in the response; all by default.");
const QUERY: &[Param] = &[AFTER, LIMIT];

pub(super) fn operation() -> Operation {
    Operation::new(Group::Agents, "Lists all agents that are known, ended ones included")
        .about("They are sorted by id.")
        .query(QUERY)
        .answers::<AgentList>(200, "The agents. The header `Link` has the next page.")
}

pub(super) async fn get<B: Backend>(
    State(backend): State<B>,
    params: Params,
) -> Result<Response, Refusal> {
    let params = params.only(QUERY)?;
    let after = params.agent(&AFTER)?;
    let Some(limit) = params.number(&LIMIT)? else {
        return long::json(move || backend.list(after.as_ref(), usize::MAX)).await;
    };
    let (say, said) = tokio::sync::oneshot::channel();
    let mut response = long::json(move || {
        let most = limit as usize;
        let mut agents = backend.list(after.as_ref(), most.saturating_add(1));
        let more = agents.len() > most;
        agents.truncate(most);
        let _ = say.send(agents.last().filter(|_| more).map(|agent| agent.agent_id.clone()));
        agents
    })
    .await?;
    if let Ok(Some(last)) = said.await {
        // Ids and numbers mean nothing in a URL.
        let next = format!("</agents?after={last}&limit={limit}>; rel=\"next\"");
        response.headers_mut().extend(HeaderValue::try_from(next).ok().map(|next| (LINK, next)));
    }
    Ok(response)
}
