//! Durable state: what is still there after the process is gone.
//!
//! - [`journal`]: a mapped file with the messages whose turn is not over, through SIGKILL
//! - [`database`]: agents, snapshots and crash records, through SIGKILL and over runs
//! - [`crashes`]: the crash records of this run and of earlier ones
//! - [`ownership`]: whose a path on the disk is, for messages
//!
//! Nothing here knows agents, engines or logs. Nothing here ends the process: a full disk and a broken
//! file are values that the caller gets.

pub mod crashes;
pub mod database;
pub mod journal;
pub mod ownership;

pub use crashes::CrashStore;
pub use database::Database;
pub use journal::Journal;
