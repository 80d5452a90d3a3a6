//! The routes, one file each, with what the document of the API says of them.
//!
//! | call | file |
//! | --- | --- |
//! | `GET /health`, `/livez`, `/readyz` | [`health`], [`livez`], [`readyz`] |
//! | `GET /metrics` | [`metrics`] |
//! | `GET /openapi.json` | [`openapi`] |
//! | `POST /agents/start` | [`start`] |
//! | `POST /agents/{id}/stop` | [`stop`] |
//! | `POST /agents/{id}/message?wait=<ms>` | [`message`] |
//! | `PATCH /agents/{id}/model` | [`model`] |
//! | `PUT /agents/{id}/system-prompt` | [`system_prompt`] |
//! | `POST /dashboard-context` | [`dashboard_context`] |
//! | `POST /sync-config`, and the header `X-Town-Config` of any call | [`sync_config`] |
//! | `POST /refresh-token` | [`refresh_token`] |
//! | `POST /agents/{id}/nudge` | [`nudge`] |
//! | `GET /crashes`, `/crashes/{crashId}`, `/agents/{id}/crashes` | [`crashes`] |
//! | `GET /memory`, `/agents/{id}/memory` | [`memory`] |
//! | `GET /usage` | [`usage`] |
//! | `GET /agents` | [`list`] |
//! | `GET /agents/{id}/status` | [`status`] |
//! | `GET /agents/{id}/events?after=N` | [`events`] |
//! | `GET /events/stream`, `/agents/{id}/events/stream`, `/ws` | [`stream`] |
//! | `POST /tickets` | [`tickets`] |
//! | `GET /v1/models`, `POST /v1/chat/completions` | [`openai`] |
//! | `POST /mcp` | [`mcp`] |
//! | `GET /agents/{id}/files`, `/agents/{id}/diff` | [`files`], [`diff`] |
//! | `POST /agents/{id}/exec` | [`exec`] |
//! | `GET /workspaces`, `DELETE /workspaces/{id}` | [`workspaces`] |
//! | `POST /rigs/{rig}/prepare`, `/rigs/{rig}/merge` | [`rigs`] |
//! | `POST /move` | [`move_town`] |
//! | `POST`, `GET`, `DELETE /roles/{role}/upgrade` | [`upgrade`] |
//! | `GET /console` and what is below it, for people | [`console`](mod@console) |
//! | everything else | [`unknown`] |

use std::sync::Arc;

use axum::handler::Handler;
use axum::routing::get;
use axum::{Extension, Router};

use crate::Backend;
use crate::openapi::{Document, Routes};
use crate::routed::{Routed, Services};

mod console;
mod crashes;
mod dashboard_context;
mod diff;
mod events;
mod exec;
mod files;
mod health;
mod list;
mod livez;
mod mcp;
mod memory;
mod message;
mod metrics;
mod model;
mod move_town;
mod nudge;
mod openai;
mod openapi;
mod readyz;
mod refresh_token;
mod rigs;
mod start;
mod status;
mod stop;
mod stream;
mod sync_config;
mod system_prompt;
mod tickets;
mod unknown;
mod upgrade;
mod usage;
mod workspaces;

pub(crate) use console::{router as console, to_console, to_login};
pub(crate) use livez::alive;
pub(crate) use mcp::Tools;
pub(crate) use metrics::of_standby;
pub(crate) use sync_config::Problems;
pub(crate) use upgrade::takes_component;

/// All routes on `backend`. `console` are the pages; `services` have no tools yet.
pub(crate) fn router<B: Backend>(
    backend: B,
    services: Services,
    problems: Problems,
    tools: Tools,
    console: Router<B>,
) -> Routed {
    let router = routes()
        .0
        .merge(console)
        .fallback(unknown::path)
        .method_not_allowed_fallback(unknown::method)
        .with_state(backend.clone());
    // Its tools call the other routes.
    let others = Services {
        town: services.town.clone(),
        streams: services.streams.clone(),
        slots: services.slots.clone(),
        starts: services.starts.clone(),
        tools: None,
    };
    let others = Routed { router: router.clone(), services: Arc::new(others), from_header: None };
    let services = Arc::new(Services { tools: tools.on(others), ..services });
    let from_header = sync_config::from_header(backend, problems);
    Routed { router, services, from_header: Some(from_header) }
}

