//! An event as a sentence about somebody.
//!
//! Texts that guests chose stand in quotation marks, or behind `>` when all of it is theirs: none of them looks like
//! words of the host.

mod agent;
mod container;
mod evidence;
mod ship;
mod tool;
mod town;

use std::borrow::Cow;

use bulkhead_types::{AgentId, Event};

use crate::words::{self, millis as ms, quoted};

/// Whom a sentence is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who<'a> {
    Host,
    Town,
    Agent(&'a AgentId),
}

/// What a person reads of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sentence<'a> {
    pub who: Who<'a>,
    /// What is said of it: begins with a verb.
    pub text: String,
    /// Shown only when somebody asks for details.
    pub is_detail: bool,
}

impl<'a> Sentence<'a> {
    fn new(who: Who<'a>, text: impl Into<String>) -> Self {
        Self { who, text: text.into(), is_detail: false }
    }

    fn detail(self) -> Self {
        self.detail_if(true)
    }

    fn detail_if(self, is_detail: bool) -> Self {
        Self { is_detail, ..self }
    }
}

/// The sentence of an event; of one that has none its name. `None`: the event is a part of another one.
pub(crate) fn of(event: &Event) -> Option<Sentence<'_>> {
    if matches!(event, Event::LinePart { .. }) {
        return None;
    }
    let said = container::of(event)
        .or_else(|| evidence::of(event))
        .or_else(|| ship::of(event))
        .or_else(|| town::of(event))
        .or_else(|| agent::of(event));
    Some(said.unwrap_or_else(|| Sentence::new(Who::Host, event.name())))
}

/// `, 4 more` when there are more.
fn and(count: u64, what: &str) -> Cow<'_, str> {
    if count == 0 { Cow::Borrowed("") } else { Cow::Owned(format!(", {count} {what}")) }
}

/// `12 agents`, `1 agent`.
fn agents(count: usize) -> String {
    words::counted(count, "agent")
}
