//! A git server over smart HTTP, for tests: real repositories, served by `git http-backend`.
//!
//! It counts requests, remembers the credentials that clients sent, asks for one, and misbehaves on demand. It runs
//! on a thread of its own; dropping it ends the server.
//!
//! - `server`: the thread, and what a test can ask and change
//! - `answer`: one request
//! - `cgi`: `git http-backend` and its output
//! - `body`: an answer that is slow or ends early
//! - `state`: what the two sides share
//! - [`demo`]: a project with a bug, for tests and for `just run`

mod answer;
mod body;
mod cgi;
pub mod demo;
mod server;
mod state;

pub use server::GitServer;
pub use state::{Counts, Fault};
