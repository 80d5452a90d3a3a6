//! The server's thread, and what a test can ask and change.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::runtime::Builder;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::answer::answer;
use crate::state::{Counts, Fault, State, Wanted};

/// A running server. Dropping it ends it and waits for its thread.
#[derive(Debug)]
pub struct GitServer {
    address: SocketAddr,
    state: Arc<State>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl GitServer {
    /// Serves the bare repositories below a directory on a free port of the loopback interface.
    pub fn start(root: &Path) -> io::Result<Self> {
        Self::listen(([127, 0, 0, 1], 0).into(), root)
    }

    /// The same at an address of choice; port 0 takes a free one.
    pub fn listen(address: SocketAddr, root: &Path) -> io::Result<Self> {
        let failed = |error: io::Error| {
            io::Error::new(error.kind(), format!("listen on {address}: {error}"))
        };
        let listener = std::net::TcpListener::bind(address).map_err(failed)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let state = Arc::new(State::new(root.to_owned()));
        let (stop, stopped) = oneshot::channel();
        let of_thread = Arc::clone(&state);
        let thread =
            std::thread::Builder::new().name("git-server".to_owned()).spawn(move || {
                if let Err(error) = serve(listener, &of_thread, stopped) {
                    eprintln!("the git server ended: {error}");
                }
            })?;
        Ok(Self { address, state, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it listens: `http://127.0.0.1:port`.
    pub fn base(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The URL of a repository.
    pub fn url(&self, repository: &str) -> String {
        format!("{}/{repository}", self.base())
    }

    /// The directory of a repository.
    pub fn path(&self, repository: &str) -> PathBuf {
        self.state.root.join(repository)
    }

    /// Misbehaves from here on, or no longer.
    pub fn misbehave(&self, fault: Option<Fault>) {
        self.state.lock().fault = fault;
    }

    /// Wants this credential from here on, or none.
    pub fn want(&self, credential: Option<(&str, &str)>) {
        self.state.lock().wanted = credential.map(|(username, password)| Wanted {
            username: username.to_owned(),
            password: password.to_owned(),
        });
    }

    /// Requests so far.
    pub fn counts(&self) -> Counts {
        self.state.lock().counts
    }

    /// The values of `Authorization` that clients sent, oldest first.
    pub fn authorizations(&self) -> Vec<String> {
        self.state.lock().authorizations.clone()
    }
}

impl Drop for GitServer {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(
    listener: std::net::TcpListener,
    state: &Arc<State>,
    stopped: oneshot::Receiver<()>,
) -> io::Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::from_std(listener)?;
        tokio::select! {
            ended = accept(&listener, state) => ended,
            _ = stopped => Ok(()),
        }
    })
}

async fn accept(listener: &TcpListener, state: &Arc<State>) -> io::Result<()> {
    // Dropping it ends the connections, and their programs with them.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let ((stream, _), state) = (accepted?, Arc::clone(state));
                connections.spawn(async move {
                    let service = service_fn(|request| answer(&state, request));
                    // What ends a connection is the client's affair, or the fault that the test wants.
                    let _ = http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}
