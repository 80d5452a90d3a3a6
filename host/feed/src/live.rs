//! A turn as it happens: text of the model, tools. Nothing of it is kept, and it is the first to go.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bulkhead_account::{Account, Charge};
use bulkhead_types::{AgentId, HostKind};
use bytes::Bytes;
use tokio::time::Instant;

/// Text goes out at most 20 times a second.
const EVERY: Duration = Duration::from_millis(50);

/// Text that waits to go out becomes a frame at this many bytes.
const FRAME_BYTES: usize = 32 * 1024;

/// Frames that are kept for those who read slowly, in bytes. Who is further behind has a gap.
const KEPT_BYTES: usize = 256 * 1024;

/// One thing that happens in a turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delta {
    /// The next text of an answer of a model.
    Text(String),
    /// The next text of its reasoning.
    Reasoning(String),
    /// The model asks for a tool.
    ToolBegin {
        /// Connects begin and end.
        id: String,
        /// Of the tool.
        name: String,
        /// JSON, if the model keeps to it and it is not cut off.
        arguments: String,
    },
    /// The agent sent the tool's result to the model.
    ToolEnd {
        /// As in the begin.
        id: String,
    },
}

impl Delta {
    fn bytes(&self) -> usize {
        size_of::<Self>()
            + match self {
                Self::Text(text) | Self::Reasoning(text) => text.len(),
                Self::ToolBegin { id, name, arguments } => id.len() + name.len() + arguments.len(),
                Self::ToolEnd { id } => id.len(),
            }
    }
}

/// What happened in a turn within a moment.
pub struct DeltaFrame {
    /// Whose turn.
    pub agent: AgentId,
    /// The message that the turn is about. `None`: between turns.
    pub message_id: Option<Arc<str>>,
    /// In order.
    pub deltas: Vec<Delta>,
    /// The last event of the agent before it.
    pub(crate) after: u64,
    encoded: OnceLock<Bytes>,
    bytes: usize,
    _held: Option<Charge>,
}

impl DeltaFrame {
    /// The frame as it is sent. Made by the first caller.
    pub fn encoded(&self, encode: impl FnOnce(&Self) -> Bytes) -> Bytes {
        self.encoded.get_or_init(|| encode(self)).clone()
    }
}

/// The turn of one agent, or those of all, as they happen.
#[derive(Default)]
pub(crate) struct Live {
    /// Whose turn it is, and who holds what is kept of it. `None`: of all.
    owner: Option<(AgentId, Arc<Account>)>,
    turn: Option<Arc<str>>,
    pending: Vec<Delta>,
    pending_bytes: usize,
    flushed: Option<Instant>,
    /// Numbered without a gap; the last one has `last`.
    frames: VecDeque<Arc<DeltaFrame>>,
    bytes: usize,
    last: u64,
    /// Of the frames, the newest so many are not with the followers of all agents.
    unshared: usize,
    /// Some were lost before the followers of all agents had them.
    has_lost: bool,
    /// The last event of the agent.
    last_event: u64,
}

/// What the followers of all agents do not have.
#[derive(Default)]
pub(crate) struct Unshared {
    pub(crate) frames: Vec<Arc<DeltaFrame>>,
    /// There were more.
    pub(crate) has_lost: bool,
}

/// Frames after some number.
#[derive(Default)]
pub(crate) struct LivePage {
    pub(crate) frames: Vec<Arc<DeltaFrame>>,
    pub(crate) upto: u64,
    /// Some that should be here are gone.
    pub(crate) has_gap: bool,
}

impl Live {
    pub(crate) fn of(agent: AgentId, account: Arc<Account>) -> Self {
        Self { owner: Some((agent, account)), ..Self::default() }
    }

    /// From now on deltas belong to this message.
    pub(crate) fn set_turn(&mut self, message_id: Option<&str>) {
        self.seal();
        self.turn = message_id.map(Arc::from);
    }

    /// What is said from here on comes after this event.
    pub(crate) fn follows(&mut self, id: u64) {
        self.last_event = id;
    }

