//! The commands, one file each.

pub(crate) mod chat;
pub(crate) mod crashes;
pub(crate) mod diff;
pub(crate) mod events;
pub(crate) mod exec;
pub(crate) mod health;
mod input;
pub(crate) mod logs;
pub(crate) mod memory;
pub(crate) mod move_town;
pub(crate) mod nudge;
pub(crate) mod ps;
pub(crate) mod send;
pub(crate) mod start;
pub(crate) mod status;
pub(crate) mod stop;
pub(crate) mod top;
pub(crate) mod upgrade;
pub(crate) mod usage;
pub(crate) mod workspaces;
