//! The rules, as data: what a line can be a sign of ([`SIGNS`]), what can be behind a restart
//! ([`Hypothesis`]), and what each sign says about each of them ([`RULES`]).
//!
//! To add a rule, add a row to [`RULES`]; when it needs a line that nothing looks at yet, add a row to
//! [`SIGNS`] as well. Nothing else has to change: the reader and the judge go by these tables, and
//! `docs/diagnose-rules.md` is made from them (`UPDATE_EXPECT=1 cargo test -p bulkhead-diagnose`).

mod document;
mod hypotheses;
mod signs;
mod table;

pub use document::document;
pub use hypotheses::Hypothesis;
pub use signs::{SIGNS, Sign, SignSpec, Source};
pub use table::{Curve, RULES, Rule, Test};
