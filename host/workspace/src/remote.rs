//! URLs of remotes.

use http::Uri;

use crate::error::Error;

/// Longest URL, in bytes.
const MAX_URL: usize = 2048;

/// Which protocols remotes may use. There is no other one: neither `ssh` nor `git` nor `ext`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Protocols {
    /// `http://`, without encryption. Credentials are sent over it too.
    pub http: bool,
    /// `file://`, for tests and mirrors on the same machine.
    pub file: bool,
}

impl Protocols {
    /// `https` alone.
    pub const HTTPS: Self = Self { http: false, file: false };

    /// As `GIT_ALLOW_PROTOCOL` names them.
    pub(crate) fn allowed(self) -> String {
        let names = [("https", true), ("http", self.http), ("file", self.file)];
        names.iter().filter(|(_, yes)| *yes).map(|(name, _)| *name).collect::<Vec<_>>().join(":")
    }
}

/// Checks the URL of a remote, and returns what a credential is bound to: scheme and authority.
///
/// A URL with a user or a password is refused: it would be seen in arguments, files and logs.
pub(crate) fn check(url: &str, protocols: Protocols) -> Result<String, Error> {
    let invalid = |why: &str| Error::invalid("url", why);
    if url.len() > MAX_URL || url.bytes().any(|byte| !byte.is_ascii_graphic()) {
        return Err(invalid("longer than 2048 bytes, or with characters that are not ASCII"));
    }
    let (scheme, rest) = url.split_once("://").ok_or_else(|| invalid("has no scheme"))?;
    match scheme {
        "https" => {}
        "http" if protocols.http => {}
        "file" if protocols.file => return check_path(rest),
        "ssh" => return Err(invalid("ssh is not supported; use https")),
        _ => return Err(invalid(&format!("protocol {scheme:?} is not allowed"))),
    }
    let uri: Uri = url.parse().map_err(|_| invalid("is not a URL"))?;
    let authority = uri.authority().ok_or_else(|| invalid("has no host"))?;
    if authority.as_str().contains('@') {
        return Err(invalid("contains a user; credentials are given separately"));
    }
    if uri.query().is_some() || rest.contains(['#', '"', '\\']) || uri.path().len() < 2 {
        return Err(invalid("names no repository, or more than one"));
    }
    Ok(format!("{scheme}://{authority}"))
}

fn check_path(path: &str) -> Result<String, Error> {
    if !path.starts_with('/') || path.contains(['"', '\\', '#', ';']) {
        return Err(Error::invalid("url", "a file URL wants an absolute path"));
    }
    Ok("file://".to_owned())
}
