//! Secrets, wherever they come from: the file's value, another file that it names, a variable, a file that a variable
//! names (`NAME_FILE`, as Docker's images have it), or systemd's directory of credentials.

use std::ffi::OsString;
use std::ops::Range;
use std::path::{Path, PathBuf};

use bulkhead_client::{MAX_SECRET_BYTES, read_secret, read_text};
use bulkhead_types::Secret;
use toml::Spanned;

use super::file::{Evidence, File, FromEnvironment, Lease, ModelName, SecretName, Ship};
use super::problem::Problem;

/// Where systemd puts what `LoadCredential=` names.
const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";

/// AWS's own variables that name a bucket's place and whose it is.
pub(super) const AWS: [&str; 13] = [
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AWS_ENDPOINT_URL_STS",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_ROLE_ARN",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
];

/// What is wrong with a secret that is there and says nothing.
const EMPTY: &str = "is empty; leave it out if none is needed";

/// The secret that the environment brings: the variable `name`, the file that `name_FILE` names, or systemd's
/// `credential`. An error names the variable and never the value.
pub fn of_environment(
    lookup: &impl Fn(&str) -> Option<OsString>,
    name: &str,
    credential: &str,
) -> Result<Option<FromEnvironment>, String> {
    let file_name = format!("{name}_FILE");
    let value = match lookup(name).map(OsString::into_string) {
        None => None,
        Some(Ok(text)) if text.is_empty() => {
            return Err(format!("{name} is set and empty; unset it or give it a value"));
        }
        Some(Ok(text)) => Some(Secret::from(text)),
        Some(Err(_)) => return Err(format!("{name} is not valid UTF-8")),
    };
    let named = lookup(&file_name).filter(|path| !path.is_empty());
    match (value, named) {
        (Some(_), Some(_)) => Err(format!("{name} and {file_name} are both set; unset one")),
        (Some(secret), None) => {
            fits_a_header(&secret).map_err(|problem| format!("{name} {problem}"))?;
            Ok(Some(FromEnvironment { secret, file: None }))
        }
        (None, Some(path)) => {
            of_file(Path::new(&path)).map(Some).map_err(|problem| format!("{file_name}: {problem}"))
        }
        (None, None) => {
            let Some(dir) = lookup(CREDENTIALS).filter(|dir| !dir.is_empty()) else {
                return Ok(None);
            };
            let path = Path::new(&dir).join(credential);
            let there = path.exists().then(|| of_file(&path)).transpose();
            there.map_err(|problem| format!("{CREDENTIALS}: {problem}"))
        }
    }
}

fn of_file(path: &Path) -> Result<FromEnvironment, String> {
    let secret = read_file(path)?;
    let file = std::path::absolute(path).map_err(|error| error.to_string())?;
    Ok(FromEnvironment { secret, file: Some(file) })
}

/// Reads the files and variables that the configuration names, and checks every secret that goes into a header. The
/// files of models' keys stay named: they are read again.
pub fn settle(
    file: &mut File,
    base: &Path,
    lookup: impl Fn(&str) -> Option<OsString>,
) -> Result<(), Problem> {
    let server = &mut file.server;
    settle_one("server.token", &mut server.token, server.token_file.take(), base)?;
    let town = &mut file.town;
    settle_one("town.token", &mut town.token, town.token_file.take(), base)?;
    settle_evidence(&mut file.evidence, base, &lookup)?;
    settle_lease(&mut file.lease, base, &lookup)?;
    settle_ship(&mut file.ship, base, &lookup)?;
    for (ModelName(name), model) in &mut file.models {
        let source = Source {
            table: format!("models.{name}"),
            name: "api_key",
            value: &mut model.api_key,
            file: &mut model.api_key_file,
            variable: &mut model.api_key_env,
        };
        source.settle(base, &lookup)?;
    }
    for (SecretName(name), secret) in &mut file.secrets {
        let source = Source {
            table: format!("secrets.{name}"),
            name: "value",
            value: &mut secret.value,
            file: &mut secret.value_file,
            variable: &mut secret.value_env,
        };
        source.settle(base, &lookup)?;
    }
    for (name, role) in &mut file.roles {
        for (key, path) in std::mem::take(&mut role.config_files) {
            let shown = format!("roles.{name}.config_files.{key}");
            let span = path.span();
            let problem = |message: String| Problem::at(span.clone(), shown.clone(), message);
            if role.config.contains_key(&key) {
                return Err(problem(format!("roles.{name}.config also has a value for it")));
            }
            let value = read_value(&base.join(path.get_ref())).map_err(problem)?;
            role.config.insert(key, value);
        }
    }
    Ok(())
}

