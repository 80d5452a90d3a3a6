//! A server on a thread of its own, for tests that are not async, and the end of one that is run by hand.

use std::io;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

/// How long tasks may take to see that their runtime ends.
const END: Duration = Duration::from_secs(1);

/// Reports that a server listens, and where, or why it does not.
pub type Begun<T> = SyncSender<io::Result<T>>;

/// A thread with a runtime that serves. Dropping it ends the server and waits for its thread.
pub struct ServerThread {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl ServerThread {
    /// Starts a thread that runs `serve`, and waits until that has reported that it listens. The receiver gets an
    /// error when the server is to stop.
    pub fn start<T, F>(
        name: &str,
        serve: impl FnOnce(Begun<T>, oneshot::Receiver<()>) -> F + Send + 'static,
    ) -> io::Result<(T, Self)>
    where
        T: Send + 'static,
        F: Future<Output = io::Result<()>>,
    {
        let (stop, stopped) = oneshot::channel();
        let (begun, address) = sync_channel(1);
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => return drop(begun.send(Err(error))),
            };
            if let Err(error) = runtime.block_on(serve(begun.clone(), stopped)) {
                // Somebody waits for it, or it is reported.
                if let Err(error) = begun.try_send(Err(error)) {
                    eprintln!("a server ended: {error}");
                }
            }
            runtime.shutdown_timeout(END);
        })?;
        let address = address.recv().map_err(io::Error::other)??;
        Ok((address, Self { stop: Some(stop), thread: Some(thread) }))
    }
}

impl Drop for ServerThread {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Waits for SIGINT or SIGTERM.
pub fn until_signalled() -> io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
