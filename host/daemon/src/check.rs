//! `bulkhead check` and `bulkhead compile`: what can be known without running anything.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use bulkhead_events::{SharedSink, Sink};
use bulkhead_model::Event;
use bulkhead_runtime::{Runtime, RuntimeConfig};

use crate::config::{self, Settings};
use crate::exit::Exit;
use crate::failure::Failure;

/// Checks the configuration and every component.
pub fn check(path: &Path) -> Result<Exit, Failure> {
    let mut settings = config::load(path)?;
    println!(
        "{}: {} components, {} roles, {} agents",
        path.display(),
        settings.catalog.components.len(),
        settings.catalog.roles.len(),
        settings.agents.len()
    );
    // Nothing is written by a check.
    settings.runtime.aot_dir = None;
    load_all(&settings)
}

/// Compiles every component into the state directory.
pub fn compile(path: &Path) -> Result<Exit, Failure> {
    let settings = config::load(path)?;
    let exit = load_all(&settings)?;
    if let Some(dir) = &settings.runtime.aot_dir {
        println!("compiled components are in {}", dir.display());
    }
    Ok(exit)
}

/// Loads every component and says what came of each; one that fails does not hide the others.
fn load_all(settings: &Settings) -> Result<Exit, Failure> {
    // No instance is made, so the pool can be small.
    let config = RuntimeConfig { max_agents: 1, ..settings.runtime.clone() };
    let runtime = Runtime::new(&config, Arc::new(Rejections) as SharedSink)
        .map_err(|error| Failure::cannot_run("cannot build the runtime", &error))?;
    let mut failed = 0;
    for (name, path) in &settings.catalog.components {
        let began = Instant::now();
        match runtime.load_blocking(name, path) {
            Ok(loaded) => {
                println!("component {name}: ok, sha256 {}, {:.1?}", loaded.digest, began.elapsed());
            }
            Err(error) => {
                failed += 1;
                println!("{error}");
            }
        }
    }
    runtime.shut_down();
    match failed {
        0 => Ok(Exit::Clean),
        1 => Err(Failure::bad_input("1 component is wrong")),
        many => Err(Failure::bad_input(format!("{many} components are wrong"))),
    }
}

/// Shows what was wrong with the compile cache, and nothing else.
struct Rejections;

impl Sink for Rejections {
    fn record(&self, event: Event) {
        if let Event::CacheEntryRejected { path, reason } = event {
            println!("compile cache: {path}: {reason}; it is made anew");
        }
    }
}
