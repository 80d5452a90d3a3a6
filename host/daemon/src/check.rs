//! `bulkhead check` and `bulkhead compile`: what can be known without running anything.
//!
//! Both fill the compile cache, so that the first start does not wait for it. A check does without where it cannot.

use std::fs::{self, DirBuilder, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bulkhead_log::{SharedSink, Sink};
use bulkhead_memory::{Faults, Kernel};
use bulkhead_runtime::{Loaded, Runtime, RuntimeConfig, RuntimeError};
use bulkhead_source::{Source, SourceCode};
use bulkhead_types::Event;
use bulkhead_types::error::chain;
use parking_lot::Mutex;
use tokio::time::timeout;

use crate::cli::{CheckArgs, CompileArgs};
use crate::components::{Components, Missing};
use crate::config::{self, ModelEndpoint, Settings};
use crate::exit::Exit;
use crate::failure::{Failure, print};
use crate::model_calls;
use crate::places;
use crate::reach::{self, Finding};
use crate::state_dir::foreign;

/// How long a registry may take before a person is told what is waited for.
const QUIET: Duration = Duration::from_secs(2);

/// Checks the configuration and every component, and with `--models` that each model endpoint answers.
pub fn check(args: &CheckArgs) -> Result<Exit, Failure> {
    let path = &args.config;
    let settings = config::load(path)?;
    say(&format!(
        "{}: components {}, roles {}, agents {}",
        path.display(),
        settings.catalog.components.len(),
        settings.catalog.roles.len(),
        settings.agents.len()
    ))?;
    // A call reaches its endpoint as well.
    let wrong = match args.models {
        true => reach_all(&settings, &[])? + call_all(&settings)?,
        false => reach_all(&settings, &settings.models)?,
    };
    let wrong = wrong + read_all(&settings)?;
    let unfit = foreign::refuse(&settings.state_dir).err();
    let is_fit = unfit.is_none();
    let found: Vec<_> = unfit.into_iter().chain(places::look(&settings)).collect();
    for line in &found {
        say(line)?;
    }
    // Nothing is put where no host puts anything.
    let (cache, missing) = match is_fit {
        true => (Cache::Welcome, fetch_all(&settings)?),
        false => (Cache::None, 0),
    };
    let wrong = wrong + found.len() + missing + look_at_logins(&settings)?;
    let exit = load_all(&settings, cache)?;
    match wrong {
        0 => Ok(exit),
        wrong => Err(Failure::bad_input(format!("{wrong} of the above failed"))),
    }
}

/// Reads the source code of every role that has some, and says what came of each. Returns how many cannot be used.
fn read_all(settings: &Settings) -> Result<usize, Failure> {
    let mut wrong = 0;
    for (name, role) in &settings.catalog.roles {
        let Some(SourceCode { path, language }) = &role.source else { continue };
        match Source::read(path, *language) {
            Ok(source) => {
                let (files, entry) = (source.files().len(), source.entry());
                say(&format!("role {name}: source ok, {files} files, begins with {entry}"))?;
            }
            Err(error) => {
                wrong += 1;
                say(&format!("role {name}: source: {}", chain(&error)))?;
            }
        }
    }
    Ok(wrong)
}

/// Calls every model endpoint and says at once what came of it. Returns how many calls failed.
fn call_all(settings: &Settings) -> Result<usize, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::cannot_run("cannot call the models", &error))?;
    let mut wrong = 0;
    for endpoint in &settings.models {
        let name = &endpoint.settings.name;
        let Some(model) = settings.runtime.models.get(name) else { continue };
        match runtime.block_on(model_calls::call(&endpoint.settings, model)) {
            Ok(line) => say(&line)?,
            Err(line) => {
                wrong += 1;
                say(&line)?;
            }
        }
    }
    // A look-up may still be under way.
    runtime.shutdown_background();
    Ok(wrong)
}

