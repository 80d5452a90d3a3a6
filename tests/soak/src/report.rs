//! What was seen, and what was wrong.

use std::collections::BTreeMap;
use std::fmt;

use crate::quiet::Holdings;

/// Findings that are printed. All are counted.
const SHOWN: usize = 40;

/// After so many the rest says nothing new.
const HOPELESS: u64 = 200;

/// What a soak saw.
#[derive(Default)]
pub struct Report {
    /// How often each thing was done or seen.
    pub counts: BTreeMap<String, u64>,
    /// What the host held at its quiet points: a list for each supervisor that had more than one.
    pub quiet: Vec<Vec<Holdings>>,
    findings: Vec<String>,
    found: u64,
}

impl Report {
    /// Something is not as it must be.
    pub fn found(&mut self, what: impl Into<String>) {
        let what = what.into();
        println!("FOUND: {what}");
        self.found += 1;
        if self.findings.len() < SHOWN {
            self.findings.push(what);
        }
    }

    /// Something was done or seen once more.
    pub fn count(&mut self, what: &str) {
        self.add(what, 1);
    }

    /// Something was done or seen so often.
    pub fn add(&mut self, what: &str, times: u64) {
        *self.counts.entry(what.to_owned()).or_default() += times;
    }

    /// Whether nothing was wrong.
    pub fn is_clean(&self) -> bool {
        self.found == 0
    }

    /// Whether going on is of no use.
    pub fn is_hopeless(&self) -> bool {
        self.found >= HOPELESS
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f)?;
        for (what, times) in &self.counts {
            writeln!(f, "{times:>10}  {what}")?;
        }
        for points in self.quiet.iter().filter(|points| points.len() > 1) {
            writeln!(f, "quiet points of one supervisor:")?;
            for point in points {
                writeln!(f, "            {point}")?;
            }
        }
        match self.found {
            0 => write!(f, "nothing was found"),
            found => {
                writeln!(f, "{found} findings")?;
                for finding in &self.findings {
                    writeln!(f, "  - {finding}")?;
                }
                Ok(())
            }
        }
    }
}
