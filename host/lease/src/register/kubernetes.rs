//! A record in an object of Kubernetes: the Lease `PREFIX-TOWN` of a namespace, by the API server's JSON. The record is an
//! annotation of it. Its version is `metadata.resourceVersion`, on which every patch depends.
//!
//! What a Lease has of its own (`holderIdentity`, `leaseDurationSeconds`, `leaseTransitions`) is written for people and
//! `kubectl`, and not read. It has no `renewTime`: no clocks are compared. An object is made and patched, never removed, and what
//! others wrote into it stays.
//!
//! The token of the service account is read again for each request: it ends, and the kubelet writes another one.

use std::fs::File;
use std::io::Read;
use std::time::Duration;

use async_trait::async_trait;
use bulkhead_bucket::Name;
use bulkhead_net::{BaseUrl, Connector, Exchanges, Trust};
use bulkhead_types::error::chain;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue, USER_AGENT};
use http::{Method, Request, Response, StatusCode};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Names, Register, Written};

/// Of the service account's token: those of clusters have one or two thousand.
const MAX_TOKEN_BYTES: u64 = 64 * 1024;
use crate::document::{self, MAX_BYTES};
use crate::fault::RegisterError;
use crate::protocol::{Record, Version};
use crate::settings::Kubernetes;

/// The annotation that has the record.
const ANNOTATION: &str = "bulkhead/lease";
/// By this label records are listed.
const LABEL: (&str, &str) = ("app.kubernetes.io/managed-by", "bulkhead");
/// No object has this version: the first ones of a cluster are its own.
const NO_VERSION: &str = "1";
/// Largest object: a record as text in JSON, and what else there is, such as who wrote which field.
const MAX_OBJECT: usize = 16 * MAX_BYTES;
/// Objects that are asked for at once.
const PAGE: usize = 250;
/// Largest page of them.
const MAX_PAGE: usize = 8 * 1024 * 1024;
/// Pages that are read at most.
const MAX_PAGES: usize = 100;

pub(super) struct Object {
    client: Client,
    name: String,
}

/// Those of all towns.
pub(super) struct Records {
    client: Client,
}

struct Client {
    kubernetes: Kubernetes,
    server: BaseUrl,
    exchanges: Exchanges,
}

#[derive(Deserialize)]
struct Lease {
    metadata: Metadata,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    name: String,
    resource_version: String,
    #[serde(default)]
    annotations: Map<String, Value>,
}

#[derive(Deserialize)]
struct Leases {
    metadata: ListMetadata,
    items: Vec<Lease>,
}

#[derive(Deserialize)]
struct ListMetadata {
    #[serde(default, rename = "continue")]
    next: String,
}

/// How the API server says no.
#[derive(Default, Deserialize)]
struct Status {
    #[serde(default)]
    kind: String,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    message: String,
}

/// What an answer is that is an object, or says what became of one.
enum Answer {
    Is(Lease),
    /// There is none.
    Absent,
    /// It has another version, or there is one already.
    Conflict,
}

impl Object {
    pub fn new(
        kubernetes: &Kubernetes,
        connector: Connector,
        patience: Duration,
        town: &Name,
    ) -> Result<Self, RegisterError> {
        let name = kubernetes.object(town).map_err(|error| {
            RegisterError::refused(format!("{} is no name for a Lease: {error}", town.as_str()))
        })?;
        Ok(Self { client: Client::new(kubernetes, connector, patience, MAX_OBJECT)?, name })
    }

    fn path(&self) -> String {
        format!("/{}", self.name)
    }

    /// What is written of a record. With a version it is a patch, on the condition that the object has it.
    fn content(&self, version: Option<&str>, record: &Record) -> Result<Value, RegisterError> {
        let text = document::encode(record)?;
        let text = String::from_utf8_lossy(&text);
        let holder = if record.released { "" } else { &*record.holder };
        let mut object = json!({
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": { "labels": { LABEL.0: LABEL.1 }, "annotations": { ANNOTATION: text } },
            "spec": {
                "holderIdentity": holder,
                "leaseDurationSeconds": record.ttl.as_millis().div_ceil(1000),
                "leaseTransitions": i32::try_from(record.epoch).unwrap_or(i32::MAX),
            },
        });
        object["metadata"]["name"] = self.name.clone().into();
        if let Some(version) = version {
            object["metadata"]["resourceVersion"] = version.into();
        }
        Ok(object)
    }
}