/// The file of a token stays named: it is read again.
fn settle_evidence(
    evidence: &mut Evidence,
    base: &Path,
    lookup: &impl Fn(&str) -> Option<OsString>,
) -> Result<(), Problem> {
    let table = || "evidence".to_owned();
    let token = Source {
        table: table(),
        name: "token",
        value: &mut evidence.token,
        file: &mut evidence.token_file,
        variable: &mut None,
    };
    token.settle(base, lookup)?;
    let (key, file) = (&mut evidence.secret_access_key, &mut evidence.secret_access_key_file);
    settle_and_read("evidence", "secret_access_key", key, file, base, lookup)?;
    evidence.aws = of_aws(evidence.sink.is_some(), lookup)?;
    Ok(())
}

pub(super) fn settle_lease(
    lease: &mut Lease,
    base: &Path,
    lookup: &impl Fn(&str) -> Option<OsString>,
) -> Result<(), Problem> {
    let (key, file) = (&mut lease.secret_access_key, &mut lease.secret_access_key_file);
    settle_and_read("lease", "secret_access_key", key, file, base, lookup)?;
    let (password, file) = (&mut lease.password, &mut lease.password_file);
    settle_and_read("lease", "password", password, file, base, lookup)?;
    let (token, file) = (&mut lease.token, &mut lease.token_file);
    settle_and_read("lease", "token", token, file, base, lookup)?;
    lease.aws = of_aws(lease.register.is_some(), lookup)?;
    lease.api_server = of_kubernetes(lookup);
    Ok(())
}

fn settle_ship(
    ship: &mut Ship,
    base: &Path,
    lookup: &impl Fn(&str) -> Option<OsString>,
) -> Result<(), Problem> {
    let (key, file) = (&mut ship.secret_access_key, &mut ship.secret_access_key_file);
    settle_and_read("ship", "secret_access_key", key, file, base, lookup)?;
    let (password, file) = (&mut ship.password, &mut ship.password_file);
    settle_and_read("ship", "password", password, file, base, lookup)?;
    let (token, file) = (&mut ship.token, &mut ship.token_file);
    settle_and_read("ship", "token", token, file, base, lookup)?;
    ship.aws = of_aws(ship.to.is_some(), lookup)?;
    Ok(())
}

/// One whose file is read once.
fn settle_and_read(
    table: &str,
    name: &str,
    value: &mut Option<Spanned<Secret>>,
    file: &mut Option<Spanned<PathBuf>>,
    base: &Path,
    lookup: &impl Fn(&str) -> Option<OsString>,
) -> Result<(), Problem> {
    Source { table: table.to_owned(), name, value, file, variable: &mut None }
        .settle(base, lookup)?;
    if let Some(file) = file.take() {
        let read = read_file(file.get_ref())
            .map_err(|message| Problem::at(file.span(), format!("{table}.{name}_file"), message))?;
        *value = Some(Spanned::new(file.span(), read));
    }
    Ok(())
}

/// Where the API server of this pod is.
fn of_kubernetes(lookup: &impl Fn(&str) -> Option<OsString>) -> Option<String> {
    let text = |name: &str| lookup(name)?.into_string().ok().filter(|text| !text.is_empty());
    let (host, port) = (text("KUBERNETES_SERVICE_HOST")?, text("KUBERNETES_SERVICE_PORT")?);
    let host = if host.contains(':') { format!("[{host}]") } else { host };
    Some(format!("https://{host}:{port}"))
}

