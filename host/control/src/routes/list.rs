//! `GET /agents?after=&limit=`: agents that are known, by their ids, ended ones included. Without a limit all of
//! them, as the original answers. When there are more, the header `Link` says where.

use axum::extract::State;
use axum::response::Response;
use bulkhead_api::Issue;
use bulkhead_types::AgentId;
use hyper::header::{HeaderValue, LINK};

use crate::Backend;
use crate::answer::Refusal;
use crate::long;
use crate::params::Params;

/// Largest `limit`.
const MAX_LIMIT: u64 = 10_000;

pub(super) async fn get<B: Backend>(
    State(backend): State<B>,
    params: Params,
) -> Result<Response, Refusal> {
    let params = params.only(&["after", "limit"])?;
    let after = params.text("after").map(|text| AgentId::parse(&text)).transpose();
    let after =
        after.map_err(|error| Refusal::invalid_query([Issue::new("after", error.to_string())]))?;
    let Some(limit) = params.whole_number("limit", MAX_LIMIT)? else {
        return long::json(move || backend.list(after.as_ref(), usize::MAX)).await;
    };
    if limit == 0 {
        return Err(Refusal::invalid_query([Issue::new("limit", "must be at least 1")]));
    }
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