#[async_trait]
impl Register for Object {
    /// Whether this user may make objects and patch them, and whether a version is a condition: both as the server would do it,
    /// without doing it.
    async fn probe(&self) -> Result<(), RegisterError> {
        let made = json!({
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": { "name": format!("{}-probe", self.name) },
        });
        self.client.ask(Method::POST, "?dryRun=All", Some(&made)).await?;
        let path = format!("{}?dryRun=All", self.path());
        let patch = json!({ "metadata": { "resourceVersion": NO_VERSION } });
        match self.client.ask(Method::PATCH, &path, Some(&patch)).await? {
            Answer::Absent | Answer::Conflict => Ok(()),
            Answer::Is(_) => Err(RegisterError::misbehaves(
                "what answers as Kubernetes ignores the resourceVersion of a patch: it cannot hold leases",
            )),
        }
    }

    async fn read(&self) -> Result<Option<(Version, Record)>, RegisterError> {
        self.client.read(&self.name).await
    }

    async fn write_if(
        &self,
        expected: Option<&Version>,
        record: &Record,
    ) -> Result<Written, RegisterError> {
        let version = expected.map(|version| &*version.0);
        let body = self.content(version, record)?;
        let answer = match version {
            Some(_) => self.client.ask(Method::PATCH, &self.path(), Some(&body)).await?,
            None => self.client.ask(Method::POST, "", Some(&body)).await?,
        };
        Ok(match answer {
            Answer::Is(lease) => Written::Stored(lease.version()?),
            Answer::Absent | Answer::Conflict => Written::Conflict,
        })
    }
}

impl Lease {
    /// Without one the next write would have no condition.
    fn version(&self) -> Result<Version, RegisterError> {
        match &*self.metadata.resource_version {
            "" => Err(RegisterError::misbehaves("the API server gave an object without a version")),
            version => Ok(Version(version.into())),
        }
    }

    fn record(&self) -> Result<Record, RegisterError> {
        let text = self.metadata.annotations.get(ANNOTATION).and_then(Value::as_str);
        let text = text.ok_or_else(|| {
            let name = &self.metadata.name;
            RegisterError::misbehaves(format!(
                "the Lease {name} has no annotation {ANNOTATION}: another program made it"
            ))
        })?;
        document::decode(text.as_bytes())
    }
}

impl Records {
    pub fn new(
        kubernetes: &Kubernetes,
        connector: Connector,
        patience: Duration,
    ) -> Result<Self, RegisterError> {
        Ok(Self { client: Client::new(kubernetes, connector, patience, MAX_PAGE)? })
    }
}

#[async_trait]
impl super::Records for Records {
    async fn names(&self, most: usize) -> Result<Names, RegisterError> {
        let before = format!("{}-", self.client.kubernetes.prefix);
        let (mut found, mut next) = (Names::default(), String::new());
        for _ in 0..MAX_PAGES {
            let (label, value) = LABEL;
            let label = label.replace('/', "%2F");
            let mut query = format!("?labelSelector={label}%3D{value}&limit={PAGE}");
            if !next.is_empty() {
                let token: String = form_urlencoded::byte_serialize(next.as_bytes()).collect();
                query.push_str(&format!("&continue={token}"));
            }
            let answer = self.client.send(Method::GET, &query, None).await?;
            let page: Leases = read(&answer)?;
            let names = page.items.iter().filter_map(|it| it.metadata.name.strip_prefix(&*before));
            found.names.extend(names.filter_map(|name| Name::parse(name).ok()));
            next = page.metadata.next;
            if next.is_empty() || found.names.len() > most {
                break;
            }
        }
        found.has_more = !next.is_empty() || found.names.len() > most;
        found.names.truncate(most);
        Ok(found)
    }

    async fn read(&self, town: &Name) -> Result<Option<Record>, RegisterError> {
        let Ok(name) = self.client.kubernetes.object(town) else { return Ok(None) };
        Ok(self.client.read(&name).await?.map(|(_, record)| record))
    }
}