    /// Whether nothing waits to become a frame.
    pub(crate) fn is_sealed(&self) -> bool {
        self.pending.is_empty()
    }

    /// Takes something that happened.
    pub(crate) fn say(&mut self, delta: Delta) {
        self.pending_bytes += delta.bytes();
        match (self.pending.last_mut(), delta) {
            (Some(Delta::Text(text)), Delta::Text(more))
            | (Some(Delta::Reasoning(text)), Delta::Reasoning(more)) => text.push_str(&more),
            (_, delta) => self.pending.push(delta),
        }
        if self.pending_bytes >= FRAME_BYTES {
            self.seal();
        }
    }

    /// Makes a frame of what waits, if it is time. Yields when it will be.
    pub(crate) fn flush(&mut self, now: Instant) -> Option<Instant> {
        if self.pending.is_empty() {
            return None;
        }
        if let Some(due) = self.flushed.map(|flushed| flushed + EVERY).filter(|due| *due > now) {
            return Some(due);
        }
        self.flushed = Some(now);
        self.seal();
        None
    }

    /// Makes a frame of what waits. Without room it is lost.
    pub(crate) fn seal(&mut self) {
        let (Some((agent, account)), false) = (&self.owner, self.pending.is_empty()) else {
            return;
        };
        let bytes = std::mem::take(&mut self.pending_bytes) + size_of::<DeltaFrame>();
        let deltas = std::mem::take(&mut self.pending);
        let Ok(held) = account.charge(HostKind::Events, bytes as u64) else {
            return self.lose();
        };
        let frame = DeltaFrame {
            agent: agent.clone(),
            message_id: self.turn.clone(),
            deltas,
            after: self.last_event,
            encoded: OnceLock::new(),
            bytes,
            _held: Some(held),
        };
        self.push(Arc::new(frame));
    }

    /// Keeps a frame. The oldest make room.
    pub(crate) fn push(&mut self, frame: Arc<DeltaFrame>) {
        self.bytes += frame.bytes;
        self.frames.push_back(frame);
        self.last += 1;
        self.unshared += 1;
        while self.bytes > KEPT_BYTES {
            let Some(oldest) = self.frames.pop_front() else { break };
            self.bytes -= oldest.bytes;
        }
        self.has_lost |= self.unshared > self.frames.len();
        self.unshared = self.unshared.min(self.frames.len());
    }

    /// A frame that is not there, and nothing before it either: all who follow have a gap.
    pub(crate) fn lose(&mut self) {
        self.last += 1;
        self.frames.clear();
        (self.bytes, self.unshared, self.has_lost) = (0, 0, true);
    }

    /// What the followers of all agents do not have.
    pub(crate) fn take_unshared(&mut self) -> Unshared {
        let first = self.frames.len() - std::mem::take(&mut self.unshared);
        let frames = self.frames.range(first..).cloned().collect();
        Unshared { frames, has_lost: std::mem::take(&mut self.has_lost) }
    }

    /// Frames after number `after`.
    pub(crate) fn after(&self, after: u64) -> LivePage {
        let first = self.last - self.frames.len() as u64;
        let skipped = usize::try_from(after.saturating_sub(first)).unwrap_or(usize::MAX);
        let frames = self.frames.iter().skip(skipped).cloned().collect();
        LivePage { frames, upto: self.last, has_gap: after < first }
    }

    /// The number of the last frame.
    pub(crate) fn last(&self) -> u64 {
        self.last
    }

