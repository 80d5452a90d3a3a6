//! The report: the same facts as JSON, as text for a terminal, and as a page for a browser.

mod build;
mod html;
mod text;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::judge::Confidence;
use crate::rules::Hypothesis;
use crate::words::counted;

pub(crate) use build::build;

/// Version of the JSON. New fields come without a new number.
pub const SCHEMA: u32 = 1;

/// Everything that `bulkhead diagnose` has to say.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Version of this shape.
    pub schema: u32,
    /// Every end of a run that another run followed, or that something reported, in the order of time.
    pub restarts: Vec<Restart>,
    /// All of them together.
    pub summary: Summary,
    /// For the pictures: what towns there are and how they lived. Not part of the JSON.
    #[serde(skip)]
    #[schemars(skip)]
    pub pictures: Vec<Picture>,
}

/// One end of a run.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Restart {
    /// The town's id; null when no line says it.
    pub town: Option<String>,
    /// When the next run began, in RFC 3339; null when none followed.
    pub at: Option<String>,
    /// When the run that ended wrote its last line. Null when none of its lines was read.
    pub last_line_at: Option<String>,
    /// The id of the run that ended; null for the original container, which has none.
    pub run_id: Option<String>,
    /// How long it lived, in milliseconds, as far as its lines say.
    pub lived_ms: u64,
    /// Numbered lines of it that are missing.
    pub lost_lines: u64,
    /// Why it ended.
    pub verdict: Verdict,
    /// How sure that is; of an undecided end, low.
    pub confidence: Confidence,
    /// What else was going on that would explain it. Of an undecided end, the candidates that lead.
    pub also: Vec<Hypothesis>,
    /// Agents that the evidence names.
    pub agents: Vec<String>,
    /// What speaks for and against, the heaviest first.
    pub evidence: Vec<Evidence>,
    /// What to log or to look at next.
    pub next: String,
}

/// A cause, or that none can be determined.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(untagged)]
pub enum Verdict {
    /// This one.
    Of(Hypothesis),
    /// Nothing leads.
    Undecided(Undecided),
}

/// The word for it.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Undecided {
    /// Nothing speaks for anything, or two things lead.
    Undecided,
}

impl Verdict {
    /// `H1` or `undecided`.
    pub fn id(self) -> &'static str {
        match self {
            Self::Of(hypothesis) => hypothesis.id(),
            Self::Undecided(_) => "undecided",
        }
    }

    /// A few words.
    pub fn title(self) -> &'static str {
        match self {
            Self::Of(hypothesis) => hypothesis.title(),
            Self::Undecided(_) => "undecided",
        }
    }
}

/// One thing that speaks for or against.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Evidence {
    /// About what.
    pub hypothesis: Hypothesis,
    /// Whether it speaks for it.
    pub r#for: bool,
    /// How much.
    pub weight: i32,
    /// The log that shows it; null when it is something that all of them together show.
    pub file: Option<String>,
    /// The line in it, from 1.
    pub line: Option<u64>,
    /// What was found.
    pub text: String,
    /// Why that matters.
    pub reason: String,
}

/// All restarts together.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// How many ends.
    pub restarts: usize,
    /// Of them, those that no run followed: they are no restarts.
    #[serde(default)]
    pub unfollowed: usize,
    /// Of them, those that nothing explains.
    pub undecided: usize,
    /// Towns that have any line.
    pub towns: usize,
    /// Runs that have any line.
    pub runs: usize,
    /// Restarts by verdict.
    pub causes: BTreeMap<String, usize>,
    /// From one start to the next of a town; null without two.
    pub intervals: Option<Intervals>,
    /// Agents that the evidence names, the most frequent first, at most 50.
    pub agents: Vec<AgentCount>,
    /// What would explain an end, in the last run of each town: no other run followed it.
    pub ongoing: Vec<Ongoing>,
    /// What was read.
    pub input: InputCounts,
    /// What a reader should know about the logs: what could not be read, what is missing.
    pub notes: Vec<String>,
}

impl Summary {
    /// How many restarts and how many other ends, in words.
    pub(crate) fn ends(&self) -> String {
        let restarts = self.restarts - self.unfollowed.min(self.restarts);
        let mut text = counted(restarts as u64, "restart");
        if self.unfollowed > 0 {
            let ends = counted(self.unfollowed as u64, "end");
            text.push_str(&format!(" and {ends} that no run followed"));
        }
        text
    }
}

/// Time between restarts, in milliseconds.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Intervals {
    /// Half are shorter.
    pub median_ms: u64,
    /// A quarter is shorter.
    pub lower_quartile_ms: u64,
    /// A quarter is longer.
    pub upper_quartile_ms: u64,
    /// The shortest.
    pub min_ms: u64,
    /// The longest.
    pub max_ms: u64,
}

/// In how many restarts an agent has a part.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgentCount {
    /// Its id.
    pub agent: String,
    /// How many.
    pub restarts: usize,
}

/// The last run of a town, and what was going on in it.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Ongoing {
    /// The town's id.
    pub town: Option<String>,
    /// The run's id.
    pub run_id: Option<String>,
    /// What would explain an end.
    pub hypotheses: Vec<Hypothesis>,
}

/// What was read.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InputCounts {
    /// Bytes, after unpacking.
    pub bytes: u64,
    /// Lines.
    pub lines: u64,
    /// Lines that are whole JSON objects.
    pub json_lines: u64,
    /// Lines that begin as JSON and are truncated or broken.
    pub cut_lines: u64,
    /// Lines of plain text.
    pub text_lines: u64,
    /// Lines that are no text.
    pub binary_lines: u64,
    /// Lines that were there before.
    pub doubled_lines: u64,
    /// Lines that matter and belong to no town that can be determined.
    pub homeless_lines: u64,
}

/// One town for the pictures.
#[derive(Debug, Clone)]
pub struct Picture {
    /// Its name.
    pub town: String,
    /// Its runs: from, to.
    pub runs: Vec<(i64, i64)>,
    /// Memory: when, and MB; runs are parted by NaN.
    pub memory: Vec<(i64, f32)>,
    /// The limit, when known, in MB.
    pub limit_mb: Option<f32>,
    /// Ends: when, and why.
    pub ends: Vec<(i64, Verdict)>,
    /// Other things that happened: when, and what.
    pub events: Vec<(i64, &'static str)>,
}

impl Report {
    /// As JSON, on one line.
    pub fn json(&self) -> String {
        serde_json::to_string(self).expect("a report has string keys only")
    }

    /// For a person at a terminal of this width.
    pub fn text(&self, columns: usize) -> String {
        text::page(self, columns)
    }

    /// A page of its own for a browser. Nothing in it is loaded from anywhere.
    ///
    /// # Errors
    ///
    /// When the picture cannot be drawn.
    pub fn html(&self) -> Result<String, String> {
        html::page(self)
    }

    /// Whether every restart has a cause.
    pub fn is_explained(&self) -> bool {
        self.summary.undecided == 0
    }
}

/// The JSON Schema of a report.
pub fn schema() -> String {
    let schema = schemars::schema_for!(Report);
    let mut text = serde_json::to_string_pretty(&schema).expect("a schema is JSON");
    text.push('\n');
    text
}
