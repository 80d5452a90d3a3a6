//! A record in etcd, at the key `PREFIX/TOWN`, by the gateway that speaks JSON (`/v3/kv/range`, `/v3/kv/txn`). Its version
//! is the revision in which the key was last written: revisions are of the whole cluster, and none is used twice.
//!
//! Leases of etcd are not used: they end by the clock of its leader, and begin again when there is another one. Reads are
//! linearizable, so a member that is apart from the others does not answer.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bulkhead_bucket::Name;
use bulkhead_net::{BaseUrl, Connector, ExchangeError, Exchanges};
use bulkhead_types::Secret;
use bulkhead_types::error::chain;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, USER_AGENT};
use http::{Request, Response, StatusCode};
use parking_lot::Mutex;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{Names, Register, Written};
use crate::document::{self, MAX_BYTES};
use crate::fault::RegisterError;
use crate::protocol::{Record, Version};
use crate::settings::Etcd;

/// Largest answer: a record in base64, twice, and what is around it.
const MAX_ANSWER: usize = 4 * MAX_BYTES;

/// A key that is not there has this revision.
const ABSENT: &str = "0";
/// No key has this one: it is the last that there can be.
const NO_REVISION: &str = "9223372036854775807";

/// The record of one town.
pub(super) struct Cluster {
    client: Client,
    /// In base64.
    key: String,
}

struct Client {
    etcd: Etcd,
    exchanges: Exchanges,
    /// The member that is asked first.
    current: AtomicUsize,
    token: Mutex<Option<Secret>>,
}

#[derive(Deserialize)]
struct Header {
    revision: String,
}

#[derive(Deserialize)]
struct Range {
    #[serde(default)]
    kvs: Vec<KeyValue>,
    /// It says that etcd answers, and not a server that answers everything with an empty object.
    #[serde(rename = "header")]
    _header: Header,
}

#[derive(Deserialize)]
struct KeyValue {
    mod_revision: String,
    value: String,
}

#[derive(Deserialize)]
struct Txn {
    header: Header,
    /// Left out when it is false.
    #[serde(default)]
    succeeded: bool,
}

#[derive(Deserialize)]
struct Authenticated {
    token: Secret,
}

/// How the gateway says no: a code of gRPC, and a text.
#[derive(Deserialize)]
struct Refusal {
    #[serde(default)]
    code: i64,
    #[serde(default)]
    message: String,
    #[serde(default)]
    error: String,
}

impl Cluster {
    pub fn new(etcd: Etcd, connector: Connector, patience: Duration, town: &Name) -> Self {
        let key = key(&etcd, town);
        Self { client: Client::new(etcd, connector, patience, MAX_ANSWER), key }
    }
}

/// In base64.
fn key(etcd: &Etcd, town: &Name) -> String {
    BASE64.encode(format!("{}/{}", etcd.prefix, town.as_str()))
}

impl Client {
    fn new(etcd: Etcd, connector: Connector, patience: Duration, max_answer: usize) -> Self {
        // A member that swallows packets leaves time for another one.
        let exchanges = Exchanges::new(connector, patience / 3, max_answer);
        Self { etcd, exchanges, current: AtomicUsize::new(0), token: Mutex::default() }
    }

    async fn get(&self, key: &str) -> Result<Option<(Version, Record)>, RegisterError> {
        let range: Range = self.ask("/v3/kv/range", &json!({ "key": key })).await?;
        let Some(found) = range.kvs.into_iter().next() else { return Ok(None) };
        let bytes = BASE64.decode(&found.value).map_err(|error| {
            RegisterError::misbehaves(format!("the record of the lease is no base64: {error}"))
        })?;
        Ok(Some((Version(found.mod_revision.into()), document::decode(&bytes)?)))
    }

