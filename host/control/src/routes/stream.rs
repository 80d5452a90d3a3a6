//! `GET /events/stream`, `GET /agents/{id}/events/stream`, `GET /ws`: events as they happen, and turns.
//!
//! | parameter | |
//! | --- | --- |
//! | `after` | begin after this event; `Last-Event-ID` of a browser that connects again wins. Without: with the next one |
//! | `agent` | of all streams: these agents alone, separated by commas |
//! | `event` | these events alone: names, or beginnings of names with `*`, separated by commas |
//! | `deltas` | turns as they happen. On for one agent, off for all |
//! | `follow` | false: the stream ends after what is kept |
//! | `ticket` | in place of the token |

use std::sync::Arc;

use axum::Extension;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::response::Response;
use bulkhead_api::{DeltaFrame, DeltaView, EventFrame, GapFrame, Issue, StreamFrame};
use bulkhead_feed::{Delta, Entry, Follow, Item, Subscription};
use bulkhead_supervisor::SendError;
use bulkhead_types::{AgentId, IdError};
use futures_util::StreamExt;
use futures_util::stream;
use hyper::StatusCode;

use super::events::MAX_AFTER;
use crate::Backend;
use crate::agent::PathAgent;
use crate::answer::Refusal;
use crate::openapi::{Group, Operation};
use crate::params::{Kind, Param, Params};
use crate::routed::Services;
use crate::streams::{Frame, Frames, Streams};

const AFTER: Param = Param::new(
    "after",
    Kind::Number(0, MAX_AFTER),
    "Begin after this event. Without it: with the next one; 0: with the oldest that is kept.",
);
const AGENT: Param =
    Param::new("agent", Kind::Text, "These agents alone, separated by commas, at most 64.");
const EVENT: Param = Param::new(
    "event",
    Kind::Text,
    "These events alone: names, or beginnings of names with `*`, separated by commas, at most 64.",
);
const DELTAS: Param =
    Param::new("deltas", Kind::Flag, "Turns as they happen. On for one agent, off for all.");
const FOLLOW: Param = Param::new(
    "follow",
    Kind::Flag,
    "`false`: the stream ends after the events that are kept. Turns are not among them.",
);
const TICKET: Param =
    Param::new("ticket", Kind::Text, "In place of the token: see `POST /tickets`.");
const OF_ALL: &[Param] = &[AFTER, AGENT, EVENT, DELTAS, FOLLOW, TICKET];
const OF_AGENT: &[Param] = &[AFTER, EVENT, DELTAS, FOLLOW, TICKET];

const TOO_MANY: &str = "Too many streams are open (`busy`), or too many requests are under way.";

pub(super) fn all_operation() -> Operation {
    Operation::new(Group::Streams, "Sends events of the container and of all agents as they happen")
        .about("Those of the container have no `agentId`. `deltas=true`: turns as well.")
        .query(OF_ALL)
        .header("Last-Event-ID", "Stands for `after`, and wins.")
        .answers_text(200, "text/event-stream", "Frames, until either side ends it.")
        .refuses(503, TOO_MANY)
}

pub(super) fn agent_operation() -> Operation {
    Operation::new(Group::Streams, "Sends events of an agent as they happen, and its turns")
        .about("`deltas=false`: without turns. The stream ends when the agent is forgotten.")
        .known_agent()
        .query(OF_AGENT)
        .header("Last-Event-ID", "Stands for `after`, and wins.")
        .answers_text(200, "text/event-stream", "Frames, until either side ends it.")
        .refuses(503, "Boot may still restore the agent (`not-back-yet`), or too many streams are open (`busy`).")
}

pub(super) fn socket_operation() -> Operation {
    Operation::new(Group::Streams, "Sends the same over a WebSocket")
        .about("Each frame is a text message. What a client says is not read; a message above 4 KiB ends the connection.")
        .query(OF_ALL)
        .header("Last-Event-ID", "Stands for `after`, and wins.")
        .answers_without(101, "The connection is a WebSocket.")
        .refuses(426, "The request asks for no WebSocket (`no-upgrade`).")
        .refuses(503, TOO_MANY)
}

