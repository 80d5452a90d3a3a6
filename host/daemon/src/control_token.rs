//! The control token that a host makes for itself when nobody gives it one.
//!
//! It lies in the state directory, for its owner only, and stays the same over restarts. The commands that ask a
//! host find it there.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use bulkhead_client::TOKEN_FILE;
use bulkhead_control::ControlConfig;
use bulkhead_types::Secret;
use rustix::fs::OFlags;

/// Random bytes of a token; it has twice as many digits.
const BYTES: usize = 32;

/// Longest file that is read.
const MAX_FILE_BYTES: u64 = 1024;

/// What became of the token of a host that was given none.
pub enum Made {
    /// The configuration has one, or wants none.
    NotNeeded,
    /// It lies in this file.
    InFile(PathBuf),
    /// It could be neither read nor written, so that nobody knows it, and why.
    Unknown(io::Error),
}

impl Made {
    /// Logs it, once the log has begun.
    pub fn log(&self) {
        match self {
            Self::NotNeeded => {}
            Self::InFile(file) => {
                let file = file.display();
                tracing::info!(%file, "the control token is in this file");
            }
            Self::Unknown(error) => tracing::error!(
                %error,
                "the control API is closed: there is no token, and the state directory cannot store one; set BULKHEAD_CONTROL_TOKEN"
            ),
        }
    }
}

/// The configuration with a token, unless it wants to go without.
pub fn complete(config: &ControlConfig, state_dir: &Path) -> (ControlConfig, Made) {
    let mut config = config.clone();
    if config.token.is_some() || config.allow_unauthenticated {
        return (config, Made::NotNeeded);
    }
    let (token, made) =
        match read(state_dir).and_then(|token| token.map_or_else(|| make(state_dir), Ok)) {
            Ok(token) => (Ok(token), Made::InFile(state_dir.join(TOKEN_FILE))),
            // Closed is better than open.
            Err(error) => (random(), Made::Unknown(error)),
        };
    // Without random numbers nothing gets in: no client sends this.
    config.token = Some(token.unwrap_or_else(|_| Secret::from("\u{0}".to_owned())));
    (config, made)
}

/// The token that an earlier run left, if nobody else could read it.
fn read(dir: &Path) -> io::Result<Option<Secret>> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(dir.join(TOKEN_FILE));
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let found = file.metadata()?;
    if !found.is_file() || found.uid() != rustix::process::geteuid().as_raw() {
        let what = format!("{TOKEN_FILE} is not a file of this user");
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, what));
    }
    let mut text = String::new();
    let whole = file.take(MAX_FILE_BYTES).read_to_string(&mut text).is_ok();
    let token = text.trim();
    let good = whole && token.len() >= BYTES && token.bytes().all(|byte| byte.is_ascii_graphic());
    // One that others could read may be known to them.
    Ok((good && found.mode() & 0o077 == 0).then(|| Secret::from(token.to_owned())))
}

fn make(dir: &Path) -> io::Result<Secret> {
    let token = random()?;
    let draft = dir.join(format!("{TOKEN_FILE}.new"));
    let _ = fs::remove_file(&draft);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
    writeln!(file, "{}", token.expose()).and_then(|()| file.sync_all())?;
    fs::rename(&draft, dir.join(TOKEN_FILE))?;
    File::open(dir)?.sync_all()?;
    Ok(token)
}

fn random() -> io::Result<Secret> {
    let mut bytes = [0; BYTES];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(Secret::from(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use bulkhead_control::{ControlLimits, Mcp};

    use super::*;

    fn config(token: Option<&str>, allow_unauthenticated: bool) -> ControlConfig {
        ControlConfig {
            listen: ([127, 0, 0, 1], 0).into(),
            token: token.map(|token| Secret::from(token.to_owned())),
            allow_unauthenticated,
            allowed_hosts: Vec::new(),
            probe_listen: None,
            mcp: Mcp::default(),
            limits: ControlLimits::default(),
        }
    }

    fn made(dir: &Path) -> String {
        let (config, made) = complete(&config(None, false), dir);
        assert!(matches!(made, Made::InFile(path) if path == dir.join(TOKEN_FILE)));
        config.token.unwrap().expose().to_owned()
    }

    #[test]
    fn a_token_is_made_once_and_is_for_its_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let token = made(dir.path());
        assert!(token.len() == 64 && token.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let file = dir.path().join(TOKEN_FILE);
        assert_eq!(fs::read_to_string(&file).unwrap().trim(), token);
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
        assert_eq!(made(dir.path()), token);
        assert_ne!(made(tempfile::tempdir().unwrap().path()), token);
    }

    #[test]
    fn a_configured_token_or_the_wish_for_none_makes_none() {
        let dir = tempfile::tempdir().unwrap();
        for (token, open) in [(Some("t"), false), (Some("t"), true), (None, true)] {
            let (config, made) = complete(&config(token, open), dir.path());
            assert_eq!(config.token.as_ref().map(Secret::expose), token);
            assert!(matches!(made, Made::NotNeeded));
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_file_that_is_damaged_or_that_others_could_read_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(TOKEN_FILE);
        let long = "x".repeat(40);
        for (text, mode) in
            [("", 0o600), ("short", 0o600), ("a b\u{0}", 0o600), (&long, 0o640), (&long, 0o604)]
        {
            fs::write(&file, text).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(made(dir.path()).len(), 64, "{text:?} {mode:o}");
            assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
        }
        fs::write(&file, &long).unwrap();
        assert_eq!(made(dir.path()), long);
    }

    #[test]
    fn where_none_can_be_kept_nobody_knows_it() {
        let dir = tempfile::tempdir().unwrap();
        let elsewhere = dir.path().join("elsewhere");
        fs::write(&elsewhere, "y".repeat(40)).unwrap();
        std::os::unix::fs::symlink(&elsewhere, dir.path().join(TOKEN_FILE)).unwrap();
        for dir in [dir.path(), &dir.path().join("gone")] {
            let (config, made) = complete(&config(None, false), dir);
            assert!(matches!(made, Made::Unknown(_)));
            assert_ne!(config.token.unwrap().expose(), "y".repeat(40));
        }
        assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "y".repeat(40));
    }
}
