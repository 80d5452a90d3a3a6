//! Names that come from outside and become refs and paths.

use std::fmt;
use std::str;

use crate::error::Error;

/// Longest name of a branch, in bytes; a ref is a path below the mirror.
const MAX_BRANCH: usize = 200;

/// Longest name of a rig or an agent, in bytes.
const MAX_SEGMENT: usize = 128;

/// The id of an object: 40 or 64 lower-case hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Oid(String);

impl Oid {
    /// Reads an id. White space around it is allowed.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let text = str::from_utf8(text).ok()?.trim();
        let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        (matches!(text.len(), 40 | 64) && text.bytes().all(is_hex)).then(|| Self(text.to_owned()))
    }

    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Oid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Checks the name of a branch by the rules of `git check-ref-format --branch`, and those of paths.
pub fn check_branch(name: &str) -> Result<(), Error> {
    match branch_problem(name) {
        None => Ok(()),
        Some(why) => Err(Error::invalid("branch", format!("{name:?} {why}"))),
    }
}

fn branch_problem(name: &str) -> Option<&'static str> {
    const FORBIDDEN: &[u8] = b" ~^:?*[\\";
    if name.is_empty() || name.len() > MAX_BRANCH {
        return Some("is empty or longer than 200 bytes");
    }
    if name.bytes().any(|byte| byte < 0x20 || byte == 0x7f || FORBIDDEN.contains(&byte)) {
        return Some("contains a character that refs must not contain");
    }
    if name.contains("..") || name.contains("@{") || name.ends_with('.') {
        return Some("contains .. or @{, or ends with a dot");
    }
    if name.starts_with('-') || matches!(name, "@" | "HEAD") {
        return Some("starts with a dash, or has a meaning of its own");
    }
    let is_bad = |part: &str| part.is_empty() || part.starts_with('.') || part.ends_with(".lock");
    name.split('/').any(is_bad).then_some("has a part that is empty, hidden, or ends with .lock")
}

/// Checks the name of a rig or an agent: it becomes one segment of a path and of a ref.
pub(crate) fn check_segment(what: &'static str, name: &str) -> Result<(), Error> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let fits = (1..=MAX_SEGMENT).contains(&name.len()) && name.bytes().all(is_plain);
    if !fits || name.starts_with(['.', '-']) || branch_problem(name).is_some() {
        return Err(Error::invalid(what, format!("{name:?} is not one plain word")));
    }
    Ok(())
}