/// Fetches the components that registries have, and says what came of each. Returns how many are not there.
fn fetch_all(settings: &Settings) -> Result<usize, Failure> {
    if settings.components.wanted.is_empty() {
        return Ok(0);
    }
    let components = Components::of(settings);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::cannot_run("cannot ask registries", &error))?;
    let missing = runtime.block_on(async {
        let fetched = components.fetch(Duration::MAX);
        tokio::pin!(fetched);
        match timeout(QUIET, &mut fetched).await {
            Ok(missing) => Ok::<_, Failure>(missing),
            Err(_) => {
                say("components are being fetched; a registry that does not answer is tried for two minutes")?;
                Ok(fetched.await)
            }
        }
    })?;
    for line in components.there() {
        say(&line)?;
    }
    for Missing { name, reason } in &missing {
        say(&format!("component {name}: {reason}"))?;
    }
    // A look-up may still be under way.
    runtime.shutdown_background();
    Ok(missing.len())
}

/// Reads files of credentials, which a host reads when a registry wants some. Returns how many are none.
fn look_at_logins(settings: &Settings) -> Result<usize, Failure> {
    let registries = &settings.components.registries;
    let listed = registries.registries.iter().map(|(name, access)| (&**name, access));
    let mut wrong = 0;
    for (name, access) in listed.chain([("*", &registries.others)]) {
        if let Err(error) = access.login.check() {
            wrong += 1;
            say(&format!("registries.{name}.credentials_file: {error}"))?;
        }
    }
    Ok(wrong)
}

/// Fetches them for a command that is of no use without them.
fn fetch_needed(settings: &Settings) -> Result<(), Failure> {
    match fetch_all(settings)? {
        0 => Ok(()),
        missing => Err(Failure::bad_input(format!("{missing} of the above failed"))),
    }
}

/// Says what the configuration wants to reach, and what came of trying. Returns how much of it cannot work.
fn reach_all(settings: &Settings, models: &[ModelEndpoint]) -> Result<usize, Failure> {
    let found = reach::look(settings, models)
        .map_err(|error| Failure::cannot_run("cannot check the network", &error))?;
    let mut wrong = 0;
    for finding in found {
        match finding {
            Finding::Fine(line) => say(&line)?,
            Finding::Warning(line) => say(&format!("warning: {line}"))?,
            Finding::Wrong(line) => {
                wrong += 1;
                say(&line)?;
            }
        }
    }
    Ok(wrong)
}

/// What the compile cache is for a command.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cache {
    /// Nothing may be put there.
    None,
    /// It is filled where that is possible: a check may be made where nothing can be written.
    Welcome,
    /// Filling it is what the command is for.
    Needed,
}

/// Compiles every component into the state directory, or into one to ship.
pub fn compile(args: &CompileArgs) -> Result<Exit, Failure> {
    let settings = config::load(&args.config)?;
    if let Some(dir) = &args.out {
        return compile_into(dir, settings);
    }
    foreign::refuse(&settings.state_dir).map_err(|why| Failure::new(Exit::CannotRun, why))?;
    fetch_needed(&settings)?;
    let exit = load_all(&settings, Cache::Needed)?;
    if let Some(dir) = &settings.runtime.aot_dir {
        say(&format!("compiled components are in {}", dir.display()))?;
    }
    Ok(exit)
}

/// Compiles every component that has no entry in `dir` yet, and moves the entries there when all are done.
fn compile_into(dir: &Path, mut settings: Settings) -> Result<Exit, Failure> {
    let cannot = |error: std::io::Error| {
        Failure::cannot_run(&format!("cannot write to {}", dir.display()), &error)
    };
    DirBuilder::new().recursive(true).create(dir).map_err(cannot)?;
    let new = tempfile::Builder::new().prefix(".compiling-").tempdir_in(dir).map_err(cannot)?;
    fetch_needed(&settings)?;
    settings.runtime.aot_dir = Some(new.path().to_owned());
    settings.runtime.aot_seed = Some(dir.to_owned());
    let exit = load_all(&settings, Cache::Needed)?;
    for entry in fs::read_dir(new.path()).map_err(cannot)? {
        let entry = entry.map_err(cannot)?;
        // Hosts of other users read it.
        fs::set_permissions(entry.path(), Permissions::from_mode(0o644)).map_err(cannot)?;
        fs::rename(entry.path(), dir.join(entry.file_name())).map_err(cannot)?;
    }
    fs::set_permissions(dir, Permissions::from_mode(0o755)).map_err(cannot)?;
    let (shown, cpu) = (dir.display(), settings.runtime.cpu.as_str());
    say(&format!("compiled components for {cpu} are in {shown}"))?;
    Ok(exit)
}