/// Longest message of a client of a WebSocket, in bytes. What it says is not read; above, it is gone.
const SAID_BYTES: usize = 4096;

/// Names in a list of the query, at most.
const MAX_NAMES: usize = 64;

/// What a stream is asked for.
pub(super) struct Wanted {
    after: Option<u64>,
    agents: Vec<AgentId>,
    /// Empty: all.
    events: Vec<String>,
    deltas: Option<bool>,
    follow: bool,
}

impl<S: Send + Sync> FromRequestParts<S> for Wanted {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let Ok(params) = Params::from_request_parts(parts, state).await;
        let is_of_agent = parts.uri.path().starts_with("/agents/");
        let params = params.only(if is_of_agent { OF_AGENT } else { OF_ALL })?;
        let again = parts.headers.get("last-event-id").map(|value| {
            let id = value.to_str().ok().and_then(|text| text.trim().parse().ok());
            id.filter(|id| *id <= MAX_AFTER)
        });
        let after = match again {
            Some(Some(id)) => Some(id),
            Some(None) => {
                let rule = format!("must be a whole number from 0 to {MAX_AFTER}");
                return Err(Refusal::invalid_query([Issue::new("Last-Event-ID", rule)]));
            }
            None => params.number(&AFTER)?,
        };
        let list = |key: &Param| -> Result<Vec<String>, Refusal> {
            let text = params.text(key).unwrap_or_default();
            let names: Vec<_> = text
                .split(',')
                .map(str::trim)
                .filter(|name| !name.is_empty())
                .map(str::to_owned)
                .collect();
            if names.len() > MAX_NAMES {
                let rule = format!("has {} names, at most {MAX_NAMES} are allowed", names.len());
                return Err(Refusal::invalid_query([Issue::new(key.name, rule)]));
            }
            Ok(names)
        };
        let wrong =
            |error: IdError| Refusal::invalid_query([Issue::new("agent", error.to_string())]);
        let agents = list(&AGENT)?;
        let agents: Result<_, _> = agents.iter().map(|id| AgentId::parse(id)).collect();
        let agents = agents.map_err(wrong)?;
        let deltas = params.has(&DELTAS).then(|| params.flag(&DELTAS)).transpose()?;
        let follow = !params.has(&FOLLOW) || params.flag(&FOLLOW)?;
        Ok(Self { after, agents, events: list(&EVENT)?, deltas, follow })
    }
}

/// The container, and all agents or some.
pub(super) async fn all<B: Backend>(
    State(backend): State<B>,
    Extension(services): Extension<Arc<Services>>,
    wanted: Wanted,
) -> Result<Response, Refusal> {
    let place = services.streams.place()?;
    let follow = wanted.follow;
    Ok(place.events(of_all(&backend, &services.streams, wanted), follow))
}

/// One agent.
pub(super) async fn agent<B: Backend>(
    State(backend): State<B>,
    Extension(services): Extension<Arc<Services>>,
    agent: PathAgent<B>,
    wanted: Wanted,
) -> Result<Response, Refusal> {
    let ring = agent.when_restored(|backend, id| {
        backend.ring(id).ok_or_else(|| SendError::NoSuchAgent(id.clone()))
    });
    let ring = ring.await?;
    let place = services.streams.place()?;
    let Wanted { after, events, deltas, follow, .. } = wanted;
    let live = follow && deltas.unwrap_or(true);
    let subscription = Subscription::new(backend.feed(), Follow::Agent(ring), after, live);
    Ok(place.events(frames(subscription, events, follow, services.streams.clone()), follow))
}

