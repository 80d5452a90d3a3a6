//! As much of S3 as tests ask for, on a real socket.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::ops::Sub;
use std::sync::Arc;
use std::thread::JoinHandle;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
pub use http::{Method, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body as _, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

/// What goes wrong at the server, each for one of so many requests. 0: never.
#[derive(Debug, Clone, Copy, Default)]
pub struct Faults {
    /// The request does nothing, and there is no answer.
    pub lost_requests: u32,
    /// The request is done, and there is no answer.
    pub lost_answers: u32,
}

/// What was asked for, and what bodies held. Answers that were lost count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Requests.
    pub requests: u64,
    /// In their bodies.
    pub bytes_in: u64,
    /// In the bodies of answers.
    pub bytes_out: u64,
}

/// What S3 says of a bucket that is not there.
const NO_BUCKET: &[u8] = b"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>NoSuchBucket</Code><Message>The specified \
bucket does not exist</Message><BucketName>towns</BucketName><RequestId>17</RequestId></Error>";

struct State {
    /// By method and the first two parts of the path.
    traffic: Vec<(Method, String, Traffic)>,
    conditions: bool,
    /// By path: version and content.
    objects: BTreeMap<String, (u64, Bytes)>,
    version: u64,
    faults: Faults,
    dice: fastrand::Rng,
    /// Requests that are answered with a status, and do nothing: method, end of the path, how many.
    answers: Vec<(Method, String, StatusCode, u32)>,
    /// There is no bucket.
    is_gone: bool,
}

/// A server. Dropping it ends it.
pub struct Server {
    at: SocketAddr,
    state: Arc<Mutex<State>>,
    /// `None`: it is away.
    serving: Option<Serving>,
}

struct Serving {
    end: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Server {
    /// Starts one, that honours conditions of writes or ignores them.
    pub fn start(conditions: bool) -> io::Result<Self> {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0)), conditions)
    }

    /// The same at an address.
    pub fn start_at(at: SocketAddr, conditions: bool) -> io::Result<Self> {
        let state = State {
            traffic: Vec::new(),
            conditions,
            objects: BTreeMap::new(),
            version: 1,
            faults: Faults::default(),
            dice: fastrand::Rng::with_seed(0),
            answers: Vec::new(),
            is_gone: false,
        };
        let state = Arc::new(Mutex::new(state));
        let mut server = Self { at, state, serving: None };
        server.resume()?;
        Ok(server)
    }

    /// Nobody answers any more, and all connections are closed. What is stored stays.
    pub fn pause(&mut self) {
        if let Some(Serving { end, thread }) = self.serving.take() {
            let _ = end.send(());
            let _ = thread.join();
        }
    }

    /// Serves again, at the same address.
    pub fn resume(&mut self) -> io::Result<()> {
        self.pause();
        let listener = std::net::TcpListener::bind(self.at)?;
        listener.set_nonblocking(true)?;
        self.at = listener.local_addr()?;
        let (end, ended) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let shared = Arc::clone(&self.state);
        let thread = std::thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = serve(listener, shared) => {}
                    _ = ended => {}
                }
            });
        });
        self.serving = Some(Serving { end, thread });
        Ok(())
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("http://{}", self.at)
    }

    /// What goes wrong from now on, by these dice.
    pub fn set_faults(&self, faults: Faults, seed: u64) {
        let mut state = self.state.lock();
        (state.faults, state.dice) = (faults, fastrand::Rng::with_seed(seed));
    }

    /// Answers the next requests of this method, for an object whose path ends so, with a status. They do nothing.
    pub fn answer_next(&self, method: Method, end: &str, status: StatusCode, count: u32) {
        let mut state = self.state.lock();
        // What was said of them before does not count any more.
        state.answers.retain(|(of, before, ..)| (of, &**before) != (&method, end));
        state.answers.push((method, end.to_owned(), status, count));
    }

    /// There is no bucket from now on, or there is one again, with what it held.
    pub fn set_gone(&self, is_gone: bool) {
        self.state.lock().is_gone = is_gone;
    }

    /// What was asked for by this method of objects whose paths begin with `/bucket/part`, since the server began.
    pub fn traffic(&self, method: &Method, below: &str) -> Traffic {
        let state = self.state.lock();
        let found = state.traffic.iter().find(|(of, part, _)| of == method && part == below);
        found.map_or_else(Traffic::default, |(.., traffic)| *traffic)
    }

    /// The paths of all objects, `/bucket/key`.
    pub fn paths(&self) -> Vec<String> {
        self.state.lock().objects.keys().cloned().collect()
    }

    /// Changes an object behind everybody's back. Says whether it is there.
    pub fn change(&self, path: &str, change: impl FnOnce(&mut Vec<u8>)) -> bool {
        let mut state = self.state.lock();
        let Some((_, object)) = state.objects.get_mut(path) else { return false };
        let mut bytes = object.to_vec();
        change(&mut bytes);
        *object = bytes.into();
        true
    }

    /// Removes an object behind everybody's back.
    pub fn remove(&self, path: &str) -> bool {
        self.state.lock().objects.remove(path).is_some()
    }
}

