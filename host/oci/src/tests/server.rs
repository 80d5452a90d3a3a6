//! A registry on a real socket, that also does what registries should not. One request for each connection.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bulkhead_types::Digest;
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};

use crate::signature::tests::{Signer, payload};
use crate::signature::{ANNOTATION, PAYLOAD};

/// A request.
#[derive(Debug, Clone)]
pub struct Asked {
    /// With its query.
    pub path: String,
    pub authorization: Option<String>,
    pub range: Option<String>,
    pub at: Instant,
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
    /// So much of the body is sent.
    pub sent: usize,
    /// What follows.
    pub then: Then,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    Closes,
    /// Until the other side closes.
    Hangs,
}

type Script = Box<dyn Fn(&Asked, usize) -> Option<Reply> + Send + Sync>;

#[derive(Default)]
struct State {
    contents: BTreeMap<String, Vec<u8>>,
    asked: Vec<Asked>,
    script: Option<Arc<Script>>,
}

/// The server. It ends with the test.
pub struct Server {
    pub at: SocketAddr,
    state: Arc<Mutex<State>>,
    is_over: Arc<AtomicBool>,
}

impl Reply {
    pub fn new(status: u16, body: &[u8]) -> Self {
        let (headers, then) = (Vec::new(), Then::Closes);
        Self { status, headers, body: body.into(), sent: body.len(), then }
    }

    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Promises all of the body and sends the beginning.
    pub fn sends(mut self, bytes: usize, then: Then) -> Self {
        (self.sent, self.then) = (bytes, then);
        self
    }
}

impl Server {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let (state, is_over) = (Arc::<Mutex<State>>::default(), Arc::<AtomicBool>::default());
        let shared = (Arc::clone(&state), Arc::clone(&is_over));
        thread::spawn(move || {
            let (state, is_over) = shared;
            for stream in listener.incoming() {
                if is_over.load(Ordering::SeqCst) {
                    return;
                }
                let state = Arc::clone(&state);
                thread::spawn(move || serve(&stream.unwrap(), &state));
            }
        });
        Self { at, state, is_over }
    }

    /// Answers what `script` does, with the number of earlier requests for the same path; the rest from its contents.
    pub fn answers(&self, script: impl Fn(&Asked, usize) -> Option<Reply> + Send + Sync + 'static) {
        self.state.lock().script = Some(Arc::new(Box::new(script)));
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.state.lock().asked.clone()
    }

    /// Requests for paths with this in them.
    pub fn asked_for(&self, part: &str) -> Vec<Asked> {
        self.asked().into_iter().filter(|it| it.path.contains(part)).collect()
    }

    #[track_caller]
    pub fn wait_for(&self, part: &str, count: usize) {
        let until = Instant::now() + Duration::from_secs(60);
        while self.asked_for(part).len() < count {
            assert!(Instant::now() < until, "nobody asks for {part}");
            thread::sleep(Duration::from_millis(2));
        }
    }

    pub fn put(&self, path: &str, bytes: &[u8]) -> Digest {
        self.state.lock().contents.insert(path.into(), bytes.into());
        digest(bytes)
    }

    /// A component as `wkg` pushes it; returns the digest of its manifest.
    pub fn push(&self, component: &[u8]) -> Digest {
        let layer =
            self.put(&format!("/v2/town/toast/blobs/sha256:{}", digest(component)), component);
        self.manifest(&format!(
            r#"{{"mediaType":"application/wasm","digest":"sha256:{layer}","size":{}}}"#,
            component.len()
        ))
    }

    /// A manifest with these layers.
    pub fn manifest(&self, layers: &str) -> Digest {
        let text = format!(
            r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{{"mediaType":"application/vnd.wasm.config.v0+json","digest":"sha256:{}","size":2}},"layers":[{layers}]}}"#,
            digest(b"{}")
        );
        self.put(
            &format!("/v2/town/toast/manifests/sha256:{}", digest(text.as_bytes())),
            text.as_bytes(),
        )
    }

    /// What cosign stores.
    pub fn sign(&self, manifest: Digest, signer: &Signer) {
        let text = payload(manifest);
        let layer = self.put(
            &format!("/v2/town/toast/blobs/sha256:{}", digest(text.as_bytes())),
            text.as_bytes(),
        );
        let (signature, size) = (signer.sign(text.as_bytes()), text.len());
        let signatures = format!(
            r#"{{"schemaVersion":2,"layers":[{{"mediaType":"{PAYLOAD}","digest":"sha256:{layer}","size":{size},"annotations":{{"{ANNOTATION}":"{signature}"}}}}]}}"#
        );
        self.put(&format!("/v2/town/toast/manifests/sha256-{manifest}.sig"), signatures.as_bytes());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.at));
    }
}

pub fn digest(bytes: &[u8]) -> Digest {
    Digest(Sha256::digest(bytes).into())
}

fn serve(stream: &TcpStream, state: &Mutex<State>) {
    let Some(asked) = asked(stream) else { return };
    let (before, script) = {
        let mut state = state.lock();
        let before = state.asked.iter().filter(|it| it.path == asked.path).count();
        state.asked.push(asked.clone());
        (before, state.script.clone())
    };
    let scripted = script.and_then(|script| script(&asked, before));
    let reply = scripted.unwrap_or_else(|| contents(&asked, &state.lock().contents));
    let Reply { status, headers, body, sent, then } = reply;
    let mut text = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n", body.len());
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    let mut stream = stream;
    let _ = stream.write_all(format!("{text}\r\n").as_bytes());
    let _ = stream.write_all(&body[..sent]);
    if then == Then::Hangs {
        let _ = stream.read(&mut [0]);
    }
}

fn asked(stream: &TcpStream) -> Option<Asked> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next()?.ok()?;
    let path = first.split(' ').nth(1)?.to_owned();
    let mut asked = Asked { path, authorization: None, range: None, at: Instant::now() };
    for line in lines.map_while(Result::ok).take_while(|line| !line.is_empty()) {
        let (name, value) = line.split_once(": ")?;
        match name.to_ascii_lowercase().as_str() {
            "authorization" => asked.authorization = Some(value.to_owned()),
            "range" => asked.range = Some(value.to_owned()),
            _ => {}
        }
    }
    Some(asked)
}

fn contents(asked: &Asked, contents: &BTreeMap<String, Vec<u8>>) -> Reply {
    let Some(body) = contents.get(&asked.path) else {
        return Reply::new(
            404,
            br#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#,
        );
    };
    let from = asked
        .range
        .as_deref()
        .and_then(|it| it.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
    match from {
        None => Reply::new(200, body),
        Some(from) => {
            let from: usize = from;
            let range = format!("bytes {from}-{}/{}", body.len() - 1, body.len());
            Reply::new(206, &body[from..]).with("Content-Range", range)
        }
    }
}