/// The same as for all agents, over a WebSocket.
pub(super) async fn socket<B: Backend>(
    State(backend): State<B>,
    Extension(services): Extension<Arc<Services>>,
    wanted: Wanted,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Refusal> {
    let upgrade = upgrade.map_err(|rejection| {
        let error = format!("this is a WebSocket: {}", rejection.body_text());
        Refusal::new(StatusCode::UPGRADE_REQUIRED, error)
            .kind("no-upgrade")
            .action("connect with ws://, or use /events/stream")
    })?;
    let place = services.streams.place()?.of_socket();
    let frames = of_all(&backend, &services.streams, wanted);
    let upgrade = upgrade
        .max_message_size(SAID_BYTES)
        .max_frame_size(SAID_BYTES)
        .read_buffer_size(SAID_BYTES);
    Ok(upgrade.on_upgrade(move |socket| place.speak(socket, frames)))
}

fn of_all<B: Backend>(backend: &B, streams: &Streams, wanted: Wanted) -> Frames {
    let Wanted { after, agents, events, deltas, follow } = wanted;
    let live = follow && deltas.unwrap_or(false);
    let subscription = Subscription::new(backend.feed(), Follow::All { agents }, after, live);
    frames(subscription, events, follow, streams.clone())
}

/// What a subscription brings, as frames. Without `follow` it ends with what is there already.
fn frames(
    subscription: Subscription,
    events: Vec<String>,
    follow: bool,
    streams: Streams,
) -> Frames {
    let state = (subscription, events, streams);
    let batches = stream::unfold(state, move |(mut subscription, events, streams)| async move {
        let batch = match follow {
            true => subscription.next().await?,
            false => Some(subscription.kept()).filter(|batch| !batch.is_empty())?,
        };
        let wanted = batch.into_iter().filter(|item| is_wanted(item, &events));
        let frames: Vec<_> = wanted.map(|item| frame(&item, &streams)).collect();
        Some((frames, (subscription, events, streams)))
    });
    // A batch of which nothing is wanted says nothing.
    batches.filter(|frames| std::future::ready(!frames.is_empty())).boxed()
}

fn is_wanted(item: &Item, events: &[String]) -> bool {
    let Item::Event(Entry { event, .. }) = item else { return true };
    let is = |wanted: &String| match wanted.strip_suffix('*') {
        Some(beginning) => event.event.starts_with(beginning),
        None => *event.event == **wanted,
    };
    events.is_empty() || events.iter().any(is)
}

/// An item as it is sent.
pub(super) fn frame(item: &Item, streams: &Streams) -> Frame {
    let frame = match item {
        Item::Event(Entry { agent, event }) => StreamFrame::Event(EventFrame {
            id: event.id,
            agent_id: agent.clone(),
            event: event.event.clone(),
            data: event.data.clone(),
            timestamp: event.timestamp,
        }),
        Item::Deltas(frame) => {
            // Many read the same one.
            let json = frame.encoded(|frame| deltas(frame).to_json().into());
            return Frame { id: None, kind: "delta", json };
        }
        Item::Gap { after, upto } => {
            streams.count_gap();
            StreamFrame::Gap(GapFrame::Events { after: *after, upto: *upto })
        }
        Item::DeltaGap => {
            streams.count_gap();
            StreamFrame::Gap(GapFrame::Deltas)
        }
    };
    Frame::from(&frame)
}

fn deltas(frame: &bulkhead_feed::DeltaFrame) -> StreamFrame {
    let view = |delta: &Delta| match delta.clone() {
        Delta::Text(text) => DeltaView::Text { text },
        Delta::Reasoning(text) => DeltaView::Reasoning { text },
        Delta::ToolBegin { id, name, arguments } => DeltaView::ToolBegin { id, name, arguments },
        Delta::ToolEnd { id } => DeltaView::ToolEnd { id },
    };
    StreamFrame::Delta(DeltaFrame {
        agent_id: frame.agent.clone(),
        message_id: frame.message_id.clone(),
        deltas: frame.deltas.iter().map(view).collect(),
    })
}
