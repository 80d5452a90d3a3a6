//! One operation: a method of a path, as people and programs read of it.

use std::collections::BTreeMap;

use schemars::generate::SchemaGenerator;
use schemars::{JsonSchema, Schema};
use serde_json::Value;

use crate::params::Param;

/// The groups of operations, in the order of the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Group {
    Probes,
    Agents,
    Streams,
    Chat,
    Tools,
    Workspaces,
    Settings,
    Diagnosis,
}

impl Group {
    pub(crate) const ALL: [Self; 8] = [
        Self::Probes,
        Self::Agents,
        Self::Streams,
        Self::Chat,
        Self::Tools,
        Self::Workspaces,
        Self::Settings,
        Self::Diagnosis,
    ];

    pub(crate) const fn heading(self) -> &'static str {
        match self {
            Self::Probes => "Probes and metrics",
            Self::Agents => "Agents",
            Self::Streams => "Streams",
            Self::Chat => "Chat clients",
            Self::Tools => "Tools for models",
            Self::Workspaces => "Workspaces and repositories",
            Self::Settings => "Settings of running agents",
            Self::Diagnosis => "Crashes, memory and usage",
        }
    }
}

/// Makes the schema of a type.
pub(super) type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// One operation. What every operation may answer is added to it.
pub(crate) struct Operation {
    pub(super) group: Group,
    pub(super) summary: &'static str,
    pub(super) about: &'static str,
    /// It needs no token.
    pub(super) open: bool,
    pub(super) in_path: Vec<PathParam>,
    pub(super) query: &'static [Param],
    /// Names, and what they are for.
    pub(super) headers: Vec<(&'static str, &'static str)>,
    pub(super) body: Option<Body>,
    /// The media type of a body that is no JSON, and that it does without as well.
    pub(super) bytes: Option<&'static str>,
    pub(super) answers: BTreeMap<u16, Answer>,
    /// Beside those that every operation may answer with, or instead of them.
    pub(super) refusals: BTreeMap<u16, &'static str>,
    /// Refusals may have another form as well.
    pub(super) other_refusal: Option<SchemaOf>,
}

/// A part of the path.
pub(super) enum PathParam {
    /// `{id}`, of an agent.
    Agent,
    Text(&'static str, &'static str),
}

/// A body of JSON.
pub(super) struct Body {
    pub(super) schema: SchemaOf,
    pub(super) example: Value,
    /// Nothing else stands for it.
    pub(super) required: bool,
}

/// An answer below 400.
pub(super) struct Answer {
    pub(super) about: &'static str,
    /// Media types, with the schema of each. None of either: there is no body.
    pub(super) content: Vec<(&'static str, SchemaOf)>,
}

impl Operation {
    /// One with a token, without parameters, without answers. `summary` is a sentence about the host, in the third
    /// person and without a full stop.
    pub(crate) fn new(group: Group, summary: &'static str) -> Self {
        Self {
            group,
            summary,
            about: "",
            open: false,
            in_path: Vec::new(),
            query: &[],
            headers: Vec::new(),
            body: None,
            bytes: None,
            answers: BTreeMap::new(),
            refusals: BTreeMap::new(),
            other_refusal: None,
        }
    }

    /// What the summary does not say, in Markdown.
    pub(crate) fn about(self, about: &'static str) -> Self {
        Self { about, ..self }
    }

    /// It needs no token.
    pub(crate) fn open(self) -> Self {
        Self { open: true, ..self }
    }

    /// Its path has an agent's `{id}`.
    pub(crate) fn agent(mut self) -> Self {
        self.in_path.push(PathParam::Agent);
        self
    }

    /// The same, and the agent must exist: see [`crate::agent::PathAgent`].
    pub(crate) fn known_agent(self) -> Self {
        self.agent()
            .refuses(404, "There is no such agent (`no-such-agent`).")
            .refuses(503, "Boot may still restore the agent (`not-back-yet`), or too many requests are under way (`busy`).")
    }

    /// It puts something into a mailbox.
    pub(crate) fn delivers(self) -> Self {
        self.refuses(409, "The agent accepts no messages in its state (`not-running`).")
            .refuses(413, "The message is larger than the whole mailbox (`message-too-large`), or the body than it may be.")
            .refuses(429, "The mailbox is full (`mailbox-full`), or the agent's memory is (`agent-memory-full`).")
    }

    /// Git does the work, maybe with a remote.
    pub(crate) fn works_on_repositories(self) -> Self {
        self.refuses(422, "Something is larger than the host allows (`too-large`).")
            .refuses(502, "Git failed (`git-failed`), or the remote (`clone-failed`, `unauthorized`).")
            .refuses(503, "Somebody else works on it for too long (`locked`), or too many requests are under way (`busy`).")
            .refuses(504, "Git took too long (`timeout`).")
            .refuses(507, "The disk is full (`no-space`).")
    }

    /// Its path has another part.
    pub(crate) fn path_text(mut self, name: &'static str, about: &'static str) -> Self {
        self.in_path.push(PathParam::Text(name, about));
        self
    }

    /// Its query takes these, and refuses others.
    pub(crate) fn query(self, query: &'static [Param]) -> Self {
        Self { query, ..self }
    }

    /// It reads a header.
    pub(crate) fn header(mut self, name: &'static str, about: &'static str) -> Self {
        self.headers.push((name, about));
        self
    }

    /// It goes on with the trace of its caller.
    pub(crate) fn traced(self) -> Self {
        self.header("traceparent", "The trace that the request belongs to (W3C Trace Context).")
            .header("tracestate", "More of it.")
    }

    /// It needs a body of JSON, for example this one.
    pub(crate) fn body<T: JsonSchema>(self, example: Value) -> Self {
        let schema = SchemaGenerator::subschema_for::<T>;
        Self { body: Some(Body { schema, example, required: true }), ..self }
    }

    /// It does without its body as well.
    pub(crate) fn body_is_optional(mut self) -> Self {
        self.body.iter_mut().for_each(|body| body.required = false);
        self
    }

    /// It takes a body of this type that is no JSON.
    pub(crate) fn body_bytes(self, media_type: &'static str) -> Self {
        Self { bytes: Some(media_type), ..self }
    }

    /// It answers with JSON.
    pub(crate) fn answers<T: JsonSchema>(self, status: u16, about: &'static str) -> Self {
        self.answers_with(status, about, "application/json", SchemaGenerator::subschema_for::<T>)
    }

    /// It answers with text of this type.
    pub(crate) fn answers_text(
        self,
        status: u16,
        media_type: &'static str,
        about: &'static str,
    ) -> Self {
        self.answers_with(status, about, media_type, SchemaGenerator::subschema_for::<String>)
    }

    /// It refuses for a reason of its own.
    pub(crate) fn refuses(mut self, status: u16, about: &'static str) -> Self {
        self.refusals.insert(status, about);
        self
    }

    /// Its own refusals have another form than those of other routes.
    pub(crate) fn refuses_as<T: JsonSchema>(self) -> Self {
        Self { other_refusal: Some(SchemaGenerator::subschema_for::<T>), ..self }
    }

    /// It answers without a body.
    pub(crate) fn answers_without(mut self, status: u16, about: &'static str) -> Self {
        self.answers.insert(status, Answer { about, content: Vec::new() });
        self
    }

    fn answers_with(
        mut self,
        status: u16,
        about: &'static str,
        media_type: &'static str,
        schema: SchemaOf,
    ) -> Self {
        let answer = self.answers.entry(status).or_insert(Answer { about, content: Vec::new() });
        answer.content.push((media_type, schema));
        self
    }
}