/// What AWS's own variables say. They are for other programs as well, and may be anything where nobody needs them.
fn of_aws(
    is_needed: bool,
    lookup: &impl Fn(&str) -> Option<OsString>,
) -> Result<Vec<(&'static str, Secret)>, Problem> {
    let mut found = Vec::new();
    for name in AWS {
        let value = lookup(name)
            .map(OsString::into_string)
            .filter(|value| !value.as_ref().is_ok_and(String::is_empty));
        match value {
            None => {}
            Some(Ok(value)) => found.push((name, Secret::from(value))),
            Some(Err(_)) if !is_needed => {}
            Some(Err(_)) => {
                return Err(Problem::at(0..0, name.to_owned(), "is not valid UTF-8".into()));
            }
        }
    }
    Ok(found)
}

fn settle_one(
    key: &str,
    value: &mut Option<Spanned<Secret>>,
    file: Option<Spanned<PathBuf>>,
    base: &Path,
) -> Result<(), Problem> {
    if let Some(file) = file {
        let problem = |message| Problem::at(file.span(), format!("{key}_file"), message);
        if value.is_some() {
            return Err(problem(format!("{key} is set as well; keep one of them")));
        }
        let secret = read_file(&base.join(file.get_ref())).map_err(problem)?;
        *value = Some(Spanned::new(file.span(), secret));
    } else if let Some(secret) = value {
        let problem =
            |message: &str| Problem::at(secret.span(), key.to_owned(), message.to_owned());
        if secret.get_ref().expose().is_empty() {
            return Err(problem(EMPTY));
        }
        fits_a_header(secret.get_ref()).map_err(problem)?;
    }
    Ok(())
}

/// Where a secret of a table comes from: the keys `NAME`, `NAME_file` and `NAME_env`, at most one of them.
struct Source<'a> {
    table: String,
    name: &'a str,
    value: &'a mut Option<Spanned<Secret>>,
    file: &'a mut Option<Spanned<PathBuf>>,
    variable: &'a mut Option<Spanned<String>>,
}

impl Source<'_> {
    /// A value that the file holds is checked, one of a variable is taken from there, and the path of a file gets
    /// absolute.
    fn settle(
        self,
        base: &Path,
        lookup: &impl Fn(&str) -> Option<OsString>,
    ) -> Result<(), Problem> {
        let Self { table, name, value, file, variable } = self;
        let problem = |suffix: &str, span: Range<usize>, message: String| {
            Problem::at(span, format!("{table}.{name}{suffix}"), message)
        };
        let spans = [
            ("", value.as_ref().map(Spanned::span)),
            ("_file", file.as_ref().map(Spanned::span)),
            ("_env", variable.as_ref().map(Spanned::span)),
        ];
        let mut given = spans.into_iter().filter_map(|(suffix, span)| Some((suffix, span?)));
        if let (Some((one, _)), Some((other, span))) = (given.next(), given.next()) {
            let message = format!("{table}.{name}{one} is set as well; keep one of them");
            return Err(problem(other, span, message));
        }
        if let Some(key) = &value {
            let wrong = |message: &str| problem("", key.span(), message.to_owned());
            if key.get_ref().expose().is_empty() {
                return Err(wrong(EMPTY));
            }
            fits_a_header(key.get_ref()).map_err(wrong)?;
        }
        if let Some(file) = file {
            let span = file.span();
            let wrong = |message: String| problem("_file", span.clone(), message);
            let path = std::path::absolute(base.join(file.get_ref()));
            let path = path.map_err(|error| wrong(error.to_string()))?;
            read_file(&path).map_err(wrong)?;
            *file.get_mut() = path;
        }
        if let Some(name) = variable.take() {
            let wrong = |message: String| problem("_env", name.span(), message);
            let secret = of_variable(name.get_ref(), lookup).map_err(wrong)?;
            *value = Some(Spanned::new(name.span(), secret));
        }
        Ok(())
    }
}