/// The routes, and the document that says what they are.
pub(crate) fn routes<B: Backend>() -> (Router<B>, Document) {
    let document = Document::default();
    let router = Routes::new(document.clone())
        .get("/health", health::get::<B>, health::operation)
        .get("/livez", livez::get, livez::operation)
        .get("/readyz", readyz::get::<B>, readyz::operation)
        .get("/metrics", metrics::get::<B>, metrics::operation)
        .get("/openapi.json", openapi::get.layer(Extension(document.clone())), openapi::operation)
        .post("/agents/start", start::post::<B>, start::operation)
        .get("/agents", list::get::<B>, list::operation)
        .get("/agents/{id}/status", status::get::<B>, status::operation)
        .post("/agents/{id}/stop", stop::post::<B>, stop::operation)
        .post("/agents/{id}/message", message::post::<B>, message::operation)
        .post("/agents/{id}/nudge", nudge::post::<B>, nudge::operation)
        .get("/agents/{id}/events", events::get::<B>, events::operation)
        .get("/agents/{id}/events/stream", stream::agent::<B>, stream::agent_operation)
        .get("/events/stream", stream::all::<B>, stream::all_operation)
        .get("/ws", stream::socket::<B>, stream::socket_operation)
        .post("/tickets", tickets::post, tickets::operation)
        .get("/v1/models", openai::models::<B>, openai::models_operation)
        .get("/v1/models/{model}", openai::model::<B>, openai::model_operation)
        .post("/v1/chat/completions", openai::complete::<B>, openai::complete_operation)
        .post("/mcp", mcp::post, mcp::operation)
        .patch("/agents/{id}/model", model::patch::<B>, model::operation)
        .put("/agents/{id}/system-prompt", system_prompt::put::<B>, system_prompt::operation)
        .post("/dashboard-context", dashboard_context::post::<B>, dashboard_context::operation)
        .post("/sync-config", sync_config::post::<B>, sync_config::operation)
        .post("/move", move_town::post::<B>, move_town::operation)
        .post("/refresh-token", refresh_token::post, refresh_token::operation)
        .get("/crashes", crashes::list::<B>, crashes::list_operation)
        .get("/agents/{id}/crashes", crashes::of_agent::<B>, crashes::of_agent_operation)
        .get("/crashes/{crashId}", crashes::one::<B>, crashes::one_operation)
        .get("/memory", memory::container::<B>, memory::container_operation)
        .get("/agents/{id}/memory", memory::agent::<B>, memory::agent_operation)
        .get("/usage", usage::get::<B>, usage::operation)
        .get("/workspaces", workspaces::list::<B>, workspaces::list_operation)
        .delete("/workspaces/{id}", workspaces::remove::<B>, workspaces::remove_operation)
        .get("/agents/{id}/files", files::get::<B>, files::operation)
        .get("/agents/{id}/diff", diff::get::<B>, diff::operation)
        .post("/agents/{id}/exec", exec::post::<B>, exec::operation)
        .post("/rigs/{rig}/prepare", rigs::prepare::<B>, rigs::prepare_operation)
        .post("/rigs/{rig}/merge", rigs::merge::<B>, rigs::merge_operation)
        .post(
            "/roles/{role}/upgrade",
            upgrade::post::<B>.layer(Extension(upgrade::Arrivals::default())),
            upgrade::post_operation,
        )
        .get("/roles/{role}/upgrade", upgrade::get::<B>, upgrade::get_operation)
        .delete("/roles/{role}/upgrade", upgrade::delete::<B>, upgrade::delete_operation)
        .finish();
    (router, document)
}

/// The routes of the listener for probes.
pub(crate) fn probes<B: Backend>(backend: B, services: Services) -> Routed {
    let router = Router::new()
        .route("/health", get(health::get::<B>))
        .route("/livez", get(livez::get))
        .route("/readyz", get(readyz::get::<B>))
        .route("/metrics", get(metrics::get::<B>))
        .fallback(unknown::path)
        .method_not_allowed_fallback(unknown::method)
        .with_state(backend);
    Routed { router, services: Arc::new(services), from_header: None }
}