    async fn ask<T: DeserializeOwned>(&self, path: &str, body: &Value) -> Result<T, RegisterError> {
        if self.etcd.login.is_some() && self.token().is_none() {
            self.log_in().await?;
        }
        let answer = self.post(path, body).await?;
        if answer.status() != StatusCode::UNAUTHORIZED || self.etcd.login.is_none() {
            return read(&answer);
        }
        // A token holds for some minutes, and until its member restarts.
        self.log_in().await?;
        read(&self.post(path, body).await?)
    }

    async fn log_in(&self) -> Result<(), RegisterError> {
        let Some((name, password)) = &self.etcd.login else { return Ok(()) };
        self.set_token(None);
        let body = json!({ "name": name, "password": password.expose() });
        let answer: Authenticated = read(&self.post("/v3/auth/authenticate", &body).await?)?;
        self.set_token(Some(answer.token));
        Ok(())
    }

    /// Asks a member, and the next one only where nothing was sent.
    async fn post(&self, path: &str, body: &Value) -> Result<Response<Bytes>, RegisterError> {
        let (count, first) = (self.etcd.servers.len(), self.current.load(Ordering::Relaxed));
        let mut failure = RegisterError::unavailable("there is no member to ask");
        for at in first..first + count {
            let server = &self.etcd.servers[at % count];
            // For the call after one that is dropped because it takes too long.
            self.current.store((at + 1) % count, Ordering::Relaxed);
            match self.exchanges.exchange(self.request(server, path, body)?).await {
                Ok(answer) => {
                    if !answer.status().is_server_error() {
                        self.current.store(at % count, Ordering::Relaxed);
                    }
                    return Ok(answer);
                }
                Err(error @ ExchangeError::Connect(_)) => {
                    failure = RegisterError::unavailable(chain(&error));
                }
                Err(error) => return Err(RegisterError::unavailable(chain(&error))),
            }
        }
        Err(failure)
    }

    fn request(
        &self,
        server: &BaseUrl,
        path: &str,
        body: &Value,
    ) -> Result<Request<Bytes>, RegisterError> {
        let mut request = Request::post(format!("{server}{path}"))
            .header(USER_AGENT, concat!("bulkhead/", env!("CARGO_PKG_VERSION")))
            .header(CONTENT_TYPE, "application/json");
        if let Some(token) = self.token() {
            let mut value = HeaderValue::try_from(token.expose()).map_err(|_| {
                RegisterError::misbehaves("etcd gave a token that cannot be sent in a header")
            })?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        let made = request.body(Bytes::from(body.to_string()));
        made.map_err(|error| RegisterError::misbehaves(format!("make the request: {error}")))
    }

    fn token(&self) -> Option<Secret> {
        self.token.lock().clone()
    }

    fn set_token(&self, token: Option<Secret>) {
        *self.token.lock() = token;
    }
}

#[async_trait]
impl Register for Cluster {
    /// Whether etcd answers, and lets this user write: a write on a condition that no key meets wants the right to write as
    /// every other does.
    async fn probe(&self) -> Result<(), RegisterError> {
        let body = json!({ "key": self.key, "count_only": true });
        self.client.ask::<Range>("/v3/kv/range", &body).await?;
        match self.put(NO_REVISION, "").await? {
            Written::Conflict => Ok(()),
            Written::Stored(_) => Err(RegisterError::misbehaves(
                "what answers as etcd ignores the condition of a write: it cannot hold leases",
            )),
        }
    }

    async fn read(&self) -> Result<Option<(Version, Record)>, RegisterError> {
        self.client.get(&self.key).await
    }