/// Loads every component and says what came of each; one that fails does not hide the others.
fn load_all(settings: &Settings, cache: Cache) -> Result<Exit, Failure> {
    // No instance is made, so the pool can be small.
    let limit = Kernel::here()
        .read(&mut Faults::default())
        .within(settings.memory.config.budget_bytes, 0)
        .limit;
    let runtime = settings.runtime(limit.map(|limit| limit.bytes));
    let mut config = RuntimeConfig { max_agents: 1, core_dumps: None, ..runtime };
    config.aot_dir = config.aot_dir.filter(|_| cache != Cache::None);
    let troubles = Arc::new(CacheTroubles::default());
    let build = |config: &RuntimeConfig| Runtime::new(config, Arc::clone(&troubles) as SharedSink);
    let runtime = build(&config).or_else(|error| match (cache, &error) {
        (Cache::Welcome, RuntimeError::Io { source, .. }) => {
            troubles.add(format!("cannot be opened, so nothing is stored: {source}"));
            config.aot_dir = None;
            build(&config)
        }
        _ => Err(error),
    });
    let runtime = runtime.map_err(|error| {
        let dir = settings.state_dir.display();
        Failure::cannot_run(&format!("cannot build the runtime, with state in {dir}"), &error)
    })?;
    let mut wrong = 0;
    for (name, path) in &settings.catalog.components {
        let began = Instant::now();
        match runtime.load_blocking(name, path) {
            Ok(loaded) => {
                let took = began.elapsed();
                say(&format!("component {name}: ok, sha256 {}, {took:.1?}", loaded.digest))?;
                wrong += roles_too_small_for(settings, &loaded)?;
            }
            Err(error) => {
                wrong += 1;
                say(&error.to_string())?;
            }
        }
    }
    runtime.shut_down();
    let troubles = troubles.0.lock();
    for trouble in troubles.iter() {
        say(&format!("compile cache: {trouble}"))?;
    }
    if wrong > 0 {
        return Err(Failure::bad_input(format!("{wrong} of the above failed")));
    }
    let is_stored = !troubles.iter().any(|trouble| trouble.contains("cannot be written"));
    if cache == Cache::Needed && !is_stored {
        return Err(Failure::new(Exit::CannotRun, "not every component could be stored"));
    }
    Ok(Exit::Clean)
}

/// Says which roles give a component less memory than it starts with, and how many they are.
fn roles_too_small_for(settings: &Settings, loaded: &Loaded) -> Result<usize, Failure> {
    let born = loaded.initial_memory_bytes;
    let roles = settings.catalog.roles.iter();
    let mut wrong = 0;
    for (name, role) in roles.filter(|(_, role)| role.component == loaded.name) {
        let limit = role.limits.memory_bytes;
        if born > limit {
            wrong += 1;
            let component = &loaded.name;
            say(&format!(
                "role {name}: component {component} has {born} bytes of initial memory, above the limit of {limit}"
            ))?;
        }
    }
    Ok(wrong)
}

/// Prints a line. A full disk is an end, and no panic.
fn say(text: &str) -> Result<(), Failure> {
    print(&format!("{}\n", bulkhead_printable::lines(text)))
}

/// What was wrong with the compile cache.
#[derive(Default)]
struct CacheTroubles(Mutex<Vec<String>>);

impl CacheTroubles {
    fn add(&self, trouble: String) {
        self.0.lock().push(trouble);
    }
}

impl Sink for CacheTroubles {
    fn record(&self, event: Event) {
        if let Event::CacheEntryRejected { path, reason } = event {
            self.add(format!("{path}: {reason}"));
        }
    }
}
