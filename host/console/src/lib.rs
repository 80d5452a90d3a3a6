//! The console: pages for people, made of answers of the API. Pure: no I/O, no clock, no async.
//!
//! ```text
//!  views of the API ──▶ overview, agent, crash, container ──▶ frame (head, navigation, foot) ──▶ HTML
//!                          └─ chart (SVG), words
//! ```
//!
//! Every page can be read without its script. The script replaces parts of a page by HTML of the server and shows a
//! turn as it happens.
//!
//! **Agents, roles and messages are texts of others.** maud escapes whatever comes into a page, and
//! `bulkhead_printable` makes characters visible that turn the direction of writing around or have no width.

mod agent;
mod assets;
mod chart;
mod container;
mod crash;
mod frame;
mod notice;
mod overview;
mod words;

#[cfg(test)]
mod tests;

pub use agent::{AgentPage, agent};
pub use assets::{Asset, asset};
pub use container::{ContainerPage, container};
pub use crash::{Alike, CrashPage, CrashesPage, crash, crashes};
pub use frame::Visitor;
pub use notice::{Said, login, problem};
pub use overview::{AgentRow, OverviewPage, overview};
