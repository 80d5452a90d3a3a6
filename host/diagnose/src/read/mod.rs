//! Reading: one thread reads, two look at lines, and the caller puts together what they found, in order.
//!
//! ```text
//! inputs ─▶ pieces of whole lines ─▶ scan, scan ─▶ in order again ─▶ the caller
//! ```
//!
//! What a platform cut is put together by the first thread (`join`), because its pieces may lie in two pieces.
//!
//! At most a handful of pieces is under way at any moment.

pub mod bounds;
mod fields;
mod join;
mod kept;
pub mod line;
mod prefix;
mod pretty;
mod quick;
pub mod scan;
pub mod source;
pub mod stamp;
mod tables;

use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use scan::{Scanned, scan};
use source::{Input, Piece, Pieces};

/// Threads that look at lines.
const SCANNERS: usize = 2;

/// Pieces that wait for a scanner.
const WAITING: usize = 2;

/// What comes of reading, in order.
pub enum Read {
    /// An input begins.
    Begin,
    /// Some lines of it.
    Lines {
        /// Its number.
        input: usize,
        /// What is in them.
        scanned: Box<Scanned>,
    },
    /// It could not be read, or not to its end. What came before counts.
    Failed {
        /// Its number.
        input: usize,
        /// Why.
        error: io::Error,
    },
}

enum Job {
    Scan(Piece),
    Report(Read),
}

/// Reads all inputs, one after the other.
///
/// Pieces go to the scanners in turn, and what they found is taken in the same turn: so it is in order, and no
/// scanner gets ahead.
///
/// # Panics
///
/// When the system gives no thread.
pub fn read(inputs: Vec<Input>, mut each: impl FnMut(Read)) {
    let (give_back, buffers) = sync_channel::<Vec<u8>>(WAITING * SCANNERS);
    let (mut to_scan, mut results) = (Vec::new(), Vec::new());
    thread::scope(|scope| {
        let mut threads = Vec::new();
        let mut spawn = |name: &str, work: Box<dyn FnOnce() + Send>| {
            let builder = thread::Builder::new().name(name.into());
            threads.push(builder.spawn_scoped(scope, work).expect("the system gives a thread"));
        };
        for number in 0..SCANNERS {
            let (jobs, taken) = sync_channel::<Job>(WAITING);
            let (to_caller, found) = sync_channel::<Read>(WAITING);
            let give_back = give_back.clone();
            to_scan.push(jobs);
            results.push(found);
            let work = move || scan_pieces(&taken, &to_caller, &give_back);
            spawn(&format!("diagnose-scan-{number}"), Box::new(work));
        }
        drop(give_back);
        let to_scan = std::mem::take(&mut to_scan);
        spawn("diagnose-read", Box::new(move || send_pieces(inputs, &to_scan, &buffers)));
        for results in std::mem::take(&mut results).iter().cycle() {
            let Ok(result) = results.recv() else { break };
            each(result);
        }
        // A scope waits for what threads do, and not until they are gone.
        for thread in threads {
            if let Err(panic) = thread.join() {
                std::panic::resume_unwind(panic);
            }
        }
    });
}

fn send_pieces(inputs: Vec<Input>, to_scan: &[SyncSender<Job>], buffers: &Receiver<Vec<u8>>) {
    let mut turn = to_scan.iter().cycle();
    // Nobody takes it when a scanner panicked, and then the scope ends with that panic.
    let mut send = |job| turn.next().is_some_and(|scanner| scanner.send(job).is_ok());
    for (input, Input { reader, .. }) in inputs.into_iter().enumerate() {
        send(Job::Report(Read::Begin));
        let mut pieces = match Pieces::open(input, reader) {
            Ok(pieces) => pieces,
            Err(error) => {
                send(Job::Report(Read::Failed { input, error }));
                continue;
            }
        };
        loop {
            let (piece, error) = pieces.next(buffers.try_recv().unwrap_or_default());
            let ended = piece.is_none();
            if let Some(piece) = piece
                && !send(Job::Scan(piece))
            {
                return;
            }
            if let Some(error) = error {
                send(Job::Report(Read::Failed { input, error }));
            }
            if ended {
                break;
            }
        }
    }
}

fn scan_pieces(
    jobs: &Receiver<Job>,
    to_caller: &SyncSender<Read>,
    give_back: &SyncSender<Vec<u8>>,
) {
    for job in jobs {
        let result = match job {
            Job::Report(read) => read,
            Job::Scan(piece) => {
                let scanned = Box::new(scan(&piece));
                let input = piece.input;
                // When none is wanted, it is freed.
                let _ = give_back.try_send(piece.bytes);
                Read::Lines { input, scanned }
            }
        };
        if to_caller.send(result).is_err() {
            return;
        }
    }
}
