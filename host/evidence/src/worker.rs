//! The thread `bulkhead-evidence`: fetches at boot, then stores what is due. It is as urgent as the control server: the
//! next crash may be the host's, and what it does for one is little.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant, SystemTime};

use bulkhead_blackbox::Previous;
use bulkhead_blackbox::runs::KnownRun;
use bulkhead_types::{CrashRecord, Incarnation, Timestamp};
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::Settings;
use crate::agents::{AgentHistory, Agents, MAX_BYTES};
use crate::digest::Digest;
use crate::document::{self, Head, Kind};
use crate::fault::{Cause, Fault};
use crate::left::{Left, RunContent};
use crate::outbox::{Figures, Next, Outbox};
use crate::sink::Sink;

/// How much longer than a fetch its caller waits: the thread has to wake up.
const GRACE: Duration = Duration::from_millis(200);

/// Stores evidence of this run. Cheap to clone; only a boot and an end wait for anything.
#[derive(Clone)]
pub struct Evidence {
    outbox: Arc<Outbox>,
    /// Until the run begins.
    begins: Arc<Mutex<Option<oneshot::Sender<Begun>>>>,
}

/// The run whose evidence is stored.
#[derive(Debug, Clone)]
pub struct ThisRun {
    /// Names it.
    pub run_id: String,
    /// Its number: above every one that is known, here and at the sink.
    pub number: u64,
    /// The runs whose end is not reported yet, itself the last.
    pub runs: Vec<KnownRun>,
    /// Runs that made room in that list.
    pub forgotten_runs: u64,
}

/// What a digest is made of, at one moment.
#[derive(Debug, Default)]
pub struct Content {
    /// The black box.
    pub blackbox: Option<Previous>,
    /// Agents that are known.
    pub agents: Vec<AgentHistory>,
    /// The highest number of agents that are not.
    pub forgotten: Incarnation,
}

/// What a person should know.
#[derive(Debug)]
pub enum Notice {
    /// A call of the sink failed. It is made again.
    Failed {
        /// What was to be done: `fetch` or `store`.
        doing: &'static str,
        /// Why it was not.
        fault: Fault,
    },
    /// The sink takes documents again.
    Available {
        /// How long it did not.
        down: Duration,
    },
    /// The sink did not answer at boot, and now says what earlier runs left.
    Late(Box<Left>),
}

/// What earlier runs left, or why that is not known.
type Fetched = Result<Left, Fault>;

struct Begun {
    run: ThisRun,
    content: Box<dyn Fn() -> Content + Send>,
    notice: Box<dyn Fn(Notice) + Send>,
}

