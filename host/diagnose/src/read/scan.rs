//! The first pass over a piece: every line is checked once, and what matters is taken out.

use super::bounds::LINE_BYTES;
use super::line::{self, Finding, Form, Line, Part};
use super::prefix::Place;
use super::source::Piece;
use super::stamp::Stamp;

/// Lines that show how the first one of an input begins.
const NEXT_LINES: usize = 50;

/// Heartbeat of a run that names itself, of the lines in one piece.
#[derive(Debug)]
pub struct RunPart {
    pub town: Option<Box<str>>,
    pub run: Box<str>,
    pub first_ts: i64,
    pub last_ts: i64,
    /// When it began, by its own uptime; the earliest that a line says.
    pub boot_ts: Option<i64>,
    pub first_line: u64,
    pub last_line: u64,
    /// Numbers of its lines.
    pub seqs: Vec<u64>,
}

/// Lines of nobody who names himself, in one second.
#[derive(Debug)]
pub struct AlivePart {
    pub town: Option<Box<str>>,
    pub first_ts: i64,
    pub last_ts: i64,
    pub line: u64,
}

/// Lines of each kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// All.
    pub lines: u64,
    /// That are JSON.
    pub json: u64,
    /// That begin as JSON and do not end so.
    pub cut: u64,
    /// Of plain text.
    pub text: u64,
    /// That are no text.
    pub binary: u64,
    /// Whose end was passed over.
    pub overlong: u64,
    /// That a record or a sign was read of.
    pub read: u64,
    /// That have words of records, and none was read of them.
    pub unread: u64,
    /// Bytes.
    pub bytes: u64,
}

impl Counts {
    /// Adds others.
    pub fn add(&mut self, other: &Self) {
        self.lines += other.lines;
        self.json += other.json;
        self.cut += other.cut;
        self.text += other.text;
        self.binary += other.binary;
        self.overlong += other.overlong;
        self.read += other.read;
        self.unread += other.unread;
        self.bytes += other.bytes;
    }
}

/// What a piece holds. Line numbers count from 1 in the piece.
#[derive(Debug, Default)]
pub struct Scanned {
    pub findings: Vec<Finding>,
    pub runs: Vec<RunPart>,
    pub alive: Vec<AlivePart>,
    pub parts: Vec<Part>,
    pub counts: Counts,
    /// The last time that a line had, for lines without one at the beginning of the next piece.
    pub last_ts: Option<i64>,
}

/// Scans a piece.
pub fn scan(piece: &Piece) -> Scanned {
    let mut scanned = Scanned::default();
    scanned.counts.bytes = piece.size as u64;
    scanned.counts.overlong = u64::from(piece.overlong);
    let mut lines = piece.bytes.split(|byte| *byte == b'\n');
    if piece.bytes.is_empty() || piece.bytes.ends_with(b"\n") {
        lines.next_back();
    }
    let doubtful = Some(1).filter(|_| piece.is_first && lacks_its_beginning(lines.clone()));
    for line in lines {
        scanned.line(line, doubtful);
    }
    scanned
}

/// Whether the first line of an input may be the rest of one: of many things that hold a record of a guest's, what is
/// left may be that record. Other lines begin as the first one does when it is whole. Nothing is said of a line that is
/// alone.
fn lacks_its_beginning<'a>(mut lines: impl Iterator<Item = &'a [u8]>) -> bool {
    let first = lines.next().unwrap_or_default();
    let place = line::place(first);
    let others = lines.filter(|line| !line.trim_ascii().is_empty()).take(NEXT_LINES);
    let mut others = others.map(line::place).peekable();
    others.peek().is_some() && (place == Place::Text || !others.any(|other| other == place))
}

/// Whether a line has words of records of ours, whatever is around them.
fn has_words(line: &[u8]) -> bool {
    ["runId", "container."].iter().any(|word| memchr::memmem::find(line, word.as_bytes()).is_some())
}

impl Scanned {
    fn line(&mut self, bytes: &[u8], doubtful: Option<u64>) {
        self.counts.lines += 1;
        let number = self.counts.lines;
        let bytes = if bytes.len() > LINE_BYTES {
            self.counts.overlong += 1;
            &bytes[..LINE_BYTES]
        } else {
            bytes
        };
        if bytes.trim_ascii().is_empty() {
            return;
        }
        let is_doubtful = doubtful == Some(number);
        let (form, is_read) = line::read(bytes, &mut |line| {
            if !is_doubtful {
                self.take(line, number);
            }
        });
        self.counts.read += u64::from(is_read);
        self.counts.unread += u64::from(!is_read && has_words(bytes));
        *match form {
            Form::Json => &mut self.counts.json,
            Form::Cut => &mut self.counts.cut,
            Form::Text => &mut self.counts.text,
            Form::Binary => &mut self.counts.binary,
        } += 1;
    }

    fn take(&mut self, line: Line, number: u64) {
        match line {
            Line::Alive(stamp) => self.alive(&stamp, number),
            Line::Part(mut part) => {
                part.line = number;
                self.alive(&part.stamp, number);
                self.parts.push(*part);
            }
            Line::Found(mut finding) => {
                finding.line = number;
                // Who sees it from outside does not say when the container lived.
                if !finding.specs.iter().all(|spec| spec.outside) {
                    self.alive(&finding.stamp, number);
                }
                if finding.stamp.ts.is_none() {
                    finding.stamp.ts = self.last_ts;
                }
                self.findings.push(*finding);
            }
        }
    }

    fn alive(&mut self, stamp: &Stamp, line: u64) {
        let Some(ts) = stamp.ts else { return };
        self.last_ts = Some(ts);
        match &stamp.run {
            Some(run) => self.run(run, stamp, ts, line),
            None => self.unnamed(stamp, ts, line),
        }
    }

    fn run(&mut self, run: &str, stamp: &Stamp, ts: i64, line: u64) {
        // Lines of one run come together, so the last one is nearly always the right one.
        let known = self.runs.iter().rposition(|part| *part.run == *run);
        let part = match known {
            Some(at) => &mut self.runs[at],
            None => {
                self.runs.push(RunPart {
                    town: None,
                    run: run.into(),
                    first_ts: ts,
                    last_ts: ts,
                    boot_ts: None,
                    first_line: line,
                    last_line: line,
                    seqs: Vec::new(),
                });
                self.runs.last_mut().expect("it was just put there")
            }
        };
        part.town = part.town.take().or_else(|| stamp.town.clone());
        if ts < part.first_ts {
            (part.first_ts, part.first_line) = (ts, line);
        }
        if ts >= part.last_ts {
            (part.last_ts, part.last_line) = (ts, line);
        }
        if let Some(uptime) = stamp.uptime_ms {
            let boot = ts - uptime;
            part.boot_ts = Some(part.boot_ts.map_or(boot, |known| known.min(boot)));
        }
        part.seqs.extend(stamp.seq);
    }

    fn unnamed(&mut self, stamp: &Stamp, ts: i64, line: u64) {
        if let Some(last) = self.alive.last_mut()
            && last.town == stamp.town
            && last.first_ts.div_euclid(1000) == ts.div_euclid(1000)
        {
            last.first_ts = last.first_ts.min(ts);
            if ts >= last.last_ts {
                (last.last_ts, last.line) = (ts, line);
            }
            return;
        }
        let town = stamp.town.clone();
        self.alive.push(AlivePart { town, first_ts: ts, last_ts: ts, line });
    }
}
