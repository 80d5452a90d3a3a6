//! As much of S3, of etcd's gateway and of an API server of Kubernetes as a register asks for, on a real socket.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// S3, with conditions or without.
    Bucket { conditions: bool },
    /// etcd, that wants the password `hunter2` or none.
    Etcd { login: bool },
    /// An API server, that honours versions or not, for the token `hunter2`.
    Kubernetes { versions: bool },
}

struct State {
    kind: Kind,
    /// By key: revision and value.
    values: BTreeMap<String, (u64, Bytes)>,
    revision: u64,
    tokens: Vec<String>,
}

pub struct Server {
    pub at: SocketAddr,
    state: Arc<Mutex<State>>,
    _end: oneshot::Sender<()>,
}

impl Server {
    pub fn start(kind: Kind) -> Self {
        let state = State { kind, values: BTreeMap::new(), revision: 1, tokens: Vec::new() };
        let state = Arc::new(Mutex::new(state));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let (at, (end, ended)) = (listener.local_addr().unwrap(), oneshot::channel());
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                tokio::select! {
                    () = serve(listener, shared) => {}
                    _ = ended => {}
                }
            });
        });
        Self { at, state, _end: end }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.at)
    }

    pub fn object(&self, name: &str) -> Value {
        let state = self.state.lock();
        serde_json::from_slice(&state.values[name].1).unwrap()
    }

    pub fn set(&self, name: &str, text: &'static str) {
        self.state.lock().put(name, Bytes::from_static(text.as_bytes()));
    }

    /// As a member does that starts again.
    pub fn forget_tokens(&self) {
        self.state.lock().tokens.clear();
    }
}