impl Evidence {
    /// Starts the thread, and fetches what earlier runs left, for [`Settings::fetch`] at most. The error of the fetch
    /// says why nothing is known of them; the thread tries again, and stores nothing before it knows.
    pub fn start(settings: Settings) -> io::Result<(Self, Result<Left, Fault>)> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let outbox = Arc::new(Outbox::default());
        let (begins, begun) = oneshot::channel();
        let (fetched, is_fetched) = handover();
        let patience = settings.fetch + GRACE;
        let for_thread = Arc::clone(&outbox);
        let work = move || {
            runtime.block_on(work(settings, for_thread, &fetched, begun));
            // A volume or a look-up of a name may hang for longer.
            runtime.shutdown_background();
        };
        std::thread::Builder::new().name("bulkhead-evidence".into()).spawn(work)?;
        let left = match is_fetched.recv_timeout(patience) {
            Ok(left) => left,
            Err(RecvTimeoutError::Timeout) => Err(too_late(patience)),
            Err(RecvTimeoutError::Disconnected) => Err(thread_ended()),
        };
        Ok((Self { outbox, begins: Arc::new(Mutex::new(Some(begins))) }, left))
    }

    /// The run begins: its documents are stored from now on. `content` is called on the thread, for each digest.
    pub fn begin(
        &self,
        run: ThisRun,
        content: impl Fn() -> Content + Send + 'static,
        notice: impl Fn(Notice) + Send + 'static,
    ) {
        let begins = self.begins.lock().take();
        if let Some(begins) = begins {
            let (content, notice) = (Box::new(content), Box::new(notice));
            // One that panicked before this run had a log has told nobody.
            if let Err(Begun { notice, .. }) = begins.send(Begun { run, content, notice }) {
                notice(Notice::Failed { doing: "fetch", fault: thread_ended() });
            }
        }
    }

    /// An agent crashed, or more is known of a crash. Returns at once.
    pub fn crashed(&self, record: Arc<CrashRecord>) {
        self.outbox.crashed(record);
    }

    /// Something happened that a later run has to know at once: a digest is stored within a second.
    pub fn changed(&self) {
        self.outbox.changed();
    }

    /// An incarnation was given its number.
    pub fn numbered(&self) {
        self.outbox.numbered();
    }

    /// The ends of the runs before this one are reported.
    pub fn reported(&self) {
        self.outbox.reported();
    }

    /// Waits until the sink has all, or `patience` is over. Says whether it has.
    pub fn flush(&self, patience: Duration) -> bool {
        self.outbox.flush(patience)
    }

    /// The same, as the last thing. Nothing is stored after it.
    pub fn end(&self, patience: Duration) -> bool {
        let is_stored = self.flush(patience);
        self.outbox.close();
        is_stored
    }

    /// What became of documents.
    pub fn figures(&self) -> Figures {
        self.outbox.figures()
    }
}

async fn work(
    settings: Settings,
    outbox: Arc<Outbox>,
    fetched: &SyncSender<Fetched>,
    begun: oneshot::Receiver<Begun>,
) {
    let _closes = Closes(Arc::clone(&outbox));
    let (sink, left) = match Sink::new(&settings) {
        Ok(sink) => {
            let left = timeout(settings.fetch, Left::fetch(&sink, &settings.name)).await;
            (Some(sink), left.unwrap_or_else(|_| Err(too_late(settings.fetch))))
        }
        Err(fault) => (None, Err(fault)),
    };
    let (known, fault) = match &left {
        Ok(left) => (Some(left.epoch), None),
        Err(fault) => (None, Some(fault.clone())),
    };
    if let Ok(left) = &left {
        outbox.begin_with(&left.crashes);
    }
    // A caller that went on without the answer does not know what it says. This waits until it has it, or is gone.
    let is_heard = fetched.send(left).is_ok();
    let known = known.filter(|_| is_heard);
    let Ok(begun) = begun.await else { return };
    let down_since = fault.is_some().then(Instant::now);
    if let Some(fault) = fault {
        (begun.notice)(Notice::Failed { doing: "fetch", fault });
    }
    let Some(sink) = sink else { return };
    let epoch = known.map(|known| begun.run.number.max(known + 1));
    Worker { settings, sink, outbox, begun, epoch, down_since }.run().await;
}

/// Hands an answer over to a caller that still waits. It keeps none that nobody takes.
fn handover() -> (SyncSender<Fetched>, Receiver<Fetched>) {
    sync_channel(0)
}

fn thread_ended() -> Fault {
    Fault::new(Cause::Protocol, "the thread that fetches evidence ended: nothing is stored")
}

fn too_late(waited: Duration) -> Fault {
    Fault::new(Cause::Deadline, format!("no answer within {} ms", waited.as_millis()))
}

struct Worker {
    settings: Settings,
    sink: Sink,
    outbox: Arc<Outbox>,
    begun: Begun,
    /// This run's number at the sink, once it is known what the sink has.
    epoch: Option<u64>,
    down_since: Option<Instant>,
}

impl Worker {
    async fn run(mut self) {
        let heartbeat = self.settings.heartbeat;
        loop {
            match self.outbox.next(heartbeat, Instant::now()) {
                Next::Close => return,
                Next::Wait(until) => {
                    let wait = until.saturating_duration_since(Instant::now());
                    let _ = timeout(wait, self.outbox.has_changed()).await;
                }
                Next::Store(kind) => self.store(kind).await,
            }
        }
    }

