//! Every guest against the real host, over HTTP. One folder for each; `build.rs` sees to it that none
//! is missing.

#[path = "asks/mod.rs"]
mod asks;
#[path = "broken/mod.rs"]
mod broken;
#[path = "command/mod.rs"]
mod command;
#[path = "echo/mod.rs"]
mod echo;
#[path = "exit-code/mod.rs"]
mod exit_code;
#[path = "hang/mod.rs"]
mod hang;
#[path = "hog/mod.rs"]
mod hog;
#[path = "host-error/mod.rs"]
mod host_error;
#[path = "ignores-stop/mod.rs"]
mod ignores_stop;
#[path = "leak/mod.rs"]
mod leak;
#[path = "log-flood/mod.rs"]
mod log_flood;
#[path = "mayor/mod.rs"]
mod mayor;
#[path = "models/mod.rs"]
mod models;
#[path = "oom/mod.rs"]
mod oom;
#[path = "polecat/mod.rs"]
mod polecat;
#[path = "puppet/mod.rs"]
mod puppet;
#[path = "slow-start/mod.rs"]
mod slow_start;
#[path = "spin/mod.rs"]
mod spin;
#[path = "stack/mod.rs"]
mod stack;
#[path = "toolbox/mod.rs"]
mod toolbox;
#[path = "trap/mod.rs"]
mod trap;
