//! Putting together what the scanners found, in bounded memory.

pub mod cells;
pub mod names;
mod parts;
pub mod seqs;

use std::collections::HashMap;

use crate::read::line::{self, Finding, Line, Part};
use crate::read::scan::{AlivePart, Counts, RunPart, Scanned};
use cells::{Cell, Cells, Origin, Point, SpecId};
use names::{Name, Names};
use parts::Parts;
use seqs::Seqs;

const MAX_TOWNS: usize = 2_000;
const MAX_RUNS: usize = 20_000;
const MAX_AGENTS: usize = 20_000;
/// With 160 bytes each, some 5 MB.
const MAX_DETAILS: usize = 20_000;
/// Lines without a time at the beginning of an input, before any line with one.
const MAX_EARLY: usize = 1_000;

/// Texts by what they name.
pub struct Texts {
    pub towns: Names,
    pub runs: Names,
    pub agents: Names,
    pub details: Names,
}

impl Default for Texts {
    fn default() -> Self {
        let with_max = Names::with_max;
        Self {
            towns: with_max(MAX_TOWNS),
            runs: with_max(MAX_RUNS),
            agents: with_max(MAX_AGENTS),
            details: with_max(MAX_DETAILS),
        }
    }
}

/// A run that names itself.
#[derive(Debug, Clone)]
pub struct RunSpan {
    pub origin: Origin,
    pub first: Point,
    pub last: Point,
    pub boot_ts: Option<i64>,
    /// Different lines.
    pub lines: u64,
    /// The highest number of a line.
    pub max_seq: u64,
}

/// Everything that is kept.
#[derive(Default)]
pub struct Collected {
    pub texts: Texts,
    pub runs: HashMap<Name, RunSpan>,
    /// Which run each run reports.
    pub predecessors: HashMap<Name, Name>,
    pub cells: Cells,
    pub counts: Counts,
    /// Of each input: lines in which a town or a time was found.
    pub known: Vec<u64>,
    /// Of each input: lines with words of records. None when a record was read of any.
    pub unread: Vec<Option<u64>>,
    seqs: Seqs,
    parts: Parts,
    /// Of the input at hand.
    lines: u64,
    last_ts: Option<i64>,
    early: Vec<Finding>,
}

impl Collected {
    /// Another input begins.
    pub fn begin(&mut self) {
        self.early.clear();
        (self.lines, self.last_ts) = (0, None);
        self.known.push(0);
        self.unread.push(Some(0));
    }

    /// Takes in some lines of the input at hand.
    pub fn take(&mut self, input: usize, scanned: Scanned) {
        let input = u16::try_from(input).unwrap_or(u16::MAX);
        if let Some(known) = self.known.last_mut() {
            *known += (scanned.findings.len() + scanned.runs.len() + scanned.alive.len()) as u64;
        }
        if let Some(unread) = self.unread.last_mut() {
            *unread = unread.filter(|_| scanned.counts.read == 0);
            *unread = unread.map(|unread| unread + scanned.counts.unread);
        }
        for part in scanned.runs {
            self.run(input, part);
        }
        for part in scanned.alive {
            self.alive(input, part);
        }
        let first_ts = scanned.findings.iter().find_map(|finding| finding.stamp.ts);
        if self.last_ts.is_none()
            && let Some(ts) = first_ts.or(scanned.last_ts)
        {
            for mut finding in std::mem::take(&mut self.early) {
                finding.stamp.ts = Some(ts);
                self.finding(input, finding);
            }
        }
        for mut finding in scanned.findings {
            finding.line += self.lines;
            finding.stamp.ts = finding.stamp.ts.or(self.last_ts);
            if finding.stamp.ts.is_some() {
                self.finding(input, finding);
            } else if self.early.len() < MAX_EARLY {
                self.early.push(finding);
            } else {
                self.cells.dropped += 1;
            }
        }
        for part in scanned.parts {
            self.part(input, part);
        }
        self.lines += scanned.counts.lines;
        self.last_ts = scanned.last_ts.or(self.last_ts);
        self.counts.add(&scanned.counts);
    }

