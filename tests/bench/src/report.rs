//! The report: a table for people, JSON for programs, a page with pictures for a browser.

use std::fmt;

use serde::Serialize;

use crate::machine;
use crate::plot::Plot;
pub use crate::row::{Base, Row};

#[derive(Serialize)]
pub struct Report {
    pub machine: String,
    /// When it began and what else the machine did.
    pub circumstances: Vec<String>,
    /// What the figures do not say: what was not there, what was not measured and why.
    pub notes: Vec<String>,
    pub rows: Vec<Row>,
    pub plots: Vec<Plot>,
    #[serde(skip)]
    part: String,
}

impl Report {
    pub fn new() -> Self {
        Self {
            machine: machine::describe(),
            circumstances: vec![machine::now("began")],
            notes: Vec::new(),
            rows: Vec::new(),
            plots: Vec::new(),
            part: String::new(),
        }
    }

    /// What comes now belongs to this part.
    pub fn begin(&mut self, part: &str) {
        part.clone_into(&mut self.part);
    }

    pub fn add(&mut self, row: Row) {
        self.rows.push(Row { part: self.part.clone(), ..row });
    }

    pub fn note(&mut self, note: impl Into<String>) {
        self.notes.push(format!("{}: {}", self.part, note.into()));
    }

    /// The same for what more than one part says.
    pub fn note_once(&mut self, note: String) {
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    pub fn plot(&mut self, plot: Plot) {
        self.plots.push(plot);
    }

    /// So far. Says when that was.
    pub fn end(&mut self) {
        self.circumstances.truncate(1);
        self.circumstances.push(machine::now("ended"));
    }

    /// Goals that were missed.
    pub fn misses(&self) -> usize {
        self.rows.iter().filter(|row| row.met == Some(false)).count()
    }

    pub fn json(&self) -> String {
        serde_json::to_string_pretty(self).expect("a report is JSON")
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.machine)?;
        self.circumstances.iter().try_for_each(|line| writeln!(f, "{line}"))?;
        let head = ["what", "n", "p50", "p99", "p25 .. p75", "against", "ratio", "budget"];
        let [what, n, p50, p99, spread, against, ratio, budget] = head;
        writeln!(
            f,
            "{what:<58} {n:>7} {p50:>11} {p99:>11} {spread:>24} {against:>20} {ratio:>9} {budget:>11}"
        )?;
        let mut part = "";
        for row in &self.rows {
            if part != row.part {
                part = &row.part;
                writeln!(f, "-- {part}")?;
            }
            let (ratio, verdict) = (row.ratio_text(), row.verdict());
            let Row { name, n, p50, p99, spread, against, budget, .. } = row;
            writeln!(
                f,
                "{name:<58} {n:>7} {p50:>11} {p99:>11} {spread:>24} {against:>20} {ratio:>9} \
                 {budget:>11} {verdict}"
            )?;
        }
        self.notes.iter().try_for_each(|note| writeln!(f, "note: {note}"))
    }
}
