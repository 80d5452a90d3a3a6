//! What a call of git wrote.

use crate::error::{Error, MAX_FILES};
use crate::name::Oid;

/// What git wrote.
#[derive(Debug)]
pub(crate) struct Output {
    pub status: i32,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    /// There is more than the limit allows.
    pub cut: bool,
}

impl Output {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).unwrap_or_default().trim_end()
    }

    /// The one object id that git wrote.
    pub fn oid(&self, command: &'static str) -> Result<Oid, Error> {
        Oid::parse(&self.stdout).ok_or_else(|| Error::GitFailed {
            command,
            status: "status 0".to_owned(),
            words: "no object id".to_owned(),
        })
    }
}

/// Names with a NUL behind each, a bounded number of them.
pub(crate) fn file_names(bytes: &[u8]) -> Vec<String> {
    let names = bytes.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    names.take(MAX_FILES).map(|name| String::from_utf8_lossy(name).into_owned()).collect()
}
