//! What the command waits for right now: shown to a person after a second, and printed at a Ctrl-C.

use std::cell::{Cell, RefCell};
use std::io::{IsTerminal, Write};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::table::truncated;

/// A wait that is shorter is not shown.
const QUIET: Duration = Duration::from_secs(1);

/// Between two checks whether there is something to show.
const LOOK: Duration = Duration::from_millis(250);

/// What is waited for, at most one thing at a time.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    current: RefCell<Option<Wait>>,
    /// The request is on its way.
    pub(crate) sent: Cell<bool>,
    /// The command acts on Ctrl-C itself from now on, and it is no longer the end of it.
    pub(crate) takes_interrupts: Cell<bool>,
    /// A line of ours stands on the terminal.
    shown: Cell<bool>,
}

#[derive(Debug, Clone)]
struct Wait {
    since: Instant,
    /// After `waiting for`.
    what: String,
    /// What goes on at the host when this program ends.
    goes_on: Option<String>,
}

/// Ends the wait, also one that is given up.
pub(crate) struct Over<'a>(&'a Waiting);

impl Waiting {
    /// Begins to wait for `what`. `goes_on` is what the host does all the same when nobody waits.
    pub(crate) fn begin(&self, what: impl Into<String>, goes_on: Option<String>) -> Over<'_> {
        self.sent.set(false);
        let wait = Wait { since: Instant::now(), what: what.into(), goes_on };
        self.current.replace(Some(wait));
        Over(self)
    }

    /// What is printed at a Ctrl-C now.
    pub(crate) fn interrupted(&self) -> String {
        match (&*self.current.borrow(), self.sent.get()) {
            (Some(Wait { goes_on: Some(goes_on), .. }), true) => format!("interrupted; {goes_on}"),
            (Some(Wait { goes_on: Some(_), .. }), false) => {
                "interrupted; no request was sent".to_owned()
            }
            _ => "interrupted".to_owned(),
        }
    }

    /// Shows every wait that is long, when a person may be looking. Never ends.
    pub(crate) async fn show(&self) -> std::convert::Infallible {
        if !std::io::stderr().is_terminal() {
            return std::future::pending().await;
        }
        loop {
            if let Some(line) = self.line(Instant::now()) {
                self.shown.set(true);
                // Nothing is lost when nobody reads it.
                let _ = write!(std::io::stderr(), "\r{}\x1b[K", fitting(&line));
            }
            sleep(LOOK).await;
        }
    }

    fn line(&self, now: Instant) -> Option<String> {
        let current = self.current.borrow();
        let Wait { since, what, .. } = current.as_ref()?;
        let waited = now.duration_since(*since);
        (waited >= QUIET).then(|| format!("waiting for {what}: {} s", waited.as_secs()))
    }

    /// Takes the line from the terminal, so that something else can stand there.
    pub(crate) fn wipe(&self) {
        if self.shown.replace(false) {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

/// A line that wraps could not be wiped.
fn fitting(line: &str) -> String {
    let size = rustix::termios::tcgetwinsize(std::io::stderr());
    let columns = size.map_or(0, |size| usize::from(size.ws_col));
    if columns == 0 { line.to_owned() } else { truncated(line, columns - 1) }
}

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.current.replace(None);
        self.0.wipe();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_wait_is_shown_after_a_second_and_as_long_as_it_lasts() {
        let waiting = Waiting::default();
        let line = || waiting.line(Instant::now());
        assert_eq!(line(), None);
        let over = waiting.begin("bad to start", None);
        sleep(Duration::from_millis(999)).await;
        assert_eq!(line(), None);
        sleep(Duration::from_secs(2)).await;
        assert_eq!(line().as_deref(), Some("waiting for bad to start: 2 s"));
        drop(over);
        assert_eq!(line(), None);
    }

    #[test]
    fn an_interrupted_wait_says_what_goes_on() {
        let waiting = Waiting::default();
        assert_eq!(waiting.interrupted(), "interrupted");
        let _over = waiting.begin("bad to start", Some("the start goes on".into()));
        assert_eq!(waiting.interrupted(), "interrupted; no request was sent");
        waiting.sent.set(true);
        assert_eq!(waiting.interrupted(), "interrupted; the start goes on");
    }
}