    /// Nobody looks any more.
    pub(crate) fn forget(&mut self) {
        (self.pending, self.pending_bytes) = (Vec::new(), 0);
        (self.frames, self.bytes, self.unshared) = (VecDeque::new(), 0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn live(account: &Arc<Account>) -> Live {
        Live::of(AgentId::parse("a").unwrap(), Arc::clone(account))
    }

    fn text(page: &LivePage) -> String {
        let deltas = page.frames.iter().flat_map(|frame| &frame.deltas);
        let text = deltas.map(|delta| match delta {
            Delta::Text(text) => text.as_str(),
            Delta::Reasoning(_) => "r",
            Delta::ToolBegin { .. } => "<",
            Delta::ToolEnd { .. } => ">",
        });
        text.collect()
    }

    #[test]
    fn text_is_merged_and_goes_out_twenty_times_a_second() {
        let mut live = live(&Arc::default());
        let begun = Instant::now();
        live.set_turn(Some("m"));
        for n in 0..1000_u64 {
            live.say(Delta::Text("x".into()));
            live.flush(begun + Duration::from_millis(n));
        }
        assert_eq!(live.flush(begun + Duration::from_millis(999)), Some(begun + EVERY * 20));
        assert_eq!(live.flush(begun + EVERY * 20), None);
        let page = live.after(0);
        assert_eq!((page.frames.len(), text(&page).len()), (21, 1000));
        assert!(page.frames.iter().all(|frame| frame.deltas.len() == 1));
        assert_eq!(page.frames[0].message_id.as_deref(), Some("m"));
        assert_eq!(live.flush(begun), None, "nothing waits");
    }

    #[test]
    fn kinds_keep_their_order_and_turns_do_not_mix() {
        let mut live = live(&Arc::default());
        live.set_turn(Some("1"));
        live.say(Delta::Reasoning("because".into()));
        live.say(Delta::Text("so".into()));
        live.say(Delta::ToolBegin { id: "t".into(), name: "read".into(), arguments: "{}".into() });
        live.say(Delta::ToolEnd { id: "t".into() });
        live.seal();
        live.follows(7);
        live.say(Delta::Text("!".into()));
        live.set_turn(Some("2"));
        live.say(Delta::Text("?".into()));
        live.seal();
        let page = live.after(0);
        let frames: Vec<_> =
            page.frames.iter().map(|it| (it.message_id.as_deref().unwrap(), it.after)).collect();
        assert_eq!(frames, [("1", 0), ("1", 7), ("2", 7)]);
        assert_eq!(text(&page), "rso<>!?");
    }

    #[test]
    fn who_is_too_far_behind_learns_that_something_is_missing() {
        let account = Arc::new(Account::default());
        let mut live = live(&account);
        for _ in 0..20 {
            live.say(Delta::Text("x".repeat(FRAME_BYTES)));
        }
        let page = live.after(0);
        assert!(page.has_gap && page.upto == 20 && text(&page).len() <= KEPT_BYTES);
        assert!(!live.after(19).has_gap && live.after(20).frames.is_empty());
        assert!(account.reading().host.events <= KEPT_BYTES as u64);
        drop(page);
        live.forget();
        assert_eq!(account.reading().host.events, 0);
        assert!(live.after(19).has_gap && !live.after(20).has_gap);
    }

    #[test]
    fn an_agent_without_room_loses_its_text_and_nothing_else() {
        let account = Arc::new(Account::default());
        account.begin(4096, 80, None);
        let mut live = live(&account);
        live.say(Delta::Text("a".into()));
        live.seal();
        live.say(Delta::Text("x".repeat(8192)));
        live.seal();
        let page = live.after(1);
        assert!(page.has_gap && page.frames.is_empty());
        live.say(Delta::Text("b".into()));
        live.seal();
        assert_eq!(text(&live.after(page.upto)), "b");
    }

    #[test]
    fn followers_of_all_agents_get_each_frame_once() {
        let (mut one, mut all) = (live(&Arc::default()), Live::default());
        for text in ["a", "b"] {
            one.say(Delta::Text(text.into()));
            one.seal();
        }
        one.take_unshared().frames.into_iter().for_each(|frame| all.push(frame));
        assert!(one.take_unshared().frames.is_empty());
        one.say(Delta::Text("c".into()));
        one.seal();
        one.take_unshared().frames.into_iter().for_each(|frame| all.push(frame));
        assert_eq!(text(&all.after(0)), "abc");
    }
}
