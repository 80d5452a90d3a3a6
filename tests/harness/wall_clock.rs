//! A wall clock that a test sets, for one host: a small library loaded before the C library, and a file that
//! says by how much it is off. The machine's clock is left alone. The same library makes a disk slow.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use tempfile::TempDir;

/// The library's source.
const SOURCE: &str = include_str!("wall_clock.c");

/// The offset of the probe, in seconds: about 32 years.
const FAR: i64 = 1_000_000_000;

/// A wall clock. Must outlive the hosts that are run by it.
pub struct WallClock {
    dir: Arc<TempDir>,
    /// The name of its file.
    name: String,
    settings: File,
}

impl WallClock {
    /// One that is right. Says why when there can be none, which takes a C compiler and a program loader
    /// that loads libraries before others.
    pub fn new() -> Result<Self, String> {
        let dir = tempfile::Builder::new().prefix("bulkhead-clock-").tempdir();
        let dir = dir.map_err(|error| format!("make a directory: {error}"))?;
        let clock = Self::of(Arc::new(dir), "offset")?;
        clock.build()?;
        clock.set(FAR);
        let (here, there) = (clock.read(&[])?, clock.read(&clock.entrance())?);
        clock.set(0);
        if (there - here - FAR).abs() > 60 {
            return Err(format!("a program that should be {FAR} s ahead is {} s", there - here));
        }
        Ok(clock)
    }

    /// Another one that is right, of the same library, by a name of its own.
    pub fn another(&self, name: &str) -> Result<Self, String> {
        Self::of(Arc::clone(&self.dir), name)
    }

    fn of(dir: Arc<TempDir>, name: &str) -> Result<Self, String> {
        let failed = |error| format!("make a file: {error}");
        let settings = File::create(dir.path().join(name)).map_err(failed)?;
        settings.set_len(16).map_err(failed)?;
        Ok(Self { dir, name: name.to_owned(), settings })
    }

    /// Has each `fsync` of a host take this much longer, by the C library; system calls that go around it do not.
    pub fn set_sync_delay(&self, ms: i64) {
        self.settings.write_all_at(&ms.to_ne_bytes(), 8).expect("write the delay");
    }

    /// Sets it this many seconds ahead of the machine's. A host notices at once.
    pub fn set(&self, seconds: i64) {
        self.settings.write_all_at(&seconds.to_ne_bytes(), 0).expect("write the offset");
    }

    /// A command that becomes its arguments, with this clock: for
    /// [`run_by`](crate::HostBuilder::run_by).
    pub fn entrance(&self) -> Vec<String> {
        let path = |name: &str| self.path(name).to_str().expect("a path in UTF-8").to_owned();
        let library = format!("LD_PRELOAD={}", path("wall_clock.so"));
        vec!["env".into(), library, format!("WALL_CLOCK_OFFSET={}", path(&self.name))]
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn build(&self) -> Result<(), String> {
        let source = self.path("wall_clock.c");
        fs::write(&source, SOURCE).map_err(|error| format!("write a file: {error}"))?;
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O1", "-o"]).arg(self.path("wall_clock.so"));
        run(compiler.arg(source).arg("-ldl")).map(drop)
    }

    /// Seconds since the epoch, as a program says that is run by this command.
    fn read(&self, by: &[String]) -> Result<i64, String> {
        let words: Vec<_> = by.iter().map(String::as_str).chain(["date", "+%s"]).collect();
        let text = run(Command::new(words[0]).args(&words[1..]))?;
        text.trim().parse().map_err(|_| format!("date says {text:?}"))
    }
}

fn run(command: &mut Command) -> Result<String, String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| format!("run {program}: {error}"))?;
    if !output.status.success() {
        return Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
