//! The routes, one file each.
//!
//! | call | file |
//! | --- | --- |
//! | `GET /health`, `/livez`, `/readyz` | [`health`], [`livez`], [`readyz`] |
//! | `GET /metrics` | [`metrics`] |
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
//! | what the original had and Bulkhead has not | [`not_taken`] |
//! | everything else | [`unknown`] |

use axum::middleware::from_fn_with_state;
use axum::routing::{any, get, patch, post, put};
use axum::{Extension, Router};

use crate::Backend;
use crate::connection_slots::ConnectionSlots;
use crate::start_gate::StartGate;
use crate::streams::Streams;
use crate::town::Town;

mod crashes;
mod dashboard_context;
mod events;
mod health;
mod list;
mod livez;
mod mcp;
mod memory;
mod message;
mod metrics;
mod model;
mod not_taken;
mod nudge;
mod openai;
mod readyz;
mod refresh_token;
mod start;
mod status;
mod stop;
mod stream;
mod sync_config;
mod system_prompt;
mod tickets;
mod unknown;
mod usage;

pub(crate) use mcp::Tools;
pub(crate) use sync_config::Problems;

/// All routes on `backend`. `slots` are those of the connections that the server has.
pub(crate) fn router<B: Backend>(
    backend: B,
    town: Town,
    slots: ConnectionSlots,
    streams: Streams,
    problems: Problems,
    tools: Tools,
) -> Router {
    let routes = Router::new()
        .route("/health", get(health::get::<B>))
        .route("/livez", get(livez::get))
        .route("/readyz", get(readyz::get::<B>))
        .route("/metrics", get(metrics::get::<B>).layer(Extension(slots)))
        .route("/agents", get(list::get::<B>))
        .route("/agents/start", post(start::post::<B>).layer(Extension(StartGate::default())))
        .route("/agents/{id}/stop", post(stop::post::<B>))
        .route("/agents/{id}/message", post(message::post::<B>))
        .route("/agents/{id}/model", patch(model::patch::<B>))
        .route("/agents/{id}/system-prompt", put(system_prompt::put::<B>))
        .route("/dashboard-context", post(dashboard_context::post::<B>))
        .route("/sync-config", post(sync_config::post::<B>))
        .route("/refresh-token", post(refresh_token::post))
        .route("/crashes", get(crashes::list::<B>))
        .route("/crashes/{crash_id}", get(crashes::one::<B>))
        .route("/agents/{id}/crashes", get(crashes::of_agent::<B>))
        .route("/agents/{id}/nudge", post(nudge::post::<B>))
        .route("/memory", get(memory::container::<B>))
        .route("/usage", get(usage::get::<B>))
        .route("/agents/{id}/memory", get(memory::agent::<B>))
        .route("/agents/{id}/status", get(status::get::<B>))
        .route("/agents/{id}/events", get(events::get::<B>))
        .route("/agents/{id}/events/stream", get(stream::agent::<B>))
        .route("/events/stream", get(stream::all::<B>))
        .route("/ws", get(stream::socket::<B>))
        .route("/tickets", post(tickets::post))
        .route("/v1/models", get(openai::models::<B>))
        .route("/v1/models/{model}", get(openai::model::<B>))
        .route("/v1/chat/completions", post(openai::complete::<B>))
        .route("/repos/setup", any(not_taken::git))
        .route("/git/merge", any(not_taken::git))
        .route("/agents/{id}/pty", any(not_taken::terminal))
        .route("/agents/{id}/pty/{*rest}", any(not_taken::terminal));
    let whole = |routes: Router<B>| {
        routes
            .fallback(unknown::path)
            .method_not_allowed_fallback(unknown::method)
            .layer(from_fn_with_state(backend.clone(), sync_config::from_header::<B>))
            .layer(Extension(problems.clone()))
            .layer(Extension(streams.clone()))
            .layer(Extension(town.clone()))
            .with_state(backend.clone())
    };
    // Its tools call the other routes.
    let endpoint = tools.on(whole(routes.clone()));
    let routes = routes.route("/mcp", post(mcp::post).layer(Extension(endpoint)));
    whole(routes)
}

/// The routes of the listener for probes.
pub(crate) fn probes<B: Backend>(
    backend: B,
    town: Town,
    slots: ConnectionSlots,
    streams: Streams,
) -> Router {
    Router::new()
        .route("/health", get(health::get::<B>))
        .route("/livez", get(livez::get))
        .route("/readyz", get(readyz::get::<B>))
        .route("/metrics", get(metrics::get::<B>).layer(Extension(slots)))
        .fallback(unknown::path)
        .method_not_allowed_fallback(unknown::method)
        .layer(Extension(streams))
        .layer(Extension(town))
        .with_state(backend)
}
