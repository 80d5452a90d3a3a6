//! Use of language models: what was used, what may be used, and loops that lead nowhere.
//!
//! ```text
//!   before a call ─▶ Ledger::admit ── Refusal: a budget is used up
//!   after it ──────▶ Ledger::record ─▶ counts, cost, windows ─▶ Crossing at 80 %, rows for the database
//!   its tool calls ▶ Book::saw_tool_call ─┐
//!   a turn's end ──▶ Book::turn_ended ────┴─▶ Stuck
//! ```
//!
//! The [`Ledger`] is the container's: counts by agent, role, endpoint and model, and the windows of a minute and a day.
//! A [`Book`] belongs to one incarnation: its message, its turn, and what it repeats. Both are plain values: they read
//! no clock, take no lock, and write nothing.
//!
//! What a call uses is known when it is over. So a call is admitted while less than the budget is used, and calls that
//! are under way then may exceed it.

mod book;
mod breaker;
mod budget;
mod ledger;
mod price;
mod window;

pub use book::Book;
pub use breaker::{LoopRules, Stuck};
pub use budget::{BudgetKind, Budgets, Crossing, Exhausted, OnExceeded, Refusal, Scope};
pub use ledger::{Bounds, EndpointFigures, Ledger, ModelFigures, OTHER, RoleRules, Rules};
pub use price::{NANO, Price, PriceList, Prices};
pub use window::Now;
