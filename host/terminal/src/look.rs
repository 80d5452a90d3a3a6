//! The log on a terminal.
//!
//! ```text
//! 09:30:00 │ mayor        runs (incarnation 1), started in 12 ms
//! 09:30:04 │ bad          crashed: it panicked while it handled a message, after 2 s (incarnation 1)
//!          │   > told to panic
//!          │   at trap::on_message  tests/programs/examples/trap.rs:48
//! 09:30:09 │ host         warning: is short of memory: 466 MiB of 512 MiB used
//! ```
//!
//! Behind the bar come who it is, at the same place in each line, and what is said of them. `bulkhead diagnose` knows
//! the lines of such a log by their bar.

use bulkhead_printable::line as safe;
use bulkhead_types::{CrashRecord, Event, Level, Timestamp};
use jiff::tz::TimeZone;

use crate::colour::{Colour, paint};
use crate::crash;
use crate::sentence::{self, Who};

/// Characters for the name of an agent; longer ones shift their line.
const WHO: usize = 12;

/// Colours of agents. Those that mean something are not among them.
const NAMES: [Colour; 4] = [Colour::Cyan, Colour::Blue, Colour::Magenta, Colour::Green];

/// How lines look on one terminal.
#[derive(Debug, Clone)]
pub struct Look {
    colours: bool,
    details: bool,
    zone: TimeZone,
}

impl Look {
    /// In the time zone of the system. `details`: also what a person rarely needs, and the names of the events.
    pub fn new(colours: bool, details: bool) -> Self {
        Self { colours, details, zone: TimeZone::system() }
    }

    /// In UTC.
    pub fn in_utc(colours: bool, details: bool) -> Self {
        Self { colours, details, zone: TimeZone::UTC }
    }

    /// Whether there are colours.
    pub fn colours(&self) -> bool {
        self.colours
    }

    /// The line of an event that is recorded `at`, with its newline, of about `max_bytes` at most. `None`: it is not
    /// shown.
    pub fn line(&self, event: &Event, at: Timestamp, max_bytes: usize) -> Option<String> {
        let sentence = sentence::of(event).filter(|it| self.details || !it.is_detail)?;
        let level = event.level();
        let text = safe(&sentence.text);
        let text = &text[..text.floor_char_boundary(max_bytes)];
        let text = match level {
            Level::Trace | Level::Debug => self.paint(text, Colour::Grey),
            _ if sentence.is_detail => self.paint(text, Colour::Grey),
            _ => text.to_owned(),
        };
        let mark = match level {
            Level::Warn => self.paint("warning: ", Colour::Yellow),
            Level::Error | Level::Fatal => self.paint("error: ", Colour::Red),
            _ => String::new(),
        };
        let name = if self.details { format!("  [{}]", event.name()) } else { String::new() };
        let name = self.paint(&name, Colour::Grey);
        Some(format!("{}{mark}{text}{name}\n", self.head(at, level, sentence.who)))
    }

    /// A crash, as a block.
    pub fn crash(&self, record: &CrashRecord) -> String {
        let who = Who::Agent(&record.agent_id);
        let mut block = self.head(record.crashed_at, Level::Error, who);
        let bar = format!("{:8} {} ", "", self.paint("│", Colour::Red));
        for (number, line) in crash::block(record).iter().enumerate() {
            if number > 0 {
                block.push_str(&bar);
            }
            block.push_str(&line.painted(self.colours));
            block.push('\n');
        }
        block
    }

    /// Time, bar, and who it is.
    fn head(&self, at: Timestamp, level: Level, who: Who<'_>) -> String {
        let bar = match level {
            Level::Warn => Colour::Yellow,
            Level::Error | Level::Fatal => Colour::Red,
            _ => Colour::Grey,
        };
        let (name, colour) = match who {
            Who::Host => ("host", Colour::Bold),
            Who::Town => ("town", Colour::Bold),
            Who::Agent(id) => (id.as_str(), colour_of(id.as_str())),
        };
        let time = self.paint(&self.time(at), Colour::Grey);
        let name = self.paint(&format!("{:<WHO$}", safe(name)), colour);
        format!("{time} {} {name} ", self.paint("│", bar))
    }

    fn time(&self, at: Timestamp) -> String {
        let instant =
            jiff::Timestamp::from_millisecond(at.0).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        instant.to_zoned(self.zone.clone()).strftime("%H:%M:%S").to_string()
    }

    fn paint(&self, text: &str, colour: Colour) -> String {
        if self.colours && !text.is_empty() { paint(text, colour) } else { text.to_owned() }
    }
}

/// The same for an id in every run.
fn colour_of(id: &str) -> Colour {
    let sum = id.bytes().fold(5381u32, |sum, byte| sum.wrapping_mul(33) ^ u32::from(byte));
    NAMES[sum as usize % NAMES.len()]
}

#[cfg(test)]
mod tests {
    use bulkhead_types::event::AgentTag;
    use bulkhead_types::{AgentId, Incarnation};

    use super::*;

    const AT: Timestamp = Timestamp(1_768_469_400_000);

    fn log(level: Level, message: &str) -> Event {
        let agent = AgentTag {
            agent_id: AgentId::parse("toast").unwrap(),
            role: "polecat".into(),
            incarnation: Incarnation(2),
        };
        let fields = [("guest.branch".to_owned(), "a b".to_owned())].into();
        Event::AgentLog { agent, level, stream: "log", dropped: 0, message: message.into(), fields }
    }

    #[test]
    fn what_an_agent_says_is_behind_its_mark_and_on_one_line() {
        let look = Look::in_utc(false, false);
        let line = look.line(&log(Level::Info, "over\nand over"), AT, 4096).unwrap();
        assert_eq!(line, "09:30:00 │ toast        > over\\nand over branch=\"a b\"\n");
        let line = look.line(&log(Level::Warn, "no"), AT, 4096).unwrap();
        assert_eq!(line, "09:30:00 │ toast        warning: > no branch=\"a b\"\n");
    }

    #[test]
    fn a_terminal_is_shown_nothing_that_it_would_obey() {
        let look = Look::in_utc(false, true);
        let line = look.line(&log(Level::Info, "a\u{9b}31m\u{202e}b\x1b[2J\u{85}"), AT, 4096);
        assert!(!line.unwrap().contains(['\u{9b}', '\u{202e}', '\u{85}', '\x1b']));
    }

    #[test]
    fn a_long_line_is_cut_at_a_character() {
        let line = Look::in_utc(true, false).line(&log(Level::Info, &"ä".repeat(5000)), AT, 4097);
        let line = line.unwrap();
        assert!((4096..4200).contains(&line.len()), "{}", line.len());
        assert!(line.ends_with("ä\n"));
    }

    #[test]
    fn an_agent_keeps_its_colour_and_no_agent_has_one_that_means_something() {
        let ids = (0..200).map(|number| format!("polecat-{number}"));
        let colours: Vec<_> = ids.map(|id| colour_of(&id)).collect();
        assert!(NAMES.iter().all(|colour| colours.contains(colour)));
        assert!(!NAMES.contains(&Colour::Red) && !NAMES.contains(&Colour::Yellow));
    }

    #[test]
    fn a_time_is_that_of_the_zone() {
        let zone = TimeZone::fixed(jiff::tz::offset(2));
        let look = Look { zone, ..Look::in_utc(false, false) };
        assert_eq!(look.time(AT), "11:30:00");
    }
}
