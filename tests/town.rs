//! The real host beside a town: boot, merge, heartbeats, tokens, snapshots, shutdown notices, and towns that
//! misbehave.
//!
//! `TOWN_FLAP_SECONDS` makes the flapping longer, `TOWN_FLAP_SEED` repeats it.

mod beside;
mod boot;
mod calls_in_boot;
mod fence;
mod flapping;
mod merge;
mod one_of_ten;
mod reports;
mod secrets;
mod shutdown_notice;
mod snapshots;
mod tls;
mod tokens;
