//! The task of a start: one incarnation, and the next ones that its restart policy makes of it.
//!
//! ```text
//!   reserve ─ load ─ acquire the slot ─┐   ┌──────────────── back_off ◀── a restart is due
//!    ▲ │ gave up                       ▼   ▼                              ▲
//!    │ ▼                          instantiate ─ restore ─ start ─▶ serve ─ turn ─ ... ─▶ wind_down
//!   answered, and again when it is due   │                          │                     │
//!                                        └────────── Exit ──────────┴─────────────────────┴──▶ finish
//! ```
//!
//! Each step consumes the incarnation and returns it or the exit. The loop acts on what the steps
//! return; nothing else ends it.

mod awake;
mod backoff;
mod base;
mod delivery;
mod drive;
mod end;
mod first_mail;
mod reserve;
mod run;
mod serve;
mod slot_guard;
mod snapshot;
mod starting;
mod step;
mod task;
#[cfg(test)]
mod tests;
mod trace;
mod workspace;

pub(crate) use task::StartTask;
