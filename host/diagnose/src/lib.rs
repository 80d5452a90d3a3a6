//! Reads the log lines of containers and says why they restart.
//!
//! Pure: what is read and what is reported are handed in and out, and no clock, file or terminal is touched. It
//! takes the lines of this host and of the original container, mixed with plain text, out of order, truncated,
//! doubled, of several runs and towns, in one piece or many, with or without gzip.
//!
//! ```text
//! read      bytes to lines to findings, on two threads; passes over what nobody asks for
//! collect   findings to bounded cells: what, of whom, in which second
//! runs      cells to towns and their runs
//! judge     every rule of `rules` about every run that ended
//! report    JSON, text, a page with pictures
//! ```
//!
//! Memory has a bound that does not depend on the input: pieces under way, cells, names, numbers of lines each
//! have theirs, and when the cells are full the seconds they stand for become longer.

mod collect;
mod curve;
mod judge;
mod read;
mod report;
pub mod rules;
mod runs;
mod words;

pub use judge::Confidence;
pub use read::source::Input;
pub use read::stamp::parse as parse_time;
pub use report::{
    AgentCount, Evidence, InputCounts, Intervals, Ongoing, Report, Restart, SCHEMA, Summary,
    Undecided, Verdict, schema,
};

use std::io;

use collect::Collected;
use read::Read;

/// What is wanted.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Only this town.
    pub town: Option<String>,
    /// Only restarts from this moment on, in milliseconds since 1970. Evidence is taken from all lines.
    pub since: Option<i64>,
    /// Only restarts until this moment, likewise.
    pub until: Option<i64>,
}

/// What happens on the way.
#[derive(Debug)]
pub enum Progress<'a> {
    /// So much was read of this input and those before it.
    Read {
        /// Name of the input.
        name: &'a str,
        /// Bytes so far, of all of them, after unpacking.
        bytes: u64,
    },
    /// This input could not be read, or not to its end. What came before is used.
    Failed {
        /// Name of the input.
        name: &'a str,
        /// Why.
        error: &'a io::Error,
    },
}

/// No input can be made sense of.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub struct NothingRead {
    reason: String,
}

/// Reads all inputs and judges every restart in them.
///
/// # Errors
///
/// When there is nothing in any of them that looks like a line of a log, or nothing of the town that is wanted.
pub fn diagnose(
    inputs: Vec<Input>,
    options: &Options,
    mut progress: impl FnMut(Progress<'_>),
) -> Result<Report, NothingRead> {
    let names: Vec<String> = inputs.iter().map(|input| input.name.clone()).collect();
    let mut collected = Collected::default();
    let mut notes = Vec::new();
    read::read(inputs, |read| match read {
        Read::Begin => collected.begin(),
        Read::Lines { input, scanned } => {
            collected.take(input, *scanned);
            progress(Progress::Read { name: &names[input], bytes: collected.counts.bytes });
        }
        Read::Failed { input, error } => {
            let name = &names[input];
            notes.push(format!("{name} could not be read to its end: {error}"));
            progress(Progress::Failed { name, error: &error });
        }
    });
    // Times of lines that nothing was read of are nobody's.
    let is_wrapped = |unread: &Option<u64>| unread.is_some_and(|unread| unread > 0);
    let wrapped: Vec<_> = collected.unread.iter().map(is_wrapped).collect();
    let known = collected.known.iter().zip(&wrapped);
    let known: Vec<_> = known.map(|(known, wrapped)| *known > 0 && !wrapped).collect();
    let unknown: Vec<_> = names.iter().zip(&known).filter(|(_, known)| !**known).collect();
    if unknown.len() == names.len() {
        let lines = collected.counts.lines;
        let reason = match lines {
            0 => "there is no line to read".to_owned(),
            _ if wrapped.contains(&true) => {
                format!(
                    "none of {lines} lines is a record, and some hold words of records: {UNWRAP}"
                )
            }
            lines => {
                format!("none of {lines} lines is one of a log: no time, run or event in them")
            }
        };
        let failed = notes.first().map_or_else(String::new, |note| format!(" ({note})"));
        return Err(NothingRead { reason: format!("{reason}{failed}") });
    }
    notes.extend(names.iter().zip(known.iter().zip(&wrapped)).filter_map(|(name, of)| match of {
        (true, _) => None,
        (false, true) => Some(format!("{name} holds words of records and no record: {UNWRAP}")),
        (false, false) => Some(format!("{name} has no line of a log")),
    }));
    if collected.cells.dropped > 0 {
        notes.push(format!("{} findings were more than can be kept", collected.cells.dropped));
    }
    if collected.counts.overlong > 0 {
        notes.push(format!("{} lines are too long and were cut", collected.counts.overlong));
    }
    let doubled = collected.cells.doubled;
    let towns = runs::cut(&mut collected);
    if let Some(wanted) = &options.town {
        check_town(wanted, &collected, &towns.0)?;
    }
    Ok(report::build(&collected, &names, &towns, doubled, options, notes))
}

/// What to do with a log whose records are in something that is not known.
const UNWRAP: &str = "make each record a line of its own, as the host wrote it (JSON that is spread over lines: `jq -c .`; \
                      a list: `jq -c '.[]'`; a page for people says nothing)";

/// Towns that an error names.
const NAMED: usize = 10;

fn check_town(wanted: &str, all: &Collected, towns: &[runs::Town]) -> Result<(), NothingRead> {
    let names = || towns.iter().filter_map(|town| Some(all.texts.towns.text(town.name?)));
    if names().any(|name| name == wanted) {
        return Ok(());
    }
    let known: Vec<_> = names().take(NAMED).collect();
    let more = if names().count() > NAMED { ", ..." } else { "" };
    let there = match known.is_empty() {
        true => "no line names its town".to_owned(),
        false => format!("there are: {}{more}", known.join(", ")),
    };
    Err(NothingRead { reason: format!("no line is of town {wanted}; {there}") })
}
