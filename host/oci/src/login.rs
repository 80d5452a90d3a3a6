//! Who asks a registry: a user and a password, or a file as `docker login`, `podman login` and `oras login` write it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bulkhead_net::Credential;
use bulkhead_types::Secret;
use http::HeaderValue;
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::Reference;

/// Largest file of credentials, in bytes.
const MAX_BYTES: u64 = 1024 * 1024;

/// The key of Docker Hub in such a file.
const DOCKER_KEY: &str = "index.docker.io";

/// Who asks. Read when a registry wants to know, so that a changed file counts.
#[derive(Debug, Clone, Default)]
pub enum Login {
    /// Nobody in particular: what the registry lets everybody pull.
    #[default]
    Anonymous,
    /// A user.
    User {
        /// Its name.
        name: String,
        /// Its password, or a token in place of one.
        password: Credential,
    },
    /// Whom a file in the format of Docker's `config.json` names for the registry.
    File(PathBuf),
}

/// What is presented.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Presented {
    Nothing,
    User {
        name: String,
        password: Secret,
    },
    /// A token of the registry itself.
    Token(Secret),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Config {
    #[serde(default)]
    auths: BTreeMap<String, Auth>,
    #[serde(default)]
    cred_helpers: BTreeMap<String, IgnoredAny>,
    creds_store: Option<IgnoredAny>,
}

#[derive(Default, Deserialize)]
struct Auth {
    auth: Option<Secret>,
    username: Option<String>,
    password: Option<Secret>,
    identitytoken: Option<Secret>,
    registrytoken: Option<Secret>,
}

impl Login {
    /// Whether a registry could be shown something: of a file, whether it is one of credentials. The error is a fragment
    /// that quotes nothing of them.
    pub fn check(&self) -> Result<(), String> {
        match self {
            Self::File(path) => {
                read(path).map(drop).map_err(|reason| format!("{}: {reason}", path.display()))
            }
            Self::Anonymous | Self::User { .. } => Ok(()),
        }
    }

    /// What to present for a repository. The error is a fragment that quotes nothing of the credentials.
    pub(crate) fn presented(&self, reference: &Reference) -> Result<Presented, String> {
        match self {
            Self::Anonymous => Ok(Presented::Nothing),
            Self::User { name, password } => {
                let password = password.current()?.ok_or("there is a user and no password")?;
                Ok(Presented::User { name: name.clone(), password })
            }
            Self::File(path) => in_file(path, reference)
                .map_err(|reason| format!("credentials_file {}: {reason}", path.display())),
        }
    }

    /// What there was, for the text of a refusal.
    pub(crate) fn described(&self) -> String {
        match self {
            Self::Anonymous => "no credentials are set for it".into(),
            Self::User { name, .. } => format!("the password of user {name:?} is not enough"),
            Self::File(path) => format!("what {} has for it is not enough", path.display()),
        }
    }
}

impl Presented {
    /// The header `Authorization: Basic`, if that is what it comes to.
    pub(crate) fn basic(&self) -> Option<HeaderValue> {
        let Self::User { name, password } = self else { return None };
        let pair = STANDARD.encode(format!("{name}:{}", password.expose()));
        let value = format!("Basic {pair}").parse();
        Some(sensitive(value.expect("base64 fits a header")))
    }
}

/// The header `Authorization: Bearer`. A token that does not fit a header is none.
pub(crate) fn bearer(token: &Secret) -> Option<HeaderValue> {
    HeaderValue::try_from(format!("Bearer {}", token.expose())).ok().map(sensitive)
}

fn sensitive(mut value: HeaderValue) -> HeaderValue {
    value.set_sensitive(true);
    value
}

fn in_file(path: &Path, reference: &Reference) -> Result<Presented, String> {
    read(path)?.of(reference)
}

fn read(path: &Path) -> Result<Config, String> {
    let mut text = Vec::new();
    let file = File::open(path).map_err(|error| error.to_string())?;
    let read = file.take(MAX_BYTES + 1).read_to_end(&mut text);
    read.map_err(|error| error.to_string())?;
    if text.len() as u64 > MAX_BYTES {
        return Err(format!("it is larger than {MAX_BYTES} bytes"));
    }
    // The parser's own text may quote a password.
    serde_json::from_slice(&text).map_err(|error| {
        format!("it is no config.json of Docker (line {}, column {})", error.line(), error.column())
    })
}

impl Config {
    fn of(mut self, reference: &Reference) -> Result<Presented, String> {
        let wanted = names(reference);
        let found = wanted.iter().find_map(|name| {
            let key = self.auths.keys().find(|key| normal(key) == *name)?.clone();
            self.auths.remove(&key)
        });
        if let Some(presented) = found.map_or(Ok(None), Auth::presented)? {
            return Ok(presented);
        }
        let has_helper =
            self.cred_helpers.keys().any(|key| wanted.iter().any(|it| normal(key) == it));
        match has_helper || self.creds_store.is_some() {
            true => Err(format!(
                "it names a helper (credHelpers, credsStore) for {}, and helpers are not run; put the credentials \
                 into auths, or set username and password_file",
                reference.registry()
            )),
            false => Ok(Presented::Nothing),
        }
    }
}

