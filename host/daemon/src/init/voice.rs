//! What the init process says: to stderr, a sentence for a person or a JSON object as the log is, and one line of the
//! log at the very end.
//!
//! A thread writes it, because the reader may have stopped or gone, and init must go on.

use std::cell::Cell;
use std::io::{self, IsTerminal, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use bulkhead_log::now;
use bulkhead_types::event::SCHEMA;

use crate::cli::LogFormat;

/// Texts that wait for the writer. More are dropped.
const WAITING: usize = 16;

/// Time for the last words.
const FLUSHING: Duration = Duration::from_secs(2);

/// Speaks without waiting and without failing.
pub struct Voice {
    texts: SyncSender<Text>,
    format: Cell<LogFormat>,
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
    /// Starts the writer. `format` is how the log looks, as far as the command line says it.
    pub fn start(format: Option<LogFormat>) -> io::Result<Self> {
        let (texts, waiting) = sync_channel(WAITING);
        let write = move || write_all(&waiting);
        std::thread::Builder::new().name("bulkhead-voice".into()).spawn(write)?;
        Ok(Self { texts, format: Cell::new(format.unwrap_or(LogFormat::Auto)) })
    }

    /// How the log looks, as a supervisor said it.
    pub fn set_format(&self, format: LogFormat) {
        self.format.set(format);
    }

    /// Writes a sentence to stderr.
    pub fn print(&self, sentence: &str) {
        let is_json = match self.format.get() {
            LogFormat::Json => true,
            LogFormat::Pretty => false,
            LogFormat::Auto => !io::stdout().is_terminal(),
        };
        let text = if is_json { as_json(sentence) } else { format!("bulkhead: {sentence}\n") };
        let _ = self.texts.try_send(Text::Sentence(text));
    }

    /// Writes a line of the log.
    pub fn log(&self, line: String) {
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

/// Of no run, so it has neither a run id nor a number.
fn as_json(sentence: &str) -> String {
    let message = serde_json::Value::from(sentence);
    let (ts, pid) = (now(), std::process::id());
    format!(
        "{{\"ts\":\"{ts}\",\"level\":\"warn\",\"event\":\"container.init\",\"message\":{message},\"pid\":{pid},\
         \"schema\":{SCHEMA}}}\n"
    )
}

/// There is no way to report closed streams and full disks.
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
