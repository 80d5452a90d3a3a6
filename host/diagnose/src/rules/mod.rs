//! The rules, as data: what a line can be a sign of ([`signs`]), what can be behind a restart
//! ([`hypotheses`]), and what each sign says about each of them ([`table`]).
//!
//! To add a rule, add a row to [`table::RULES`]; when it needs a line that nothing looks at yet, add a row to
//! [`signs::SIGNS`] as well. Nothing else has to change: the reader and the judge go by these tables, and
//! `RULES.md` is made from them (`UPDATE_RULES=1 cargo test -p bulkhead-diagnose`).

mod document;
mod hypotheses;
mod signs;
mod table;

pub use document::document;
pub use hypotheses::Hypothesis;
pub use signs::{SIGNS, Sign, SignSpec, Source};
pub use table::{Curve, RULES, Rule, Test};