    /// None when there are more towns than can be kept.
    fn origin(&mut self, input: u16, town: Option<&str>) -> Option<Origin> {
        match town {
            Some(town) => self.texts.towns.keep(town).map(Origin::Town),
            None => Some(Origin::Input(input)),
        }
    }

    fn run(&mut self, input: u16, part: RunPart) {
        let Some(origin) = self.origin(input, part.town.as_deref()) else { return };
        let Some(name) = self.texts.runs.keep(&part.run) else { return };
        let at = |ts, line| Point { ts, input, line: line + self.lines };
        let first = at(part.first_ts, part.first_line);
        let last = at(part.last_ts, part.last_line);
        let new = RunSpan { origin, first, last, boot_ts: None, lines: 0, max_seq: 0 };
        let span = self.runs.entry(name).or_insert(new);
        if matches!(origin, Origin::Town(_)) {
            span.origin = origin;
        }
        span.first = span.first.min(first);
        span.last = span.last.max(last);
        span.boot_ts = [span.boot_ts, part.boot_ts].into_iter().flatten().min();
        for seq in part.seqs {
            span.max_seq = span.max_seq.max(seq);
            if self.seqs.line(name, seq) {
                span.lines += 1;
            } else {
                self.cells.doubled += 1;
            }
        }
    }

    fn alive(&mut self, input: u16, part: AlivePart) {
        let Some(origin) = self.origin(input, part.town.as_deref()) else { return };
        let line = part.line + self.lines;
        let mut cell = Cell::new(Point { ts: part.last_ts, input, line }, 0);
        cell.first.ts = part.first_ts;
        self.cells.add((origin, None), (None, None, false), cell, false);
    }

    /// Its first part was a finding too, when it was there, and has the number of the whole: one of them counts.
    fn part(&mut self, input: u16, part: Part) {
        let at = part.line + self.lines;
        let Some(record) = self.parts.take(part) else { return };
        line::read(record.text.as_bytes(), &mut |line| {
            if let Line::Found(mut finding) = line {
                (finding.line, finding.stamp.seq) = (at, Some(record.seq));
                self.finding(input, *finding);
            }
        });
    }

    fn finding(&mut self, input: u16, finding: Finding) {
        if self.keep(input, finding).is_none() {
            self.cells.dropped += 1;
        }
    }

    /// None when it is of a town or a run beyond those that can be kept.
    fn keep(&mut self, input: u16, finding: Finding) -> Option<()> {
        let ts = finding.stamp.ts?;
        let origin = self.origin(input, finding.stamp.town.as_deref())?;
        let runs = &mut self.texts.runs;
        let own_run = match finding.stamp.run.as_deref() {
            Some(run) => Some(runs.keep(run)?),
            None => None,
        };
        if let (Some(run), Some(seq)) = (own_run, finding.stamp.seq)
            && !self.seqs.finding(run, seq)
        {
            return Some(());
        }
        let about = finding.about_run.as_deref().and_then(|run| self.texts.runs.keep(run));
        if let (Some(run), Some(about)) = (own_run, about)
            && run != about
        {
            self.predecessors.insert(run, about);
        }
        let agent = finding.agent.as_deref().and_then(|agent| self.texts.agents.keep(agent));
        let mut cell = Cell::new(Point { ts, input, line: finding.line }, finding.hash);
        cell.count = finding.count;
        let detail = Some(&*finding.detail).filter(|detail| !detail.is_empty());
        cell.detail = detail.and_then(|detail| self.texts.details.keep(detail));
        cell.boot_id = finding.boot_id.as_deref().and_then(|id| self.texts.details.keep(id));
        cell.boot_ts = finding.stamp.uptime_ms.map(|uptime| ts - uptime);
        cell.memory = finding.memory;
        for spec in finding.specs {
            let is_about_previous = spec.is_about_previous();
            let run = if is_about_previous { about.or(own_run) } else { own_run };
            let what = (Some(SpecId::of(spec)), agent, is_about_previous && about.is_none());
            self.cells.add((origin, run), what, cell.clone(), finding.own_time);
        }
        Some(())
    }
}
