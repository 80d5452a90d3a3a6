//! What it costs on this machine that one thread wakes another and is woken by it.
//!
//! A message crosses from the control server's thread to an agent's and back, and `GET /health` does
//! not: the difference between the two cannot be less than this. On virtual machines it varies by a
//! factor of five with what the host of the machine does.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

pub struct Other {
    there: SyncSender<()>,
    back: Receiver<()>,
}

impl Other {
    pub fn start() -> Self {
        let (there, come) = sync_channel(1);
        let (go, back) = sync_channel(1);
        // Ends when `there` is dropped.
        std::thread::spawn(move || while come.recv().is_ok() && go.send(()).is_ok() {});
        Self { there, back }
    }

    pub fn round_trip(&mut self) -> Duration {
        let began = Instant::now();
        self.there.send(()).expect("the other thread lives");
        self.back.recv().expect("the other thread answers");
        began.elapsed()
    }
}
