//! The HTTP control server.
//!
//! ```text
//!  clients ──▶ connections ──▶ service ──▶ routes ──▶ Backend (the supervisor)
//!              how many,       token,      one file
//!              how long        body, line  each
//!                 └─ a response without an end ──▶ endless: the thread of streams writes it
//! ```
//!
//! Everything that a client can make larger or slower has a bound: see [`ControlLimits`]. Every answer
//! of 400 and above is JSON of one shape ([`bulkhead_api::ErrorBody`]) and one log line
//! (`container.request_refused`), except what hyper answers by itself to a head that is no HTTP: that
//! one has no body. `docs/api.md` has the routes and their limits.

mod agent;
mod answer;
mod auth;
mod backend;
mod body;
mod config;
mod connection_slots;
mod connections;
mod endless;
mod exposition;
mod long;
mod openapi;
mod origin;
mod params;
mod passes;
mod process;
mod refused;
mod routed;
mod routes;
mod server;
mod service;
mod sessions;
mod socket;
mod standby;
mod start_gate;
mod stream;
mod streams;
mod town;
mod town_header;
mod turn;

#[cfg(test)]
mod tests;

pub use backend::Backend;
pub use config::{ControlConfig, ControlError, ControlLimits, Mcp};
pub use origin::AllowedHost;
pub use server::ControlServer;
pub use standby::{Standby, Waiting};
pub use town::TownEdge;
