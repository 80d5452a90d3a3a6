//! One who follows.

use std::sync::Arc;

use bulkhead_types::AgentId;

use crate::entry::Entry;
use crate::feed::{Feed, PAGE_EVENTS};
use crate::live::{DeltaFrame, LivePage};
use crate::ring::Ring;
use crate::watch::Following;

/// Whom to follow.
pub enum Follow {
    /// One agent.
    Agent(Arc<Ring>),
    /// The container and all agents. Of what is not wanted nothing comes.
    All {
        /// These agents alone. Empty: all of them, and the container.
        agents: Vec<AgentId>,
    },
}

/// What comes next.
#[derive(Clone)]
pub enum Item {
    /// An event.
    Event(Entry),
    /// What happened in a turn.
    Deltas(Arc<DeltaFrame>),
    /// Events with numbers up to this one are gone, or may be.
    Gap {
        /// The last number that the follower had.
        after: u64,
        /// The last that may be gone.
        upto: u64,
    },
    /// Some of what happened in turns is gone.
    DeltaGap,
}

/// Items that came together, in order. Never empty.
pub type Batch = Vec<Item>;

/// A place in the order of events, from which one goes on.
pub struct Subscription {
    feed: Arc<Feed>,
    follow: Follow,
    following: Following,
    is_live: bool,
    /// The last event when it began.
    since: u64,
    position: Position,
}

/// Up to where everything was taken.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Position {
    event: u64,
    frame: u64,
}

impl Subscription {
    /// Begins after an event. `None`: with the next one. `is_live`: with turns as they happen, from now on.
    pub fn new(feed: &Arc<Feed>, follow: Follow, after: Option<u64>, is_live: bool) -> Self {
        let watch = match &follow {
            Follow::Agent(ring) => &ring.watch,
            Follow::All { .. } => &feed.watch,
        };
        // Read before it follows: it is notified of every later event.
        let since = feed.last_id();
        let following = watch.follow(&feed.bell, is_live);
        // Nobody has marked what was pushed between the two.
        watch.mark(&feed.bell);
        let frame = following.live().last();
        let position = Position { event: after.unwrap_or(since), frame };
        Self { feed: Arc::clone(feed), follow, following, is_live, since, position }
    }

    /// Waits for what comes next. `None`: the agent is forgotten, and nothing comes any more. Cancel safe.
    pub async fn next(&mut self) -> Option<Batch> {
        loop {
            let changed = self.following.changed();
            let mut changed = std::pin::pin!(changed);
            changed.as_mut().enable();
            // Before the look: what was there when it closed is read.
            let is_closed = self.following.is_closed();
            // Of events that the relay has not had yet, the text before them may not be there.
            let upto = match self.is_live && !is_closed {
                true => self.feed.bell.relayed(),
                false => u64::MAX,
            };
            let (batch, position) = self.look(upto);
            // Of a page nothing may be wanted, and something of the next.
            let is_all = position == self.position;
            self.position = position;
            if !batch.is_empty() {
                return Some(batch);
            }
            match (is_all, is_closed) {
                (true, true) => return None,
                (true, false) => changed.await,
                (false, _) => {}
            }
        }
    }

    /// The next events of those that were there when it began, without a wait. Empty: there are no more.
    pub fn kept(&mut self) -> Batch {
        loop {
            let (batch, position) = self.look(self.since);
            let is_all = position == self.position;
            self.position = position;
            // Of a page nothing may be wanted, and something of the next.
            if is_all || !batch.is_empty() {
                return batch;
            }
        }
    }

    /// What is there now, without a wait, with what happened in the turn up to this moment. May be empty.
    pub fn now(&mut self) -> Batch {
        if let Follow::Agent(ring) = &self.follow {
            ring.watch.live().seal();
        }
        let (batch, position) = self.look(u64::MAX);
        self.position = position;
        batch
    }

    /// What follows the position, up to an event, and where that leads.
    fn look(&self, upto: u64) -> (Batch, Position) {
        let after = self.position.event;
        let (mut entries, looked, gap) = match &self.follow {
            Follow::Agent(ring) => of_agent(ring, after),
            Follow::All { agents } => of_all(&self.feed, agents, after),
        };
        entries.truncate(entries.partition_point(|entry| entry.event.id <= upto));
        let event = looked.min(upto).max(after);
        let gap = gap.map(|gone_to| gone_to.min(event)).filter(|gone_to| *gone_to > after);
        // After the events, so that nothing is missing that came before one of them; and of what came meanwhile not
        // what comes after the next one.
        let mut live = match self.is_live {
            true => self.following.live().after(self.position.frame),
            false => LivePage { upto: self.position.frame, ..LivePage::default() },
        };
        let early = live.frames.iter().take_while(|frame| frame.after <= event).count();
        live.upto -= (live.frames.len() - early) as u64;
        live.frames.truncate(early);
        let mut batch = Vec::with_capacity(entries.len() + live.frames.len() + 2);
        if let Some(upto) = gap {
            batch.push(Item::Gap { after, upto });
        }
        if live.has_gap {
            batch.push(Item::DeltaGap);
        }
        let is_wanted = |frame: &&Arc<DeltaFrame>| match &self.follow {
            Follow::Agent(_) => true,
            Follow::All { agents } => agents.is_empty() || agents.contains(&frame.agent),
        };
        let mut frames = live.frames.iter().filter(is_wanted).cloned().peekable();
        for entry in entries {
            while let Some(frame) = frames.next_if(|frame| frame.after < entry.event.id) {
                batch.push(Item::Deltas(frame));
            }
            batch.push(Item::Event(entry));
        }
        batch.extend(frames.map(Item::Deltas));
        (batch, Position { event, frame: live.upto })
    }
}

fn of_agent(ring: &Ring, after: u64) -> (Vec<Entry>, u64, Option<u64>) {
    let (page, upto) = ring.page(after, PAGE_EVENTS);
    let gap = page.dropped_before.map(|before| before - 1);
    let agent = ring.agent();
    let entry = |event| Entry { agent: Some(agent.clone()), event };
    let entries: Vec<_> = page.events.into_iter().map(entry).collect();
    (entries, upto, gap)
}

fn of_all(feed: &Feed, agents: &[AgentId], after: u64) -> (Vec<Entry>, u64, Option<u64>) {
    let wanted = |entry: &Entry| {
        agents.is_empty() || entry.agent.as_ref().is_some_and(|agent| agents.contains(agent))
    };
    let page = feed.after(after, wanted);
    (page.entries, page.upto, page.dropped_to)
}