async fn serve(listener: std::net::TcpListener, state: Arc<Mutex<State>>) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await?;
        let state = Arc::clone(&state);
        connections.spawn(async move {
            let service = service_fn(|request| answer(request, Arc::clone(&state)));
            let served = hyper::server::conn::http1::Builder::new();
            let _ = served.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

/// An error closes the connection without an answer.
async fn answer(
    request: Request<Incoming>,
    state: Arc<Mutex<State>>,
) -> Result<Response<Full<Bytes>>, io::Error> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let state = &mut *state.lock();
    let Faults { lost_requests, lost_answers } = state.faults;
    let mut strikes = |one_of: u32| one_of > 0 && state.dice.u32(0..one_of) == 0;
    let (no_request, no_answer) = (strikes(lost_requests), strikes(lost_answers));
    if no_request {
        return Err(io::ErrorKind::ConnectionReset.into());
    }
    let bytes_in = body.len() as u64;
    let answer = state.object(&parts.method, parts.uri.path(), &parts.headers, body);
    let bytes_out = answer.body().size_hint().lower();
    state.count(&parts.method, parts.uri.path(), bytes_in, bytes_out);
    match no_answer {
        true => Err(io::ErrorKind::ConnectionReset.into()),
        false => Ok(answer),
    }
}

impl Sub for Traffic {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            requests: self.requests - before.requests,
            bytes_in: self.bytes_in - before.bytes_in,
            bytes_out: self.bytes_out - before.bytes_out,
        }
    }
}

impl State {
    fn count(&mut self, method: &Method, path: &str, bytes_in: u64, bytes_out: u64) {
        let end = path.match_indices('/').nth(2).map_or(path.len(), |(end, _)| end);
        let part = &path[..end];
        let known = self.traffic.iter().position(|(of, it, _)| of == method && it == part);
        let index = known.unwrap_or_else(|| {
            self.traffic.push((method.clone(), part.to_owned(), Traffic::default()));
            self.traffic.len() - 1
        });
        let traffic = &mut self.traffic[index].2;
        traffic.requests += 1;
        traffic.bytes_in += bytes_in;
        traffic.bytes_out += bytes_out;
    }

    fn object(
        &mut self,
        method: &Method,
        path: &str,
        headers: &HeaderMap,
        body: Bytes,
    ) -> Response<Full<Bytes>> {
        let mut answer = Response::new(Full::default());
        if self.is_gone {
            *answer.status_mut() = StatusCode::NOT_FOUND;
            *answer.body_mut() = Full::new(Bytes::from_static(NO_BUCKET));
            return answer;
        }
        let is_next = |(of, end, _, count): &&mut (Method, String, StatusCode, u32)| {
            of == method && path.ends_with(&**end) && *count > 0
        };
        if let Some((.., status, count)) = self.answers.iter_mut().find(is_next) {
            *count -= 1;
            *answer.status_mut() = *status;
            return answer;
        }
        let set = |answer: &mut Response<Full<Bytes>>, name: &'static str, value: &str| {
            if let Ok(value) = value.parse() {
                answer.headers_mut().insert(name, value);
            }
        };
        let tag = |version| format!("\"{version:08}\"");
        let there = self.objects.get(path).cloned();
        let etag = there.as_ref().map(|(version, _)| tag(*version));
        if *method == Method::PUT {
            let expected = headers.get("if-match").and_then(|it| it.to_str().ok());
            let fits = match (expected, headers.contains_key("if-none-match")) {
                (None, false) => true,
                (None, true) => etag.is_none(),
                (expected, _) => expected == etag.as_deref(),
            };
            if self.conditions && !fits {
                *answer.status_mut() = StatusCode::PRECONDITION_FAILED;
                return answer;
            }
            self.version += 1;
            self.objects.insert(path.to_owned(), (self.version, body));
            set(&mut answer, "etag", &tag(self.version));
            return answer;
        }
        if *method == Method::DELETE {
            self.objects.remove(path);
            *answer.status_mut() = StatusCode::NO_CONTENT;
            return answer;
        }
        let Some(((_, value), etag)) = there.zip(etag) else {
            *answer.status_mut() = StatusCode::NOT_FOUND;
            return answer;
        };
        set(&mut answer, "etag", &etag);
        set(&mut answer, "last-modified", "Thu, 15 Jan 2026 09:29:00 GMT");
        *answer.body_mut() = Full::new(value);
        answer
    }
}