async fn serve(listener: std::net::TcpListener, state: Arc<Mutex<State>>) {
    let listener = TcpListener::from_std(listener).unwrap();
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let state = Arc::clone(&state);
        connections.spawn(async move {
            let service = service_fn(|request| answer(request, Arc::clone(&state)));
            let served = hyper::server::conn::http1::Builder::new();
            let _ = served.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    state: Arc<Mutex<State>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let state = &mut *state.lock();
    let path = parts.uri.path();
    Ok(match state.kind {
        Kind::Bucket { conditions } => {
            let query = parts.uri.query().unwrap_or_default();
            match query.contains("list-type=2") {
                true => state.list(path, query),
                false => state.object(&parts.method, path, &parts.headers, body, conditions),
            }
        }
        Kind::Kubernetes { versions } => {
            let token = parts.headers.get("authorization").and_then(|it| it.to_str().ok());
            let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
            let (status, answer) = match token {
                Some("Bearer hunter2") => state.api_server(&parts, body, versions),
                _ => refused(401, "Unauthorized", "Unauthorized"),
            };
            let mut response = Response::new(Full::from(answer.to_string()));
            *response.status_mut() = StatusCode::from_u16(status).unwrap();
            response
        }
        Kind::Etcd { login } => {
            let body = serde_json::from_slice(&body).unwrap();
            let token = parts.headers.get("authorization").and_then(|it| it.to_str().ok());
            let (status, answer) = state.gateway(path, token, &body, login);
            let mut response = Response::new(Full::from(answer.to_string()));
            *response.status_mut() = StatusCode::from_u16(status).unwrap();
            response
        }
    })
}

fn refused(status: u16, reason: &str, text: &str) -> (u16, Value) {
    let kind = "Status";
    (status, json!({ "kind": kind, "reason": reason, "message": text, "code": status }))
}

/// As RFC 7396 has it.
fn merge(into: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *into = patch.clone();
        return;
    };
    if !into.is_object() {
        *into = json!({});
    }
    for (key, value) in patch {
        match value {
            Value::Null => drop(into.as_object_mut().unwrap().remove(key)),
            value => merge(&mut into[key], value),
        }
    }
}

impl State {
    /// Two objects a page.
    fn api_server(&mut self, parts: &Parts, body: Value, versions: bool) -> (u16, Value) {
        let path = parts.uri.path();
        let Some(name) = path.strip_prefix("/apis/coordination.k8s.io/v1/namespaces/towns/leases")
        else {
            return refused(404, "NotFound", "namespaces not found");
        };
        let query = parts.uri.query().unwrap_or_default();
        let is_dry = query.contains("dryRun=All");
        let name = name.trim_start_matches('/').to_owned();
        let put = |state: &mut Self, name: &str, mut object: Value| {
            let revision = if is_dry { 0 } else { state.put(name, Bytes::new()) };
            object["metadata"]["resourceVersion"] = revision.to_string().into();
            if !is_dry {
                state.values.insert(name.to_owned(), (revision, object.to_string().into()));
            }
            object
        };
        let there = |state: &Self, name: &str| {
            let (_, object) = state.values.get(name)?;
            serde_json::from_slice::<Value>(object).ok()
        };
        match parts.method {
            Method::POST => {
                let name = body["metadata"]["name"].as_str().unwrap().to_owned();
                match there(self, &name) {
                    Some(_) => refused(409, "AlreadyExists", "it exists"),
                    None => (201, put(self, &name, body)),
                }
            }
            Method::PATCH => {
                assert_eq!(parts.headers["content-type"], "application/merge-patch+json");
                let Some(mut object) = there(self, &name) else {
                    return refused(404, "NotFound", "leases not found");
                };
                let wanted = &body["metadata"]["resourceVersion"];
                if versions && *wanted != object["metadata"]["resourceVersion"] {
                    return refused(409, "Conflict", "the object has been modified");
                }
                merge(&mut object, &body);
                (200, put(self, &name, object))
            }
            _ if name.is_empty() => {
                assert!(query.contains("labelSelector=app.kubernetes.io%2Fmanaged-by%3Dbulkhead"));
                let from = query.split_once("continue=").map_or("", |(_, token)| token);
                let keys: Vec<_> = self.values.keys().filter(|key| &***key > from).collect();
                let page = &keys[..keys.len().min(2)];
                let next = if page.len() < keys.len() { page[1] } else { "" };
                let items: Vec<_> = page.iter().filter_map(|key| there(self, key)).collect();
                (200, json!({ "metadata": { "continue": next }, "items": items }))
            }
            _ => match there(self, &name) {
                Some(object) => (200, object),
                None => refused(404, "NotFound", "leases not found"),
            },
        }
    }

    fn put(&mut self, key: &str, value: Bytes) -> u64 {
        self.revision += 1;
        self.values.insert(key.to_owned(), (self.revision, value));
        self.revision
    }

    fn object(
        &mut self,
        method: &Method,
        path: &str,
        headers: &HeaderMap,
        body: Bytes,
        conditions: bool,
    ) -> Response<Full<Bytes>> {
        let mut answer = Response::new(Full::default());
        let tag = |revision| format!("\"{revision:08}\"");
        let there = self.values.get(path).cloned();
        let etag = there.as_ref().map(|(revision, _)| tag(*revision));
        if *method == Method::PUT {
            let expected = headers.get("if-match").map(|it| it.to_str().unwrap().to_owned());
            let fits = match (expected, headers.contains_key("if-none-match")) {
                (None, false) => true,
                (None, true) => etag.is_none(),
                (expected, _) => expected == etag,
            };
            if conditions && !fits {
                *answer.status_mut() = StatusCode::PRECONDITION_FAILED;
                return answer;
            }
            let revision = self.put(path, body);
            answer.headers_mut().insert("etag", tag(revision).parse().unwrap());
            return answer;
        }
        let Some(((_, value), etag)) = there.zip(etag) else {
            *answer.status_mut() = StatusCode::NOT_FOUND;
            return answer;
        };
        let headers = answer.headers_mut();
        headers.insert("etag", etag.parse().unwrap());
        headers.insert("last-modified", "Thu, 15 Jan 2026 09:29:00 GMT".parse().unwrap());
        *answer.body_mut() = Full::new(value);
        answer
    }

    /// Two keys a page. The token is the last one of them.
    fn list(&self, path: &str, query: &str) -> Response<Full<Bytes>> {
        let given = |name: &str| {
            let mut parts = query.split('&').filter_map(|part| part.split_once('='));
            let (_, value) = parts.find(|(it, _)| *it == name)?;
            Some(value.replace("%2F", "/"))
        };
        let before = format!("{}/", path.trim_end_matches('/'));
        let prefix = given("prefix").unwrap_or_default();
        let from = given("continuation-token").unwrap_or_default();
        let keys = self.values.keys().filter_map(|key| key.strip_prefix(&*before));
        let is_listed = |key: &&str| {
            let name = key.strip_prefix(&*prefix);
            name.is_some_and(|name| !name.contains('/')) && *key > &*from
        };
        let keys: Vec<_> = keys.filter(is_listed).collect();
        let page = &keys[..keys.len().min(2)];
        let mut text = String::from("<ListBucketResult><Name>leases</Name>");
        if page.len() < keys.len() {
            let next = page.last().unwrap();
            text += &format!("<NextContinuationToken>{next}</NextContinuationToken>");
        }
        for key in page {
            text += &format!(
                "<Contents><Key>{key}</Key><LastModified>2026-01-15T09:29:00.000Z</LastModified>\
                 <ETag>\"x\"</ETag><Size>7</Size></Contents>"
            );
        }
        Response::new(Full::from(text + "</ListBucketResult>"))
    }

    /// Two keys a page.
    fn keys(&self, from: &str, end: &str) -> Value {
        let plain = |key: &str| BASE64.decode(key).unwrap();
        let (from, end) = (plain(from), plain(end));
        let keys = self.values.keys().map(|key| plain(key));
        let mut keys: Vec<_> = keys.filter(|key| (&from..&end).contains(&key)).collect();
        keys.sort();
        let more = keys.len() > 2;
        keys.truncate(2);
        let keys = keys.iter().map(|key| json!({ "key": BASE64.encode(key) }));
        let kvs: Vec<_> = keys.collect();
        json!({ "header": { "revision": self.revision.to_string() }, "kvs": kvs, "more": more })
    }

    fn gateway(
        &mut self,
        path: &str,
        token: Option<&str>,
        body: &Value,
        login: bool,
    ) -> (u16, Value) {
        let refused = |status, code: i64, text: &str| {
            (status, json!({ "error": text, "message": text, "code": code }))
        };
        if path == "/v3/auth/authenticate" {
            if body["password"] != "hunter2" {
                let text = "etcdserver: authentication failed, invalid user ID or password";
                return refused(400, 3, text);
            }
            let token = format!("token.{}", self.tokens.len() + 1);
            self.tokens.push(token.clone());
            return (200, json!({ "header": {}, "token": token }));
        }
        match token {
            None if login => return refused(400, 3, "etcdserver: user name is empty"),
            Some(token) if !self.tokens.iter().any(|it| it == token) => {
                return refused(401, 16, "etcdserver: invalid auth token");
            }
            _ => {}
        }
        let header = |revision: u64| json!({ "revision": revision.to_string() });
        match path {
            "/v3/kv/range" if body["range_end"].is_string() => {
                assert_eq!(body["keys_only"], true);
                let text = |name: &str| body[name].as_str().unwrap();
                (200, self.keys(text("key"), text("range_end")))
            }
            "/v3/kv/range" => {
                let key = body["key"].as_str().unwrap();
                let found = self.values.get(key).map(|(revision, value)| {
                    let revision = revision.to_string();
                    json!({ "key": key, "mod_revision": revision, "value": BASE64.encode(value) })
                });
                let only_count = body["count_only"] == true;
                match found.filter(|_| !only_count) {
                    Some(found) => {
                        (200, json!({ "header": header(self.revision), "kvs": [found] }))
                    }
                    None => (200, json!({ "header": header(self.revision) })),
                }
            }
            "/v3/kv/txn" => {
                let compare = &body["compare"][0];
                assert_eq!(
                    (&compare["target"], &compare["result"]),
                    (&"MOD".into(), &"EQUAL".into())
                );
                let key = compare["key"].as_str().unwrap();
                let there = self.values.get(key).map_or(0, |(revision, _)| *revision);
                if compare["mod_revision"].as_str() != Some(&there.to_string()) {
                    return (200, json!({ "header": header(self.revision) }));
                }
                let put = &body["success"][0]["request_put"];
                let value = BASE64.decode(put["value"].as_str().unwrap()).unwrap();
                let revision = self.put(key, value.into());
                (200, json!({ "header": header(revision), "succeeded": true }))
            }
            _ => refused(404, 5, "Not Found"),
        }
    }
}
