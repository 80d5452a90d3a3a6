//! Small text files of the kernel, and what can be wrong with them.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::str::FromStr;

use rustix::io::Errno;

use super::open::OpenFiles;

/// Longest file that is read. The longest that a kernel writes is the list of mounts.
const MAX_BYTES: usize = 1024 * 1024;

/// Faults that are remembered. Beyond it nothing new is noted: by then everything has been reported.
const MAX_FAULTS: usize = 64;

/// A source that is there and gave no figure.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    /// The file.
    pub source: String,
    /// What is wrong with it. The same words each time, and nothing of what the file says.
    pub error: String,
}

/// What was wrong so far, each source and cause once; and what stays open of the sources.
#[derive(Debug, Default)]
pub struct Faults {
    seen: BTreeSet<Fault>,
    new: Vec<Fault>,
    ignored: bool,
    files: OpenFiles,
}

impl Faults {
    /// Notes nothing: for those who only want what there is.
    pub(super) fn ignored() -> Self {
        Self { ignored: true, ..Self::default() }
    }

    /// What came since the last call. A cause that was there before does not come again.
    pub fn take_new(&mut self) -> Vec<Fault> {
        std::mem::take(&mut self.new)
    }

    /// Notes that something is wrong with a source.
    pub fn note(&mut self, source: &Path, error: impl Into<String>) {
        if self.ignored || self.seen.len() >= MAX_FAULTS {
            return;
        }
        let fault = Fault { source: source.display().to_string(), error: error.into() };
        if self.seen.insert(fault.clone()) {
            self.new.push(fault);
        }
    }

    /// All of a file. Absent without a word when it is not there.
    pub(super) fn text(&mut self, path: &Path) -> Option<String> {
        match self.files.read(path, MAX_BYTES) {
            Err(error) if is_absent(&error) => return None,
            Err(error) => self.note(path, format!("it cannot be read: {error}")),
            Ok(bytes) if bytes.len() > MAX_BYTES => self.note(path, "it is longer than 1 MiB"),
            Ok(bytes) => match String::from_utf8(bytes) {
                Ok(text) => return Some(text),
                Err(_) => self.note(path, "it is no text"),
            },
        }
        None
    }

    /// The number that is all of a file.
    pub(super) fn number(&mut self, path: &Path) -> Option<u64> {
        let text = self.text(path)?;
        self.parsed(path, "it", text.trim())
    }

    /// The number after `key` at the beginning of a line of `text`, which must be there.
    pub(super) fn word(&mut self, path: &Path, text: &str, key: &str) -> Option<u64> {
        if value(text, key).is_none() {
            self.note(path, format!("it does not say {key}"));
        }
        self.word_if_any(path, text, key)
    }

    /// The same of a key that some kernels do not have.
    pub(super) fn word_if_any(&mut self, path: &Path, text: &str, key: &str) -> Option<u64> {
        self.parsed(path, key, value(text, key)?)
    }

    pub(super) fn parsed<N: FromStr>(&mut self, path: &Path, what: &str, text: &str) -> Option<N> {
        let number = text.parse().ok();
        if number.is_none() {
            self.note(path, format!("{what} is no number"));
        }
        number
    }
}

/// The word after `key`, at the beginning of a line. Empty when the line ends there.
fn value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        (words.next()? == key).then(|| words.next().unwrap_or_default())
    })
}

/// Whether a file is not there. Pressure that is switched off has a file that says so when it is read.
fn is_absent(error: &io::Error) -> bool {
    let absent = [Errno::NOENT, Errno::NOTDIR, Errno::OPNOTSUPP, Errno::NOTSUP];
    absent.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}
