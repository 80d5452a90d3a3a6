//! What a person at a terminal reads.
//!
//! ```text
//!  an event ──▶ sentence ──▶ Look ──▶ 09:30:00 │ mayor        runs (incarnation 2), started in 12 ms
//!  a crash record ─▶ crash ─▶ the block of the log, the page of `bulkhead crashes show`, Markdown
//!  the start of a host ──▶ Banner
//! ```
//!
//! None of it is a contract. Texts of others go through `bulkhead_printable` here, so that what comes out is safe to
//! print. Pure, but for [`print()`]: it reads no clock, and looks at stdout and the environment only where a name says so.

mod banner;
mod colour;
mod crash;
mod look;
pub mod reason;
mod sentence;
mod stdout;
pub mod words;

pub use banner::{Access, Banner};
pub use colour::{Colour, ColourChoice, paint};
pub use crash::{crash_json, crash_list, crash_markdown, crash_page};
pub use look::Look;
pub use stdout::{Reader, print, printed};