/// The secret of a variable that the configuration names. A name that could be the secret itself is not shown.
fn of_variable(name: &str, lookup: &impl Fn(&str) -> Option<OsString>) -> Result<Secret, String> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty() || !name.chars().all(is_name) {
        return Err("is no name of an environment variable, which has letters, digits and _".into());
    }
    let shown = match name.contains(|c: char| c.is_ascii_lowercase()) {
        true => "the variable that it names",
        false => name,
    };
    let secret = match lookup(name).map(OsString::into_string) {
        None => return Err(format!("{shown} is not set")),
        Some(Ok(text)) if text.is_empty() => return Err(format!("{shown} is set and empty")),
        Some(Ok(text)) => Secret::from(text),
        Some(Err(_)) => return Err(format!("{shown} is not valid UTF-8")),
    };
    fits_a_header(&secret).map_err(|problem| format!("{shown} {problem}"))?;
    Ok(secret)
}

/// The secret in a file of one line.
pub(super) fn read_file(path: &Path) -> Result<Secret, String> {
    let secret = read_secret(path)?;
    fits_a_header(&secret)
        .map_err(|problem| format!("the content of {} {problem}", path.display()))?;
    Ok(secret)
}

/// What a file holds, but for one newline at its end.
pub(super) fn read_value(path: &Path) -> Result<Secret, String> {
    let mut text = read_text(path, MAX_SECRET_BYTES)
        .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    if text.ends_with('\n') {
        text.truncate(text.len() - 1);
    }
    Ok(Secret::from(text))
}

/// Whether a secret can stand in a header, where each call would fail otherwise.
pub(super) fn fits_a_header(secret: &Secret) -> Result<(), &'static str> {
    let text = secret.expose();
    if text.contains(['\n', '\r']) {
        return Err("contains a newline, which no header can carry: it must be one line");
    }
    match http::HeaderValue::from_str(text) {
        Ok(_) => Ok(()),
        Err(_) => Err("contains a character that no header can carry"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn of(variables: &[(&str, &str)]) -> Result<Option<String>, String> {
        let variables: BTreeMap<_, _> = variables.iter().copied().collect();
        let lookup = |name: &str| variables.get(name).map(OsString::from);
        let secret = of_environment(&lookup, "A_TOKEN", "bulkhead.a-token")?;
        Ok(secret.map(|found| found.secret.expose().to_owned()))
    }

    #[test]
    fn a_secret_comes_from_a_variable_a_file_or_systemd() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        assert_eq!(of(&[]), Ok(None));
        assert_eq!(of(&[("A_TOKEN", "one")]), Ok(Some("one".into())));
        std::fs::write(path("secret"), "two\n").unwrap();
        assert_eq!(of(&[("A_TOKEN_FILE", &path("secret"))]), Ok(Some("two".into())));
        let credentials = ("CREDENTIALS_DIRECTORY", &*path(""));
        assert_eq!(of(&[credentials]), Ok(None));
        std::fs::write(path("bulkhead.a-token"), "three").unwrap();
        assert_eq!(of(&[credentials]), Ok(Some("three".into())));
        assert_eq!(of(&[credentials, ("A_TOKEN", "one")]), Ok(Some("one".into())));
    }

    #[test]
    fn one_that_cannot_be_right_is_refused_and_not_shown() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        std::fs::write(path("lines"), "hunter2\nhunter2\n").unwrap();
        std::fs::write(path("bell"), "hunter2\u{7}").unwrap();
        std::fs::write(path("empty"), "\n").unwrap();
        for (variables, part) in [
            (vec![("A_TOKEN", "hunter2\n")], "a newline"),
            (vec![("A_TOKEN", "hunter2\u{7}x")], "no header"),
            (vec![("A_TOKEN", "")], "empty"),
            (vec![("A_TOKEN", "hunter2"), ("A_TOKEN_FILE", "hunter2")], "both set"),
            (vec![("A_TOKEN_FILE", &*path("lines"))], "more than one line"),
            (vec![("A_TOKEN_FILE", &*path("bell"))], "no header"),
            (vec![("A_TOKEN_FILE", &*path("empty"))], "no secret"),
            (vec![("A_TOKEN_FILE", &*path("gone"))], "cannot read"),
        ] {
            let error = of(&variables).unwrap_err();
            assert!(error.contains(part) && error.contains("A_TOKEN"), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