    async fn write_if(
        &self,
        expected: Option<&Version>,
        record: &Record,
    ) -> Result<Written, RegisterError> {
        let revision = expected.map_or(ABSENT, |version| &*version.0);
        self.put(revision, &BASE64.encode(document::encode(record)?)).await
    }
}

impl Cluster {
    /// Writes a value, in base64, where the key has this revision.
    async fn put(&self, revision: &str, value: &str) -> Result<Written, RegisterError> {
        let body = json!({
            "compare": [{
                "key": self.key, "target": "MOD", "result": "EQUAL", "mod_revision": revision,
            }],
            "success": [{ "request_put": { "key": self.key, "value": value } }],
        });
        let txn: Txn = self.client.ask("/v3/kv/txn", &body).await?;
        Ok(match txn.succeeded {
            true => Written::Stored(Version(txn.header.revision.into())),
            false => Written::Conflict,
        })
    }
}

/// Those of all towns.
pub(super) struct Records {
    client: Client,
}

/// Keys that are asked for at once.
const PAGE: usize = 1000;
/// Largest answer: so many keys, in base64, and what is around them.
const MAX_PAGE: usize = 4 * 1024 * 1024;

#[derive(Deserialize)]
struct Keys {
    #[serde(default)]
    kvs: Vec<Key>,
    /// Left out when it is false.
    #[serde(default)]
    more: bool,
    #[serde(rename = "header")]
    _header: Header,
}

#[derive(Deserialize)]
struct Key {
    key: String,
}

impl Records {
    pub fn new(etcd: Etcd, connector: Connector, patience: Duration) -> Self {
        Self { client: Client::new(etcd, connector, patience, MAX_PAGE) }
    }
}

#[async_trait]
impl super::Records for Records {
    async fn names(&self, most: usize) -> Result<Names, RegisterError> {
        let before = format!("{}/", self.client.etcd.prefix).into_bytes();
        // The character after the slash.
        let end = BASE64.encode(format!("{}0", self.client.etcd.prefix));
        let (mut found, mut from) = (Names::default(), before.clone());
        loop {
            let body = json!({
                "key": BASE64.encode(&from), "range_end": end, "keys_only": true, "limit": PAGE.to_string(),
            });
            let page: Keys = self.client.ask("/v3/kv/range", &body).await?;
            let keys = page.kvs.iter().filter_map(|it| BASE64.decode(&it.key).ok());
            let mut last = None;
            for key in keys {
                let name =
                    key.strip_prefix(&*before).and_then(|name| std::str::from_utf8(name).ok());
                found.names.extend(name.and_then(|name| Name::parse(name).ok()));
                last = Some(key);
            }
            let next = last.filter(|_| page.more && found.names.len() <= most);
            let Some(mut next) = next else {
                found.has_more = found.names.len() > most || page.more;
                found.names.truncate(most);
                return Ok(found);
            };
            // The first key after it.
            next.push(0);
            from = next;
        }
    }

    async fn read(&self, town: &Name) -> Result<Option<Record>, RegisterError> {
        let read = self.client.get(&key(&self.client.etcd, town)).await?;
        Ok(read.map(|(_, record)| record))
    }
}

fn read<T: DeserializeOwned>(answer: &Response<Bytes>) -> Result<T, RegisterError> {
    let status = answer.status();
    if status.is_success() {
        return serde_json::from_slice(answer.body()).map_err(|error| {
            RegisterError::misbehaves(format!("what answers does not answer as etcd: {error}"))
        });
    }
    let refusal = serde_json::from_slice::<Refusal>(answer.body()).ok();
    let text = refusal.as_ref().map(|refusal| match &*refusal.message {
        "" => &*refusal.error,
        message => message,
    });
    let text = format!("etcd answered {status}: {}", text.unwrap_or("no reason"));
    Err(match (status, refusal.map(|refusal| refusal.code)) {
        (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, _) => RegisterError::refused(text),
        // Invalid argument (it wants a login), permission denied, exhausted, unauthenticated.
        (_, Some(3 | 7 | 8 | 16)) => RegisterError::refused(text),
        (StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS, _) => {
            RegisterError::unavailable(text)
        }
        (status, _) if status.is_server_error() => RegisterError::unavailable(text),
        _ => RegisterError::misbehaves(text),
    })
}
