//! `bulkhead diagnose`: opens the logs, shows how far it is, prints what was found.

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use bulkhead_diagnose::{Input, Options, Progress, diagnose};
use bulkhead_printable as printable;

use crate::cli::DiagnoseArgs;
use crate::failure::Failure;

/// Exit code when every restart is explained.
const EXPLAINED: u8 = 0;

/// Exit code when one is not.
const UNDECIDED: u8 = 1;

/// Between two checks of the progress line.
const LOOK: Duration = Duration::from_millis(100);

/// Width of the text where there is no terminal.
const COLUMNS: usize = 100;

/// Says why the container restarts.
pub fn run(args: &DiagnoseArgs) -> Result<ExitCode, Failure> {
    let inputs = args.logs.iter().map(|path| open(path)).collect::<Result<Vec<_>, _>>()?;
    let options = Options { town: args.town.clone(), since: args.since, until: args.until };
    let mut meter = Meter::new();
    let report = diagnose(inputs, &options, |progress| meter.show(&progress));
    meter.clear();
    let report = report.map_err(|error| Failure::bad_input(error.to_string()))?;
    if let Some(path) = &args.html {
        let page = report.html().map_err(Failure::bad_input)?;
        std::fs::write(path, page).map_err(|error| {
            Failure::bad_input(format!("cannot write {}: {error}", path.display()))
        })?;
    }
    let text = if args.json {
        printable::json(&report.json()).into_owned() + "\n"
    } else {
        report.text(columns())
    };
    // Not the code of other commands: here it would be a verdict.
    bulkhead_terminal::print(&text).map_err(Failure::bad_input)?;
    let code = if report.is_explained() { EXPLAINED } else { UNDECIDED };
    Ok(ExitCode::from(code))
}

fn open(path: &Path) -> Result<Input, Failure> {
    if path == Path::new("-") {
        return Ok(Input::new("stdin", io::stdin()));
    }
    let failed =
        |error: io::Error| Failure::bad_input(format!("cannot read {}: {error}", path.display()));
    let file = File::open(path).map_err(failed)?;
    if file.metadata().map_err(failed)?.is_dir() {
        return Err(Failure::bad_input(format!("{} is a directory", path.display())));
    }
    Ok(Input::new(path.display().to_string(), file))
}

fn columns() -> usize {
    let size = rustix::termios::tcgetwinsize(io::stdout()).map(|size| usize::from(size.ws_col));
    size.ok().filter(|columns| *columns > 0).unwrap_or(COLUMNS)
}

/// A line on stderr that says how far it is, where a person can see it.
struct Meter {
    is_seen: bool,
    shown: Instant,
}

impl Meter {
    fn new() -> Self {
        Self { is_seen: io::stderr().is_terminal(), shown: Instant::now() }
    }

    fn show(&mut self, progress: &Progress<'_>) {
        match progress {
            Progress::Read { name, bytes } if self.is_seen && self.shown.elapsed() >= LOOK => {
                self.shown = Instant::now();
                let megabytes = *bytes as f64 / 1e6;
                let _ = write!(
                    io::stderr(),
                    "\r\x1b[K{megabytes:.0} MB read, {}",
                    printable::line(name)
                );
            }
            Progress::Read { .. } => {}
            Progress::Failed { name, error } => {
                self.clear();
                let text = format!("cannot read {name} to its end, using the part before: {error}");
                eprintln!("bulkhead: {}", printable::line(&text));
            }
        }
    }

    fn clear(&self) {
        if self.is_seen {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}
