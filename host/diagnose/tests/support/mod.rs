//! What the tests share: a log with labels, made or recorded, noise, and counting.

#![allow(dead_code, reason = "each test uses a part of it")]

pub mod noise;
pub mod original;
pub mod recorded;
pub mod score;

use bulkhead_diagnose::{Input, Options, Report, diagnose};

/// One line and when it was written; the second is for the noise only.
#[derive(Debug, Clone)]
pub struct Line {
    pub ts: i64,
    pub text: Vec<u8>,
    /// Written by the control plane, whose clock is another one.
    pub outside: bool,
}

/// How an end is found in a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// By the id of the run that ended.
    Run(String),
    /// By when the next run began.
    At(i64),
}

/// An end, and what it was of. Without labels, the log holds nothing to decide by.
#[derive(Debug, Clone)]
pub struct Truth {
    pub which: Which,
    pub labels: Vec<String>,
}

/// The log of a town.
#[derive(Debug, Clone)]
pub struct Log {
    pub town: String,
    pub lines: Vec<Line>,
    pub truths: Vec<Truth>,
}

impl Log {
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for line in &self.lines {
            bytes.extend_from_slice(&line.text);
            bytes.push(b'\n');
        }
        bytes
    }

    pub fn report(&self) -> Report {
        report_of(&self.town, self.bytes())
    }

    /// Half of the logs are for writing rules by, the others only for counting. FNV-1a of the name says which.
    pub fn is_held_back(&self) -> bool {
        let hash = self.town.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        hash >> 40 & 1 == 1
    }
}

pub fn report_of(name: &str, bytes: Vec<u8>) -> Report {
    let inputs = vec![Input::new(name, std::io::Cursor::new(bytes))];
    diagnose(inputs, &Options::default(), |_| {}).expect("the log has lines")
}
