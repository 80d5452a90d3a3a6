//! `GET /usage?agent=&role=`: calls of language models by agent, role, endpoint and model, and how much of each budget
//! is used. An unknown agent or role has an empty list: its entries may be there when it is forgotten.

use axum::extract::State;
use axum::response::Response;
use bulkhead_api::UsageView;
use bulkhead_supervisor::UsageFilter;

use crate::Backend;
use crate::answer::Refusal;
use crate::long;
use crate::openapi::{Group, Operation};
use crate::params::{Kind, Param, Params};

const AGENT: Param = Param::new("agent", Kind::Agent, "Only entries of this agent.");
const ROLE: Param = Param::new("role", Kind::Text, "Only entries of this role.");
const QUERY: &[Param] = &[AGENT, ROLE];

pub(super) fn operation() -> Operation {
    Operation::new(Group::Diagnosis, "Returns the calls of language models, and how much of each budget is used")
        .about(
            "Calls are counted by agent, role, endpoint and model, with earlier runs of the host. \
             `agentId` is `null` in entries of agents that have none of their own any more; `role` is `null` for the \
             container. Costs are in billionths of the unit in which prices are configured. See \
             [Usage and budgets](usage.md).",
        )
        .query(QUERY)
        .answers::<UsageView>(200, "The use.")
}

pub(super) async fn get<B: Backend>(
    State(backend): State<B>,
    params: Params,
) -> Result<Response, Refusal> {
    let params = params.only(QUERY)?;
    let filter = UsageFilter { agent: params.agent(&AGENT)?, role: params.text(&ROLE) };
    long::json(move || backend.usage(&filter)).await
}
