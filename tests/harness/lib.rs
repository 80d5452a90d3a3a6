//! Runs the real host for a test and talks to it over HTTP.
//!
//! A test is a plain function. It builds a [`Host`], which is the `bulkhead` binary as a process of its
//! own with a configuration in a directory of its own, asks it things over HTTP, waits for lines of its
//! log, and calls [`Host::finish`], which ends it with SIGTERM and checks what holds for every run.
//!
//! - [`config`]: what a test may say about the configuration
//! - [`host`]: the process
//! - [`client`]: the calls of the control API
//! - [`output`]: the log
//! - [`contract`]: the schema that each of its lines keeps to
//! - [`processes`]: what the system says of processes
//! - [`memory_group`]: a bound on memory that the kernel keeps
//! - [`launcher`]: processes that end with the test run
//! - [`incarnations`]: what the log must say of an agent's incarnations
//! - [`metrics`]: what agents take and must give back
//! - [`resident`]: how much memory a process has, and the most that it had
//! - [`runners`]: interpreters whose agents are text files
//! - [`seeds`]: components that are compiled once for all tests
//! - [`Need`]: what a test needs that a machine may lack
//! - [`trial`]: a fault beside a [`Bystander`] that must not notice
//! - [`wall_clock`]: a wall clock that jumps
//! - [`files`]: where the binary and the components are
//! - [`puppet`]: turns that last as long as a test wants
//!
//! Nothing here sleeps and hopes. Every wait is for a fact, with a [`PATIENCE`] that only a broken host
//! uses up.

pub mod client;
pub mod config;
pub mod contract;
pub mod files;
pub mod host;
pub mod incarnations;
pub mod memory_group;
pub mod metrics;
pub mod output;
pub mod processes;
pub mod puppet;
pub mod resident;
pub mod runners;
pub mod seeds;
pub mod streams;
pub mod trial;
pub mod wall_clock;

use std::time::{Duration, Instant};

pub use client::{Answer, Metrics};
pub use config::HostBuilder;
pub use host::Host;
pub use model_server::ModelServer;
pub use model_server::record::{End, Record};
pub use serde_json::{Value, json};
pub use support::{Need, free_address, launcher, skip};
pub use trial::{Bystander, Trial};

/// How long a wait may take before it is a failure. Long: the machine may be busy with other tests.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Between two checks of what is waited for.
const CHECK: Duration = Duration::from_millis(5);

/// Waits until `check` finds what no log line says, and returns it. While it does not, it answers with what it saw
/// instead: a wait that fails shows the last of that.
#[track_caller]
pub fn wait_for<T, S: std::fmt::Display>(what: &str, mut check: impl FnMut() -> Result<T, S>) -> T {
    let began = Instant::now();
    loop {
        let seen = match check() {
            Ok(found) => return found,
            Err(seen) => seen,
        };
        let waited = began.elapsed();
        assert!(waited < PATIENCE, "after {waited:.1?} still not: {what}; last seen: {seen}");
        std::thread::sleep(CHECK);
    }
}

/// The same for what holds or does not.
#[track_caller]
pub fn wait_until(what: &str, holds: impl Fn() -> bool) {
    wait_for(what, || if holds() { Ok(()) } else { Err("no more than that it does not hold") });
}

/// A scripted model server on the loopback interface, in this process.
pub fn model_server() -> ModelServer {
    ModelServer::start(model_server::Options::default()).expect("start the model server")
}

/// The same with a key that it insists on.
pub fn model_server_with_key(key: &str) -> ModelServer {
    let options = model_server::Options { api_key: Some(key.to_owned()) };
    ModelServer::start(options).expect("start the model server")
}
