//! The JavaScript runner: a component whose agent is a text file.
//!
//! ```text
//!   host ──lifecycle──▶ Component ──▶ Interpreter ──▶ Turn ──▶ sdk/runtime.js ──▶ the author's agent.js
//!                                        │  memory as `initialize` left it, see build     │
//!   host ◀──host, model, tools, workspace── natives ◀── sdk/*.js (`@bulkhead/agent`) ◀────┘
//! ```
//!
//! - [`interpreter`]: QuickJS with the SDK loaded; one for each instance
//! - [`turn`]: one call of the lifecycle: runs jobs and timers until the author's promise is settled
//! - [`modules`]: what an `import` means: files of the agent's source, and the SDK
//! - [`typescript`]: takes the types out of a file
//! - [`exceptions`]: what was thrown, as the contract's records
//! - [`http`]: requests of `fetch`, waited for beside timers; [`urls`]: what `URL` is made of
//! - [`natives`]: functions that the SDK is made of; [`bounds`]: what the host would not even read

#[allow(unsafe_code, reason = "generated code")]
mod bindings;
mod bounds;
mod clock;
mod component;
mod exceptions;
mod files;
mod heap;
mod http;
mod imports;
mod interpreter;
mod modules;
mod natives;
mod programs;
mod rejections;
mod turn;
mod typescript;
mod urls;
