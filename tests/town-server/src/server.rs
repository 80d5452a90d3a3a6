//! A server on a thread of its own, for tests that are not async.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use model_server::thread::ServerThread;
use tokio::sync::mpsc;

use crate::call::Call;
use crate::fault::{Fault, Which};
use crate::listener::{Order, Port, run};
use crate::log::Record;
use crate::shared::Shared;
use crate::tls;
use crate::town::Town;

/// Orders that wait for the listener.
const MAX_ORDERS: usize = 16;

/// What a server is like.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where it listens. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// Stands before the paths of the API, without a slash at its end.
    pub prefix: String,
    /// It speaks TLS, with [`CERTIFICATE`](crate::CERTIFICATE).
    pub tls: bool,
}

impl Default for Options {
    fn default() -> Self {
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self { listen, prefix: String::new(), tls: false }
    }
}

/// A running server. Dropping it ends it and waits for its thread.
pub struct TownServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    orders: mpsc::Sender<Order>,
    /// Dropped last: it waits.
    _thread: ServerThread,
}

impl TownServer {
    /// Starts a server.
    pub fn start(options: Options) -> io::Result<Self> {
        let listen = options.listen;
        let tls = options.tls.then(tls::acceptor);
        let shared = Arc::new(Shared::new(options));
        let for_thread = Arc::clone(&shared);
        let (orders, ordered) = mpsc::channel(MAX_ORDERS);
        let (address, thread) = ServerThread::start("town-server", async move |begun, stopped| {
            let port = Port::take(listen)?;
            let (address, listening) = (port.address(), port.listen()?);
            let _ = begun.send(Ok(address));
            run(port, listening, for_thread, tls, ordered, stopped).await
        })?;
        Ok(Self { address, shared, orders, _thread: thread })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The town API's address, as it is given to a host.
    pub fn api_url(&self) -> String {
        let scheme = if self.shared.options.tls { "https" } else { "http" };
        format!("{scheme}://{}{}", self.address, self.shared.options.prefix)
    }

    /// Reads or changes what is kept of a town. No call is answered meanwhile.
    pub fn town<R>(&self, id: &str, look: impl FnOnce(&mut Town) -> R) -> R {
        look(self.shared.lock().town(id))
    }

    /// The token of a town that is good.
    pub fn token(&self, town: &str) -> String {
        self.town(town, |kept| kept.tokens.current(town))
    }

    /// The names of the towns that there are.
    pub fn towns(&self) -> Vec<String> {
        self.shared.lock().towns.keys().cloned().collect()
    }

    /// From now on calls go wrong like this.
    pub fn misbehave(&self, which: impl Into<Which>, fault: Fault) {
        self.shared.lock().faults.set(which.into(), fault, None);
    }

    /// The same for so many calls.
    pub fn misbehave_times(&self, which: impl Into<Which>, fault: Fault, times: u32) {
        self.shared.lock().faults.set(which.into(), fault, Some(times));
    }

    /// From now on calls about one agent go wrong like this.
    pub fn misbehave_for(&self, agent: &str, call: Call, fault: Fault) {
        self.shared.lock().faults.set_for(agent, call, fault);
    }

    /// From now on well-behaved in these calls; [`Which::All`] takes everything back.
    pub fn behave(&self, which: impl Into<Which>) {
        self.shared.lock().faults.clear(which.into());
    }

    /// Refuses connections, and cuts those that there are. The port stays this server's. Returns when it is so.
    pub fn go_down(&self) {
        self.order(false).expect("closing a listener cannot fail");
    }

    /// Takes connections again. Returns when it does.
    pub fn come_up(&self) -> io::Result<()> {
        self.order(true)
    }

    fn order(&self, listen: bool) -> io::Result<()> {
        let (done, was_done) = sync_channel(1);
        let sent = self.orders.try_send(Order { listen, done });
        sent.map_err(|_| io::Error::other("the server does not take orders"))?;
        was_done.recv().map_err(io::Error::other)?
    }

    /// The calls so far, the oldest first; of very many the last ones.
    pub fn calls(&self) -> Vec<Record> {
        self.calls_where(|_| true)
    }

    /// The calls of one kind so far.
    pub fn calls_of(&self, call: Call) -> Vec<Record> {
        self.calls_where(|record| record.call == call)
    }

    /// Calls so far that `wanted` says yes to.
    pub fn calls_where(&self, wanted: impl Fn(&Record) -> bool) -> Vec<Record> {
        let state = self.shared.lock();
        state.log.iter().filter(|record| wanted(record)).cloned().collect()
    }

    /// Milliseconds since it was started, as a [`Record`] counts them.
    pub fn now_ms(&self) -> u64 {
        u64::try_from(self.shared.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// From now on looks for this text in every path, header and body but the authorization.
    pub fn watch_for(&self, secret: &str) {
        self.shared.lock().add_secret(secret);
    }

    /// Which of those texts came, and where.
    pub fn leaks(&self) -> Vec<String> {
        self.shared.lock().leaks.iter().cloned().collect()
    }
}