impl Auth {
    /// Docker leaves an empty entry where a helper has the credentials.
    fn presented(self) -> Result<Option<Presented>, String> {
        if let Some(token) = self.registrytoken {
            return Ok(Some(Presented::Token(token)));
        }
        if self.identitytoken.is_some_and(|it| !it.expose().is_empty()) {
            return Err(
                "it has an identitytoken, which is not supported; use a user and a password".into(),
            );
        }
        if let (Some(name), Some(password)) = (self.username, self.password) {
            return Ok(Some(Presented::User { name, password }));
        }
        let Some(auth) = self.auth.filter(|auth| !auth.expose().is_empty()) else {
            return Ok(None);
        };
        let bad = || "an auth of it is no base64 of user:password".to_owned();
        let pair = STANDARD.decode(auth.expose().trim()).map_err(|_| bad())?;
        let pair = String::from_utf8(pair).map_err(|_| bad())?;
        let (name, password) = pair.split_once(':').ok_or_else(bad)?;
        // Docker ends passwords of old files with a NUL.
        let password = password.trim_end_matches('\0').to_owned().into();
        Ok(Some(Presented::User { name: name.to_owned(), password }))
    }
}

/// Keys for a repository, the most precise one first: Podman has some for parts of a registry.
fn names(reference: &Reference) -> Vec<String> {
    let host = match reference.registry() {
        "docker.io" => DOCKER_KEY,
        host => host,
    };
    let whole = format!("{host}/{}", reference.repository());
    let cuts = whole.rmatch_indices('/').map(|(at, _)| whole[..at].to_owned());
    let mut names: Vec<String> = std::iter::once(whole.clone()).chain(cuts).collect();
    if host == DOCKER_KEY {
        names.push("docker.io".into());
    }
    names
}

/// A key without scheme and version: `https://index.docker.io/v1/` is `index.docker.io`.
fn normal(key: &str) -> &str {
    let key = key.split_once("://").map_or(key, |(_, rest)| rest).trim_end_matches('/');
    key.strip_suffix("/v1").or_else(|| key.strip_suffix("/v2")).unwrap_or(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reference(name: &str) -> Reference {
        Reference::parse(&format!("oci://{name}@sha256:{}", "0".repeat(64))).unwrap()
    }

    fn found(config: &str, name: &str) -> Result<Option<(String, String)>, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        std::fs::write(&path, config).unwrap();
        match Login::File(path).presented(&reference(name))? {
            Presented::User { name, password } => Ok(Some((name, password.expose().to_owned()))),
            Presented::Token(token) => Ok(Some((String::new(), token.expose().to_owned()))),
            Presented::Nothing => Ok(None),
        }
    }

    fn user(name: &str, password: &str) -> Result<Option<(String, String)>, String> {
        Ok(Some((name.into(), password.into())))
    }

    #[test]
    fn a_file_of_docker_names_a_user_for_each_registry() {
        // u:p, and v:q with the NUL of old files.
        let config = r#"{"auths":{
            "ghcr.io":{"auth":"dTpw"},
            "https://index.docker.io/v1/":{"auth":"djpxAA=="},
            "https://quay.io":{"username":"w","password":"r:s"},
            "localhost:5000":{"registrytoken":"t"}
        }}"#;
        assert_eq!(found(config, "ghcr.io/a/b"), user("u", "p"));
        assert_eq!(found(config, "docker.io/library/b"), user("v", "q"));
        assert_eq!(found(config, "quay.io/b"), user("w", "r:s"));
        assert_eq!(found(config, "localhost:5000/b"), user("", "t"));
        assert_eq!(found(config, "localhost:5001/b"), Ok(None));
        assert_eq!(found("{}", "ghcr.io/a"), Ok(None));
    }

    #[test]
    fn the_most_precise_entry_counts() {
        let config = r#"{"auths":{"quay.io":{"auth":"dTpw"},"quay.io/a":{"auth":"djpx"}}}"#;
        assert_eq!(found(config, "quay.io/a/b"), user("v", "q"));
        assert_eq!(found(config, "quay.io/ab"), user("u", "p"));
    }

    #[test]
    fn helpers_are_named_as_not_supported() {
        for config in [
            r#"{"credHelpers":{"ghcr.io":"gh"}}"#,
            r#"{"credsStore":"secretservice","auths":{"ghcr.io":{}}}"#,
        ] {
            let error = found(config, "ghcr.io/a").unwrap_err();
            assert!(error.contains("credHelpers") && error.contains("config.json:"), "{error}");
        }
        assert_eq!(found(r#"{"credHelpers":{"quay.io":"q"}}"#, "ghcr.io/a"), Ok(None));
        let own = r#"{"credsStore":"x","auths":{"ghcr.io":{"auth":"dTpw"}}}"#;
        assert_eq!(found(own, "ghcr.io/a"), user("u", "p"));
        let error = found(r#"{"auths":{"ghcr.io":{"identitytoken":"hunter2"}}}"#, "ghcr.io/a");
        assert!(error.unwrap_err().contains("identitytoken, which is not supported"));
    }

    #[test]
    fn a_broken_file_is_named_and_not_quoted() {
        for config in [
            r#"{"auths":{"ghcr.io":{"auth":"hunter2"#,
            r#"{"auths":{"ghcr.io":{"auth":"hunter2?"}}}"#,
            r#"{"auths":{"ghcr.io":"hunter2"}}"#,
        ] {
            let error = found(config, "ghcr.io/a").unwrap_err();
            assert!(error.contains("config.json: ") && !error.contains("hunter2"), "{error}");
        }
        let missing = Login::File("/nowhere/config.json".into());
        let error = missing.presented(&reference("ghcr.io/a")).unwrap_err();
        assert!(error.starts_with("credentials_file /nowhere/config.json: "), "{error}");
    }

    #[test]
    fn no_password_is_in_debug_output() {
        let presented = Presented::User { name: "u".into(), password: "hunter2".to_owned().into() };
        let basic = presented.basic().unwrap();
        assert_eq!(basic, "Basic dTpodW50ZXIy");
        let password = Credential::fixed("hunter2".to_owned().into());
        let login = Login::User { name: "u".into(), password };
        let shown = format!("{presented:?} {basic:?} {login:?}");
        assert!(!shown.contains("hunter2") && !shown.contains("dTpod"), "{shown}");
    }
}
