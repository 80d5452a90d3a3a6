//! Changing the server while it runs, and looking at what it got.
//!
//! | route | what it does |
//! | --- | --- |
//! | `PUT /control/key` with `{"api_key": "…"}` | requires this key from here on; `null`: none |
//! | `GET /control/requests` | `{"requests": […]}`: the last 256, see [`Record`](crate::record::Record) |
//! | `DELETE /control/requests` | forgets them |

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, put};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::server::Shared;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Key {
    api_key: Option<String>,
}

pub(crate) fn routes() -> Router<Shared> {
    Router::new()
        .route("/control/key", put(key))
        .route("/control/requests", get(requests).delete(forget))
}

async fn key(State(shared): State<Shared>, Json(Key { api_key }): Json<Key>) -> StatusCode {
    shared.accept_key(api_key);
    StatusCode::NO_CONTENT
}

async fn requests(State(shared): State<Shared>) -> Json<Value> {
    Json(json!({"requests": shared.log().all()}))
}

async fn forget(State(shared): State<Shared>) -> StatusCode {
    shared.log().clear();
    StatusCode::NO_CONTENT
}