    async fn store(&mut self, kind: Kind) {
        let call = self.settings.call;
        let epoch = match self.epoch {
            Some(epoch) => epoch,
            None => {
                let left = timeout(call, Left::fetch(&self.sink, &self.settings.name)).await;
                match left.unwrap_or_else(|_| Err(too_late(call))) {
                    Ok(left) => self.learn(left),
                    Err(fault) => return self.fails("fetch", fault),
                }
            }
        };
        let (asked, document) = self.make(kind, epoch);
        let put = async {
            let document = document.map_err(|why| Fault::new(Cause::Protocol, why))?;
            self.sink.put(&self.settings.name, kind.document(epoch), document).await
        };
        match timeout(call, put).await.unwrap_or_else(|_| Err(too_late(call))) {
            Ok(()) => {
                if let Some(since) = self.down_since.take() {
                    (self.begun.notice)(Notice::Available { down: since.elapsed() });
                }
                self.outbox.is_stored(kind, asked, Instant::now());
            }
            Err(fault) => self.fails("store", fault),
        }
    }

    /// What a boot was too late for.
    fn learn(&mut self, left: Left) -> u64 {
        let epoch = self.begun.run.number.max(left.epoch + 1);
        self.epoch = Some(epoch);
        self.outbox.begin_with(&left.crashes);
        (self.begun.notice)(Notice::Late(Box::new(left)));
        epoch
    }

    fn fails(&mut self, doing: &'static str, fault: Fault) {
        let now = Instant::now();
        self.outbox.has_failed(self.settings.heartbeat, now, fastrand::f64());
        self.down_since.get_or_insert(now);
        (self.begun.notice)(Notice::Failed { doing, fault });
    }

    /// The runs whose end nobody has reported, itself the last, by its number at the sink.
    fn unreported(&self, epoch: u64) -> Vec<KnownRun> {
        let mut runs = self.begun.run.runs.clone();
        if self.outbox.are_reported() {
            runs.drain(..runs.len().saturating_sub(1));
        }
        if let Some(own) = runs.last_mut() {
            own.number = epoch;
        }
        runs
    }

    /// A document as it is now, and how many changes it has.
    fn make(&self, kind: Kind, epoch: u64) -> (u64, Result<bytes::Bytes, String>) {
        let run = &self.begun.run;
        let (run_id, written_at) = (run.run_id.clone(), now());
        let (name, head) = (&self.settings.name, Head { epoch, run_id, written_at });
        if kind == Kind::Crashes {
            let (asked, content) = self.outbox.records();
            return (asked, document::seal(kind, name, &head, &content));
        }
        let asked = self.outbox.asked(kind);
        let Content { blackbox, agents, forgotten } = (self.begun.content)();
        let content = RunContent {
            digest: blackbox.map(|contents| Digest::of(&contents, epoch)),
            runs: self.unreported(epoch),
            forgotten_runs: if self.outbox.are_reported() { 0 } else { run.forgotten_runs },
            agents: Agents::fit(agents, forgotten, MAX_BYTES),
        };
        (asked, document::seal(kind, name, &head, &content))
    }
}

/// However the thread ends, nobody waits for it any more.
struct Closes(Arc<Outbox>);

impl Drop for Closes {
    fn drop(&mut self) {
        self.0.close();
    }
}

fn now() -> Timestamp {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(now.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::TrySendError;

    use super::*;

    #[test]
    fn a_caller_that_gave_up_has_not_heard_the_answer() {
        let (fetched, is_fetched) = handover();
        assert!(is_fetched.recv_timeout(Duration::ZERO).is_err(), "it gives up");
        // There is an answer, and the caller is not gone yet.
        let kept = fetched.try_send(Err(too_late(Duration::ZERO)));
        assert!(matches!(kept, Err(TrySendError::Full(_))), "nobody has taken it");
        let thread =
            std::thread::spawn(move || fetched.send(Err(too_late(Duration::ZERO))).is_ok());
        drop(is_fetched);
        assert!(!thread.join().unwrap());
    }
}
