//! Those who follow streams: connections that one thread reads, and that cost little, so that what is measured is the host.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

use crate::lines::Lines;

/// Streams that have not opened and turns that have not been seen after this never will be.
const PATIENCE: Duration = Duration::from_secs(90);

/// As often as the thread asks whether it is over.
const LOOK: Duration = Duration::from_millis(100);

/// Connections that follow a stream each.
pub struct Followers {
    number: usize,
    turns: Receiver<Instant>,
    deltas: Arc<AtomicUsize>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Followers {
    /// So many of one stream.
    pub fn open(address: SocketAddr, path: &str, number: usize) -> Self {
        Self::open_each(address, vec![path.to_owned(); number])
    }

    /// One of each stream.
    pub fn open_each(address: SocketAddr, paths: Vec<String>) -> Self {
        let number = paths.len();
        // One after the other: a server has a bound on connections that have not asked for anything yet.
        let followers: Vec<_> = paths.iter().map(|path| Follower::open(address, path)).collect();
        let (seen, turns) = sync_channel(1 << 16);
        let (deltas, is_over) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let (counted, over) = (Arc::clone(&deltas), Arc::clone(&is_over));
        let read = move || read_all(followers, &over, &seen, &counted);
        let thread = std::thread::Builder::new().name("followers".to_owned()).spawn(read);
        let thread = Some(thread.expect("start a thread"));
        Self { number, turns, deltas, is_over, thread }
    }

    /// Frames of turns that all of them had.
    pub fn deltas(&self) -> usize {
        self.deltas.load(Ordering::Relaxed)
    }

    /// Waits until each has seen one more turn, and says when.
    pub fn each_once(&self) -> Vec<Instant> {
        let until = Instant::now() + PATIENCE;
        let mut instants = Vec::with_capacity(self.number);
        while instants.len() < self.number {
            let left = until.saturating_duration_since(Instant::now());
            let seen = self.turns.recv_timeout(left);
            instants.push(seen.unwrap_or_else(|error| {
                panic!("{} of {} have seen the turn: {error}", instants.len(), self.number)
            }));
        }
        instants
    }
}

impl Drop for Followers {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // Its panic was printed.
            let _ = thread.join();
        }
    }
}

/// One connection, and what it has of a line.
struct Follower {
    stream: TcpStream,
    lines: Lines,
}

impl Follower {
    /// Opens a stream, and waits for its first line.
    fn open(address: SocketAddr, path: &str) -> Self {
        let mut stream = TcpStream::connect(address).expect("connect");
        stream.set_read_timeout(Some(PATIENCE)).expect("set a timeout");
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("ask");
        let (mut lines, mut bytes, mut is_open) = (Lines::default(), [0; 4096], false);
        while !is_open {
            let read = stream.read(&mut bytes).expect("read");
            assert!(read > 0, "the stream opens");
            lines.take(&bytes[..read], |line| is_open |= line.starts_with(b"retry:"));
        }
        stream.set_nonblocking(true).expect("read without waiting");
        Self { stream, lines }
    }
}

/// Reads what comes until it is over.
fn read_all(
    mut followers: Vec<Follower>,
    is_over: &AtomicBool,
    turns: &SyncSender<Instant>,
    deltas: &AtomicUsize,
) {
    let poll = epoll::create(CreateFlags::CLOEXEC).expect("make an epoll");
    for (at, follower) in followers.iter().enumerate() {
        let data = EventData::new_u64(at as u64);
        epoll::add(&poll, &follower.stream, data, EventFlags::IN).expect("follow");
    }
    let (mut ready, mut bytes) = (Vec::with_capacity(followers.len()), vec![0; 64 * 1024]);
    let timeout = LOOK.try_into().expect("a time");
    while !is_over.load(Ordering::Relaxed) {
        ready.clear();
        epoll::wait(&poll, spare_capacity(&mut ready), Some(&timeout)).expect("wait");
        for event in &ready {
            let follower = &mut followers[event.data.u64() as usize];
            let Ok(read @ 1..) = follower.stream.read(&mut bytes) else {
                // Else it would be ready for ever.
                epoll::delete(&poll, &follower.stream).expect("leave");
                continue;
            };
            let at = Instant::now();
            follower.lines.take(&bytes[..read], |line| match line {
                b"event: delta" => drop(deltas.fetch_add(1, Ordering::Relaxed)),
                // The lines of one frame are never in two chunks of the body, so no size of a chunk cuts them.
                _ if line.starts_with(b"data:") && has(line, b"\"event\":\"agent.turn\"") => {
                    // Nobody waits any more when it is over.
                    let _ = turns.try_send(at);
                }
                _ => {}
            });
        }
    }
}

fn has(line: &[u8], word: &[u8]) -> bool {
    line.windows(word.len()).any(|window| window == word)
}
