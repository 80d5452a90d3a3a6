//! A sink by HTTP on a real socket, that also does what sinks should not.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

/// What the server does with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    Works,
    /// Answers with this status.
    Answers(u16),
    /// Never answers.
    Hangs,
    /// Stores the first half of a document, and says that it has all.
    StoresHalf,
    /// Works, and closes every connection after its answer.
    Closes,
}

#[derive(Default)]
pub struct Kept {
    pub documents: BTreeMap<String, Bytes>,
    /// When each was put, in their order.
    pub puts: Vec<(String, Instant)>,
    pub connections: usize,
    pub authorization: Option<String>,
}

pub struct Server {
    pub at: SocketAddr,
    pub kept: Arc<Mutex<Kept>>,
    mood: Arc<Mutex<Mood>>,
    _end: oneshot::Sender<()>,
}

impl Server {
    pub fn start() -> Self {
        let (kept, mood) = (Arc::<Mutex<Kept>>::default(), Arc::new(Mutex::new(Mood::Works)));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let (at, (end, ended)) = (listener.local_addr().unwrap(), oneshot::channel());
        let shared = (Arc::clone(&kept), Arc::clone(&mood));
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                tokio::select! {
                    () = serve(listener, shared) => {}
                    _ = ended => {}
                }
            });
        });
        Self { at, kept, mood, _end: end }
    }

    pub fn set(&self, mood: Mood) {
        *self.mood.lock() = mood;
    }

    pub fn url(&self) -> String {
        format!("http://{}/evidence", self.at)
    }

    /// Waits until `it` is true of what is kept.
    #[track_caller]
    pub fn wait_until(&self, what: &str, it: impl Fn(&Kept) -> bool) {
        let until = Instant::now() + Duration::from_secs(20);
        while !it(&self.kept.lock()) {
            assert!(Instant::now() < until, "{what}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

type Shared = (Arc<Mutex<Kept>>, Arc<Mutex<Mood>>);

async fn serve(listener: std::net::TcpListener, shared: Shared) {
    let listener = TcpListener::from_std(listener).unwrap();
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        shared.0.lock().connections += 1;
        let shared = shared.clone();
        connections.spawn(async move {
            let service = service_fn(|request| answer(request, shared.clone()));
            let served = hyper::server::conn::http1::Builder::new();
            let _ = served.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    (kept, mood): Shared,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let mut body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let mood = *mood.lock();
    let mut answer = Response::new(Full::default());
    match mood {
        Mood::Hangs => std::future::pending().await,
        Mood::Answers(status) => {
            *answer.status_mut() = StatusCode::from_u16(status).unwrap();
            return Ok(answer);
        }
        Mood::StoresHalf => body.truncate(body.len() / 2),
        Mood::Closes => {
            answer.headers_mut().insert("connection", "close".parse().unwrap());
        }
        Mood::Works => {}
    }
    let mut kept = kept.lock();
    let sent = parts.headers.get("authorization");
    kept.authorization = sent.map(|it| it.to_str().unwrap().to_owned());
    let path = parts.uri.path().to_owned();
    match parts.method {
        Method::PUT => {
            kept.puts.push((path.clone(), Instant::now()));
            kept.documents.insert(path, body);
            *answer.status_mut() = StatusCode::CREATED;
        }
        _ => match kept.documents.get(&path) {
            Some(found) => *answer.body_mut() = Full::new(found.clone()),
            None => *answer.status_mut() = StatusCode::NOT_FOUND,
        },
    }
    Ok(answer)
}
