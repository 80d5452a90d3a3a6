//! The real host beside a town: boot, merge, heartbeats, tokens, snapshots, goodbyes, and towns that
//! misbehave.
//!
//! `TOWN_FLAP_SECONDS` makes the flapping longer, `TOWN_FLAP_SEED` repeats it.

#[path = "town/beside.rs"]
mod beside;
#[path = "town/boot.rs"]
mod boot;
#[path = "town/fence.rs"]
mod fence;
#[path = "town/flapping.rs"]
mod flapping;
#[path = "town/goodbye.rs"]
mod goodbye;
#[path = "town/merge.rs"]
mod merge;
#[path = "town/one_of_ten.rs"]
mod one_of_ten;
#[path = "town/secrets.rs"]
mod secrets;
#[path = "town/snapshots.rs"]
mod snapshots;
#[path = "town/telling.rs"]
mod telling;
#[path = "town/tls.rs"]
mod tls;
#[path = "town/tokens.rs"]
mod tokens;
