//! What streams consist of: `GET /events/stream`, `GET /agents/{id}/events/stream`, `GET /ws`, and a message whose
//! sender accepts `text/event-stream`.

use std::borrow::Cow;
use std::sync::Arc;

use bulkhead_types::{AgentId, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::view::EventView;
use crate::{ErrorBody, MessageAnswer};

/// One frame: a JSON object whose `type` says which.
#[derive(Debug, Clone)]
pub enum StreamFrame {
    /// `event`: something happened.
    Event(EventFrame),
    /// `delta`: more of a turn, as it happens. Not kept, and the first to be left out.
    Delta(DeltaFrame),
    /// `gap`: something is missing here.
    Gap(GapFrame),
    /// `turn`: the last frame of a message that was answered.
    Turn(MessageAnswer),
    /// `error`: the last frame of a message that was not.
    Error(Box<ErrorBody>),
}

/// Something happened.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EventFrame {
    /// Rises over all agents and all runs of the host, with gaps between the events of one agent.
    pub id: u64,
    /// Whose event; absent for the container's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<AgentId>,
    /// For example `agent.turn`, or a name that the agent chose.
    pub event: Arc<str>,
    /// Any JSON value.
    pub data: Arc<RawValue>,
    /// When.
    pub timestamp: Timestamp,
}

/// More of a turn.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeltaFrame {
    /// Whose turn.
    pub agent_id: AgentId,
    /// The message that the turn is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_id: Option<Arc<str>>,
    /// In order.
    pub deltas: Vec<DeltaView>,
}

/// One thing that happens in a turn.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", rename_all_fields = "camelCase")]
pub enum DeltaView {
    /// The next text of a model's answer.
    Text {
        /// Never empty.
        text: String,
    },
    /// The next text of its reasoning.
    Reasoning {
        /// Never empty.
        text: String,
    },
    /// The model asks for a tool.
    ToolBegin {
        /// Connects begin and end.
        id: String,
        /// Of the tool.
        name: String,
        /// JSON, if the model keeps to it; cut after 1 KiB.
        arguments: String,
    },
    /// The agent sent the result to the model.
    ToolEnd {
        /// As in the begin.
        id: String,
    },
}

/// Something is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "of", rename_all_fields = "camelCase")]
pub enum GapFrame {
    /// Events above `after`, up to `upto`, are not kept any more, or may not be.
    Events {
        /// The last one that the reader had.
        after: u64,
        /// The last one that may be missing.
        upto: u64,
    },
    /// The reader was too slow for some deltas.
    Deltas,
}

#[derive(Serialize)]
struct Tagged<'a, T> {
    r#type: &'static str,
    #[serde(flatten)]
    frame: &'a T,
}

#[derive(Deserialize)]
struct Tag<'a> {
    #[serde(borrow)]
    r#type: Cow<'a, str>,
}

impl StreamFrame {
    /// The word in `type`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Event(_) => "event",
            Self::Delta(_) => "delta",
            Self::Gap(_) => "gap",
            Self::Turn(_) => "turn",
            Self::Error(_) => "error",
        }
    }

    /// One line of JSON.
    pub fn to_json(&self) -> String {
        let r#type = self.kind();
        let text = match self {
            // Not flattened: raw values do not go through serde's buffers.
            Self::Event(event) => serde_json::to_string(event).map(|text| tagged(r#type, &text)),
            Self::Delta(frame) => serde_json::to_string(&Tagged { r#type, frame }),
            Self::Gap(frame) => serde_json::to_string(&Tagged { r#type, frame }),
            Self::Turn(frame) => serde_json::to_string(&Tagged { r#type, frame }),
            Self::Error(frame) => serde_json::to_string(&Tagged { r#type, frame }),
        };
        let text = text.unwrap_or_else(|_| tagged(r#type, "{}"));
        // White space outside of texts, in what an agent wrote: it means nothing, and lines end frames.
        if text.contains(['\n', '\r']) { text.replace(['\n', '\r'], " ") } else { text }
    }

    /// Reads a frame. `None`: of a kind that is not known here.
    ///
    /// # Errors
    ///
    /// No JSON, or not the fields that the kind has.
    pub fn parse(text: &str) -> Result<Option<Self>, serde_json::Error> {
        let Tag { r#type } = serde_json::from_str(text)?;
        Ok(Some(match &*r#type {
            "event" => Self::Event(serde_json::from_str(text)?),
            "delta" => Self::Delta(serde_json::from_str(text)?),
            "gap" => Self::Gap(serde_json::from_str(text)?),
            "turn" => Self::Turn(serde_json::from_str(text)?),
            "error" => Self::Error(serde_json::from_str(text)?),
            _ => return Ok(None),
        }))
    }
}

fn tagged(kind: &str, object: &str) -> String {
    let rest = object.strip_prefix('{').unwrap_or("}");
    let comma = if rest == "}" { "" } else { "," };
    format!("{{\"type\":\"{kind}\"{comma}{rest}")
}

impl From<EventFrame> for EventView {
    fn from(EventFrame { id, event, data, timestamp, .. }: EventFrame) -> Self {
        Self { id, event, data, timestamp }
    }
}

/// `POST /tickets`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TicketAnswer {
    /// Opens one stream, as `ticket` in its query. Once, and without the token.
    pub ticket: String,
    /// Until when.
    pub expires_at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(frame: &StreamFrame) -> String {
        let text = frame.to_json();
        let read = StreamFrame::parse(&text).unwrap().unwrap();
        assert_eq!(read.to_json(), text);
        text
    }

    #[test]
    fn frames_say_what_they_are_and_are_read_again() {
        let data = RawValue::from_string("{\n \"a\": \"x\\ny\" }".to_owned()).unwrap();
        let event = EventFrame {
            id: 7,
            agent_id: None,
            event: "progress".into(),
            data: data.into(),
            timestamp: Timestamp(0),
        };
        assert_eq!(
            round(&StreamFrame::Event(event)),
            r#"{"type":"event","id":7,"event":"progress","data":{  "a": "x\ny" },"timestamp":"1970-01-01T00:00:00.000Z"}"#
        );
        let gap = StreamFrame::Gap(GapFrame::Events { after: 3, upto: 9 });
        assert_eq!(round(&gap), r#"{"type":"gap","of":"events","after":3,"upto":9}"#);
        assert_eq!(round(&StreamFrame::Gap(GapFrame::Deltas)), r#"{"type":"gap","of":"deltas"}"#);
        let delta = StreamFrame::Delta(DeltaFrame {
            agent_id: AgentId::parse("a").unwrap(),
            message_id: Some("m".into()),
            deltas: vec![
                DeltaView::Text { text: "hi".into() },
                DeltaView::ToolEnd { id: "1".into() },
            ],
        });
        assert_eq!(
            round(&delta),
            r#"{"type":"delta","agentId":"a","messageId":"m","deltas":[{"kind":"text","text":"hi"},{"kind":"tool_end","id":"1"}]}"#
        );
        let turn = MessageAnswer { sent: true, message_id: "m".into(), turn: None };
        assert_eq!(
            round(&StreamFrame::Turn(turn)),
            r#"{"type":"turn","sent":true,"messageId":"m"}"#
        );
        let error = StreamFrame::Error(Box::new(ErrorBody::new("no")));
        assert!(round(&error).starts_with(r#"{"type":"error","error":"no""#));
    }

    #[test]
    fn a_frame_of_another_version_is_no_error() {
        assert!(StreamFrame::parse(r#"{"type":"weather","id":1}"#).unwrap().is_none());
        assert!(StreamFrame::parse("{}").is_err());
    }
}
