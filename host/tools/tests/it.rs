//! Real programs in real sandboxes.

#![expect(clippy::unwrap_used, reason = "helpers of tests: a panic is their failure")]

#[path = "it/deaths.rs"]
mod deaths;
#[path = "it/disk.rs"]
mod disk;
#[path = "it/fallback.rs"]
mod fallback;
#[path = "it/hostile.rs"]
mod hostile;
#[path = "it/intrusion.rs"]
mod intrusion;
#[path = "it/leaks.rs"]
mod leaks;
#[path = "it/load.rs"]
mod load;
#[path = "it/machine.rs"]
mod machine;
#[path = "it/ordinary.rs"]
mod ordinary;
#[path = "it/reach.rs"]
mod reach;
#[path = "it/user.rs"]
mod user;
