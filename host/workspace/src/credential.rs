//! Credentials of remotes, and how git gets one.
//!
//! A credential is written to the stdin of a shell, which moves its stdin to descriptor 9 and becomes git. Git's
//! credential helper, a line of the mirror's configuration that the host wrote, reads descriptor 9 when the remote asks
//! for a credential. So it is in no argument, no environment, no file and no URL, and it can be read once. The helper
//! is bound to the remote's scheme and host: a remote that redirects elsewhere does not take the credential along.

use bulkhead_types::Secret;
use futures_util::future::BoxFuture;

use crate::error::Error;

/// What a remote wants to know.
#[derive(Debug, Clone)]
pub struct Credential {
    /// The user; for a token whatever the remote expects there.
    pub username: String,
    /// The password or token.
    pub password: Secret,
}

/// Where credentials come from.
pub trait Credentials: Send + Sync {
    /// The credential for a rig's remote, or none. `fresh`: the one that was given last was refused, so one that is
    /// kept is of no use.
    fn get<'a>(
        &'a self,
        rig: &'a str,
        url: &'a str,
        fresh: bool,
    ) -> BoxFuture<'a, Option<Credential>>;
}

/// No remote wants one.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoCredentials;

impl Credentials for NoCredentials {
    fn get<'a>(&'a self, _: &'a str, _: &'a str, _: bool) -> BoxFuture<'a, Option<Credential>> {
        Box::pin(std::future::ready(None))
    }
}

/// Becomes git, with what was its stdin as descriptor 9.
pub(crate) const SHELL: &str = r#"exec 9<&0 </dev/null; exec "$0" "$@""#;

/// Git's credential helper. Git calls it with `get`, later with `store` or `erase`.
pub(crate) const HELPER: &str = r#"!f() { test \"$1\" = get && cat <&9; }; f"#;

impl Credential {
    /// As git's credential helpers write it.
    pub(crate) fn lines(&self) -> Result<Vec<u8>, Error> {
        let (username, password) = (&self.username, self.password.expose());
        if [username, password].iter().any(|text| text.contains(['\n', '\r', '\0'])) {
            return Err(Error::invalid("credential", "contains a line break"));
        }
        Ok(format!("username={username}\npassword={password}\n").into_bytes())
    }
}
