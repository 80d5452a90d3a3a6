//! Credentials for HTTP services: `[secrets.NAME]`.

use std::path::PathBuf;
use std::sync::Arc;

use bulkhead_net::Credential;
use bulkhead_runtime::{HttpSecret, HttpSecrets};
use bulkhead_types::Secret;
use http::{HeaderName, header};
use toml::Spanned;

use super::file::{self, SecretName};
use super::problem::Problem;
use super::secrets;

/// A shorter value would be masked where it stands by chance.
const MIN_BYTES: usize = 8;

/// Header fields of the connection and of the message's form.
const RESERVED: [HeaderName; 8] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::EXPECT,
    header::HOST,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// All of them.
pub(super) fn check_secrets(
    secrets: impl IntoIterator<Item = (SecretName, file::HttpSecret)>,
) -> Result<HttpSecrets, Problem> {
    let checked = secrets.into_iter().map(|(SecretName(name), secret)| {
        let secret = check(&name, secret)?;
        Ok((name, secret))
    });
    checked.collect()
}

fn check(name: &str, secret: file::HttpSecret) -> Result<HttpSecret, Problem> {
    let problem = |key: &str, span, message: &str| {
        Problem::at(span, format!("secrets.{name}.{key}"), message.to_owned())
    };
    let hosts = secret.hosts;
    if hosts.get_ref().is_empty() {
        return Err(problem("hosts", hosts.span(), "names no host, so nobody could use it"));
    }
    let mut headers = Vec::new();
    for text in secret.headers.get_ref() {
        let span = secret.headers.span();
        let header = HeaderName::from_bytes(text.as_bytes()).map_err(|_| {
            problem("headers", span.clone(), "a name of a header has letters, digits and -")
        })?;
        if RESERVED.contains(&header) {
            return Err(problem("headers", span, "the host sets this header itself"));
        }
        headers.push(header);
    }
    if headers.is_empty() {
        let message = "names no header, so nobody could use it";
        return Err(problem("headers", secret.headers.span(), message));
    }
    let template = &secret.template;
    if template.get_ref().matches("{value}").count() != 1 {
        return Err(problem("template", template.span(), "has to contain {value} once"));
    }
    secrets::fits_a_header(&Secret::from(template.get_ref().clone()))
        .map_err(|message| problem("template", template.span(), message))?;
    let value = value(name, secret.value, secret.value_file)?;
    Ok(HttpSecret {
        hosts: hosts.into_inner().into_iter().map(|rule| rule.0).collect(),
        headers,
        template: secret.template.into_inner(),
        allow_http: secret.allow_http,
        value,
    })
}

/// One that stands in a file is read again while the host runs.
fn value(
    name: &str,
    value: Option<Spanned<Secret>>,
    file: Option<Spanned<PathBuf>>,
) -> Result<Credential, Problem> {
    let problem = |key: &str, span, message: String| {
        Problem::at(span, format!("secrets.{name}.{key}"), message)
    };
    if let Some(file) = file {
        let path = file.get_ref().clone();
        let read = move || secrets::read_file(&path).and_then(long_enough);
        let shown = format!("secrets.{name}.value_file");
        let credential = Credential::read(shown, Arc::new(move || read().map(Some)));
        credential.current().map_err(|why| problem("value_file", file.span(), why))?;
        return Ok(credential);
    }
    match value {
        Some(value) => {
            let span = value.span();
            let value = long_enough(value.into_inner());
            Ok(Credential::fixed(value.map_err(|why| problem("value", span, why))?))
        }
        None => {
            let message = "has no value: set value, value_file or value_env";
            Err(Problem::at(0..0, format!("secrets.{name}"), message.to_owned()))
        }
    }
}

fn long_enough(value: Secret) -> Result<Secret, String> {
    match value.expose().len() {
        MIN_BYTES.. => Ok(value),
        bytes => Err(format!(
            "a secret has at least {MIN_BYTES} bytes, this one has {bytes}: a shorter one cannot be masked in answers"
        )),
    }
}