impl Client {
    fn new(
        kubernetes: &Kubernetes,
        mut connector: Connector,
        patience: Duration,
        max_answer: usize,
    ) -> Result<Self, RegisterError> {
        let Some(server) = kubernetes.server.clone() else {
            let text = "this is no pod of Kubernetes: there is no KUBERNETES_SERVICE_HOST; set lease.endpoint";
            return Err(RegisterError::unavailable(text));
        };
        if let Some(file) = &kubernetes.ca_file {
            connector.trust = Trust::from_file(file).map_err(|error| {
                RegisterError::unavailable(format!("read {}: {}", file.display(), chain(&error)))
            })?;
        }
        let exchanges = Exchanges::new(connector, patience, max_answer);
        Ok(Self { kubernetes: kubernetes.clone(), server, exchanges })
    }

    async fn read(&self, name: &str) -> Result<Option<(Version, Record)>, RegisterError> {
        match self.ask(Method::GET, &format!("/{name}"), None).await? {
            Answer::Is(lease) => Ok(Some((lease.version()?, lease.record()?))),
            Answer::Absent => Ok(None),
            Answer::Conflict => Err(RegisterError::unavailable("a read met a conflict")),
        }
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Answer, RegisterError> {
        let makes = method == Method::POST;
        let answer = self.send(method, path, body).await?;
        let status = status_of(&answer);
        match (answer.status(), &*status.reason) {
            (StatusCode::CONFLICT, _) => Ok(Answer::Conflict),
            // Of what is made it is the namespace that is not there.
            (StatusCode::NOT_FOUND, "NotFound") if !makes => Ok(Answer::Absent),
            _ => read(&answer).map(Answer::Is),
        }
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Response<Bytes>, RegisterError> {
        let namespace = &self.kubernetes.namespace;
        let at =
            format!("{}/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases", self.server);
        let content = match method {
            Method::PATCH => "application/merge-patch+json",
            _ => "application/json",
        };
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{at}{path}"))
            .header(USER_AGENT, concat!("bulkhead/", env!("CARGO_PKG_VERSION")))
            .header(ACCEPT, "application/json");
        if body.is_some() {
            request = request.header(CONTENT_TYPE, content);
        }
        if let Some(token) = self.token()? {
            request = request.header(AUTHORIZATION, token);
        }
        let body = body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
        let request = request
            .body(body)
            .map_err(|error| RegisterError::misbehaves(format!("make the request: {error}")))?;
        let answer = self.exchanges.exchange(request).await;
        answer.map_err(|error| RegisterError::unavailable(chain(&error)))
    }

    /// Never in the clear.
    fn token(&self) -> Result<Option<HeaderValue>, RegisterError> {
        let to = &self.server.destination;
        let Some(file) = self.kubernetes.token_file.as_ref().filter(|_| to.tls || to.is_loopback())
        else {
            return Ok(None);
        };
        let shown = file.display();
        let mut token = String::new();
        File::open(file)
            .and_then(|file| file.take(MAX_TOKEN_BYTES).read_to_string(&mut token))
            .map_err(|error| RegisterError::unavailable(format!("read {shown}: {error}")))?;
        let mut value = HeaderValue::try_from(format!("Bearer {}", token.trim()))
            .map_err(|_| RegisterError::refused(format!("there is no token in {shown}")))?;
        value.set_sensitive(true);
        Ok(Some(value))
    }
}

fn status_of(answer: &Response<Bytes>) -> Status {
    let status = Some(answer).filter(|answer| !answer.status().is_success());
    let status = status.and_then(|answer| serde_json::from_slice::<Status>(answer.body()).ok());
    status.filter(|status| status.kind == "Status").unwrap_or_default()
}

fn read<T: for<'a> Deserialize<'a>>(answer: &Response<Bytes>) -> Result<T, RegisterError> {
    let status = answer.status();
    if status.is_success() {
        return serde_json::from_slice(answer.body()).map_err(|error| {
            RegisterError::misbehaves(format!(
                "what answers does not answer as an API server of Kubernetes: {error}"
            ))
        });
    }
    let said = status_of(answer);
    let text = if said.message.is_empty() { "no reason" } else { &said.message };
    let text = format!("the API server answered {status}: {text}");
    Err(match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::UNPROCESSABLE_ENTITY => {
            RegisterError::refused(text)
        }
        // The namespace, or this kind of object.
        StatusCode::NOT_FOUND if said.reason == "NotFound" => RegisterError::refused(text),
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => {
            RegisterError::unavailable(text)
        }
        status if status.is_server_error() => RegisterError::unavailable(text),
        _ => RegisterError::misbehaves(text),
    })
}
