//! What the init process says: to stderr for a person, and one line of the log at the very end.
//!
//! A thread writes it, because whoever reads may have fallen asleep or gone, and init must go on.

use std::io::{self, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

/// Texts that wait for the writer. More are dropped.
const WAITING: usize = 16;

/// Time for the last words.
const FLUSHING: Duration = Duration::from_secs(2);

/// Speaks without waiting and without failing.
pub struct Voice {
    texts: SyncSender<Text>,
}

enum Text {
    /// A sentence to stderr.
    Sentence(String),
    /// A line to stdout.
    Line(String),
    /// Everything before this one is written.
    Written(SyncSender<()>),
}

impl Voice {
    /// Starts the writer.
    pub fn start() -> io::Result<Self> {
        let (texts, waiting) = sync_channel(WAITING);
        let write = move || write_all(&waiting);
        std::thread::Builder::new().name("bulkhead-voice".into()).spawn(write)?;
        Ok(Self { texts })
    }

    /// Says a sentence to whoever looks at stderr.
    pub fn say(&self, sentence: &str) {
        let _ = self.texts.try_send(Text::Sentence(format!("bulkhead: {sentence}\n")));
    }

    /// Writes a line of the log.
    pub fn tell(&self, line: String) {
        let _ = self.texts.try_send(Text::Line(line));
    }

    /// Waits until what was said is written, for a moment at most.
    pub fn flush(&self) {
        let (written, all) = sync_channel(1);
        if self.texts.try_send(Text::Written(written)).is_ok() {
            let _ = all.recv_timeout(FLUSHING);
        }
    }
}

/// Closed streams and full disks have nobody to be told of them.
fn write_all(texts: &Receiver<Text>) {
    for text in texts {
        match text {
            Text::Sentence(text) => {
                let _ = io::stderr().write_all(text.as_bytes());
            }
            Text::Line(text) => {
                let mut stdout = io::stdout();
                let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
            }
            Text::Written(to) => {
                let _ = to.try_send(());
            }
        }
    }
}
