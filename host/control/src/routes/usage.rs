//! `GET /usage?agent=&role=`: calls of language models by agent, role, endpoint and model, and how much of each budget
//! is used. An unknown agent or role has an empty list: its entries may be there when it is forgotten.

use axum::extract::State;
use axum::response::Response;
use bulkhead_api::Issue;
use bulkhead_supervisor::UsageFilter;
use bulkhead_types::AgentId;

use crate::Backend;
use crate::answer::Refusal;
use crate::long;
use crate::params::Params;

pub(super) async fn get<B: Backend>(
    State(backend): State<B>,
    params: Params,
) -> Result<Response, Refusal> {
    let params = params.only(&["agent", "role"])?;
    let agent = params.text("agent").map(|text: String| AgentId::parse(&text)).transpose();
    let agent =
        agent.map_err(|error| Refusal::invalid_query([Issue::new("agent", error.to_string())]))?;
    let filter = UsageFilter { agent, role: params.text("role") };
    long::json(move || backend.usage(&filter)).await
}
