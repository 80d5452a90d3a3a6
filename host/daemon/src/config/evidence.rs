//! Where evidence goes that outlives the disk: `[evidence]`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bulkhead_evidence::{Address, AddressError, Name, Settings};
use bulkhead_net::{Connector, Credential, UrlError};
use bulkhead_types::Secret;
use toml::Spanned;

use super::file::{self, set_ms};
use super::problem::{Problem, trust};
use super::s3::{Given, S3Keys, refuse};
use super::secrets;

/// Between two digests.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// What a boot waits.
const FETCH: Duration = Duration::from_secs(2);

/// One document.
const CALL: Duration = Duration::from_secs(5);

/// A sink, and the files that its credentials are read from again and again.
#[derive(Debug, Clone)]
pub struct EvidenceSettings {
    pub settings: Settings,
    pub files: Vec<PathBuf>,
}

impl EvidenceSettings {
    /// Where documents are written, when that is a directory.
    pub fn directory(&self) -> Option<&Path> {
        match &self.settings.sink {
            Address::File(dir) => Some(dir),
            Address::Http { .. } | Address::S3(_) => None,
        }
    }
}

/// The sink. Without one everything else of the table is a mistake.
pub(super) fn check_evidence(
    evidence: file::Evidence,
    town_id: Option<&str>,
    base: &Path,
    outside: &Connector,
) -> Result<Option<EvidenceSettings>, Problem> {
    let Some(sink) = &evidence.sink else { return without_a_sink(&evidence).map(|()| None) };
    let span = sink.span();
    let key = match span.is_empty() {
        true => "BULKHEAD_EVIDENCE_SINK".to_owned(),
        false => "evidence.sink".to_owned(),
    };
    let problem = |message: String| Problem::at(span.clone(), key.clone(), message);
    let mut address = Address::parse(sink.get_ref()).map_err(|error| {
        problem(match error {
            AddressError::Url(UrlError::Credentials) => format!("{error}; use evidence.token"),
            error => error.to_string(),
        })
    })?;
    let name = name(evidence.name.as_ref(), town_id, problem)?;
    let mut files = Vec::new();
    match &mut address {
        Address::Http { token, .. } => {
            refuse("evidence", &of_s3(&evidence).given(), "is for a sink in S3")?;
            let file = evidence.token_file.clone().map(Spanned::into_inner);
            files.extend(file.clone());
            *token = credential(evidence.token.clone().map(Spanned::into_inner), file);
        }
        Address::S3(s3) => {
            refuse("evidence", &of_http(&evidence), "is for a sink by HTTP")?;
            files.extend(token_files(&evidence));
            of_s3(&evidence).set(s3, problem)?;
        }
        Address::File(_) => {
            refuse("evidence", &of_s3(&evidence).given(), "is for a sink in S3")?;
            refuse("evidence", &of_http(&evidence), "is for a sink by HTTP")?;
        }
    }
    let mut connector = outside.clone();
    if let Some(file) = &evidence.ca_file {
        connector.trust = trust("evidence.ca_file", file, base)?;
    }
    let (heartbeat, fetch, call) = (HEARTBEAT, FETCH, CALL);
    let mut settings = Settings { name, sink: address, connector, heartbeat, fetch, call };
    set_ms(&mut settings.heartbeat, evidence.heartbeat_ms);
    set_ms(&mut settings.fetch, evidence.fetch_ms);
    set_ms(&mut settings.call, evidence.call_ms);
    Ok(Some(EvidenceSettings { settings, files }))
}

fn name(
    given: Option<&Spanned<String>>,
    town_id: Option<&str>,
    problem: impl Fn(String) -> Problem,
) -> Result<Name, Problem> {
    if let Some(given) = given {
        let span = given.span();
        let key = match span.is_empty() {
            true => "BULKHEAD_EVIDENCE_NAME",
            false => "evidence.name",
        };
        let wrong = |error: bulkhead_evidence::NameError| {
            Problem::at(span.clone(), key.to_owned(), error.to_string())
        };
        return Name::parse(given.get_ref()).map_err(wrong);
    }
    let town_id = town_id.filter(|id| !id.is_empty());
    let town_id = town_id.ok_or_else(|| {
        problem("needs a name for the container; set evidence.name (BULKHEAD_EVIDENCE_NAME)".into())
    })?;
    Name::parse(town_id).map_err(|error| {
        problem(format!("town.id cannot be the name of the container: {error}; set evidence.name"))
    })
}

fn of_http(evidence: &file::Evidence) -> [Given; 2] {
    [
        ("token", evidence.token.as_ref().map(Spanned::span)),
        ("token_file", evidence.token_file.as_ref().map(Spanned::span)),
    ]
}

fn of_s3(evidence: &file::Evidence) -> S3Keys<'_> {
    S3Keys {
        table: "evidence",
        region: &evidence.region,
        endpoint: &evidence.endpoint,
        access_key_id: &evidence.access_key_id,
        secret_access_key: &evidence.secret_access_key,
        aws: &evidence.aws,
    }
}

fn without_a_sink(evidence: &file::Evidence) -> Result<(), Problem> {
    let given = |is_given: bool| is_given.then_some(0..0);
    let others: [Given; 5] = [
        ("name", evidence.name.as_ref().map(Spanned::span)),
        ("ca_file", evidence.ca_file.as_ref().map(Spanned::span)),
        ("heartbeat_ms", given(evidence.heartbeat_ms.is_some())),
        ("fetch_ms", given(evidence.fetch_ms.is_some())),
        ("call_ms", given(evidence.call_ms.is_some())),
    ];
    let why = "is set without a sink; set evidence.sink (BULKHEAD_EVIDENCE_SINK)";
    refuse("evidence", &others, why)?;
    refuse("evidence", &of_http(evidence), why)?;
    refuse("evidence", &of_s3(evidence).given(), why)
}

/// One that stands in a file is read again when a call begins.
fn credential(token: Option<Secret>, file: Option<PathBuf>) -> Credential {
    match (token, file) {
        (_, Some(path)) => {
            let read = move || secrets::read_file(&path).map(Some);
            Credential::read("evidence.token_file", Arc::new(read))
        }
        (Some(token), None) => Credential::fixed(token),
        (None, None) => Credential::default(),
    }
}

/// Files that AWS's variables name.
fn token_files(evidence: &file::Evidence) -> impl Iterator<Item = PathBuf> {
    let named = evidence.aws.iter().filter(|(name, _)| name.ends_with("_TOKEN_FILE"));
    named.map(|(_, path)| PathBuf::from(path.expose()))
}
