//! What is kept of agents, in memory: the truth that the file follows. Pure.
//!
//! Every change carries the number of an incarnation. What comes late, from an incarnation that another one has
//! taken over from, changes nothing.
//!
//! No number is given twice, whenever the process dies. The file does not have the number that was given last but
//! one that is [`RESERVED`] higher, and the next run goes on from there. A run that ends by itself takes
//! the rest back, so that people see gaps after kills only.

mod adopt;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use bulkhead_types::{AgentId, Incarnation, RestartState, Timestamp};

/// Numbers that the file has room for beyond the one that was given last. A restart takes one and waits for no
/// disk as long as there are some.
pub const RESERVED: u64 = 128;

/// Whether an agent is desired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// Somebody asked for it, and nobody and nothing ended it for good.
    Running,
    /// It was stopped, or did what it was there for.
    Stopped,
    /// It ended abnormally, and its policy leaves it down. What is configured to be there gets a new chance
    /// with each run of the host.
    Failed,
}

/// Whether the town has an agent among those that it wants here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum TownKnows {
    /// The last registry that it acknowledged did not have it.
    #[default]
    No,
    /// It was notified, and has not acknowledged it.
    Notified,
    /// The last registry that it acknowledged had it.
    Yes,
}

/// A text that may hold secrets. It goes into the database and is never printed.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Private(Arc<str>);

impl fmt::Debug for Private {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl std::ops::Deref for Private {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl From<String> for Private {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

/// What is kept of one agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentRow {
    /// Which agent.
    pub id: AgentId,
    /// Whether it is desired.
    pub wanted: Wanted,
    /// The highest number that was given to an incarnation.
    pub incarnation: Incarnation,
    /// What to start it with, in the words of the caller that starts it. Gone with the agent, unless it is
    /// quarantined: secrets are in it.
    pub order: Option<Private>,
    /// What was changed since it was started, in the words of the caller that changes it.
    pub settings: Option<Arc<str>>,
    /// What its restarts have come to.
    pub restarts: Arc<RestartState>,
    /// When something last changed. What changed later has a later time, whatever the clock says: one that was
    /// set back does not make the newest the oldest.
    pub changed_at: Timestamp,
    /// Whether the town has it among those that it wants here.
    pub town_knows: TownKnows,
}

/// A change of one agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A start has its turn.
    Began {
        /// Its number.
        incarnation: Incarnation,
        /// What it was started with.
        order: Private,
        /// What was changed since it was asked for.
        settings: Option<Arc<str>>,
        /// What is left of the history.
        restarts: Arc<RestartState>,
    },
    /// A restart has its turn.
    Returned {
        /// Its number.
        incarnation: Incarnation,
    },
    /// An incarnation ended.
    Ended {
        /// Its number.
        incarnation: Incarnation,
        /// What the restarts have come to.
        restarts: Arc<RestartState>,
        /// Whether the agent is desired all the same.
        wanted: Wanted,
    },
    /// It came through a turn after the host had died while it was at work.
    Cleared {
        /// Its number.
        incarnation: Incarnation,
        /// What the restarts have come to.
        restarts: Arc<RestartState>,
    },
    /// The town wants it, whatever becomes of its start.
    Wanted {
        /// The last number that is known of it.
        upto: Incarnation,
        /// What to start it with.
        order: Private,
    },
    /// It will be started with other credentials from now on.
    Order {
        /// Its number.
        incarnation: Incarnation,
        /// What to start it with.
        order: Private,
    },
    /// Somebody asked for its end.
    Stopped {
        /// The last number that is meant.
        upto: Incarnation,
    },
    /// Something changed while it is active.
    Settings {
        /// Its number.
        incarnation: Incarnation,
        /// All that was changed since its start.
        settings: Arc<str>,
    },
}

impl AgentRow {
    /// Nothing, yet.
    fn new(id: AgentId) -> Self {
        Self {
            id,
            wanted: Wanted::Stopped,
            incarnation: Incarnation(0),
            order: None,
            settings: None,
            restarts: Arc::default(),
            changed_at: Timestamp(0),
            town_knows: TownKnows::No,
        }
    }

    /// Whether it is among the desired agents: it runs, starts, or is restarted.
    pub fn is_member(&self) -> bool {
        self.wanted == Wanted::Running && self.restarts.quarantine.is_none()
    }

    /// Whether somebody has to see it again after a restart of the host.
    pub fn matters(&self) -> bool {
        self.wanted == Wanted::Running || self.restarts.quarantine.is_some()
    }

    /// Applies a change; says whether it did, or came too late.
    fn apply(&mut self, change: Change) -> bool {
        let number = change.incarnation();
        if number < self.incarnation {
            return false;
        }
        self.incarnation = number;
        match change {
            Change::Began { order, settings, restarts, .. } => {
                (self.wanted, self.order) = (Wanted::Running, Some(order));
                (self.settings, self.restarts) = (settings, restarts);
            }
            Change::Returned { .. } => {}
            Change::Cleared { restarts, .. } => self.restarts = restarts,
            Change::Wanted { order, .. } => {
                (self.wanted, self.order) = (Wanted::Running, Some(order));
                self.settings = None;
            }
            Change::Ended { restarts, wanted, .. } => {
                self.restarts = restarts;
                // A stop counts, whatever the end says of itself.
                if self.wanted == Wanted::Running {
                    self.wanted = wanted;
                }
            }
            Change::Stopped { .. } => self.wanted = Wanted::Stopped,
            Change::Settings { settings, .. } => self.settings = Some(settings),
            Change::Order { order, .. } => self.order = Some(order),
        }
        if !self.matters() {
            (self.order, self.settings) = (None, None);
        }
        true
    }
}

impl Change {
    fn incarnation(&self) -> Incarnation {
        match self {
            Self::Began { incarnation, .. }
            | Self::Returned { incarnation }
            | Self::Cleared { incarnation, .. }
            | Self::Ended { incarnation, .. }
            | Self::Order { incarnation, .. }
            | Self::Settings { incarnation, .. } => *incarnation,
            Self::Stopped { upto } | Self::Wanted { upto, .. } => *upto,
        }
    }

    /// Whether it is written at once although nobody waits for it: what somebody asked for, and what is
    /// decided for good. The history of one that is restarted can follow a little later: there may be hundreds
    /// of such ends a second.
    pub(super) fn is_urgent(&self) -> bool {
        match self {
            Self::Began { .. }
            | Self::Wanted { .. }
            | Self::Stopped { .. }
            | Self::Order { .. }
            | Self::Cleared { .. }
            | Self::Settings { .. } => true,
            Self::Ended { restarts, wanted, .. } => {
                *wanted != Wanted::Running || restarts.quarantine.is_some()
            }
            Self::Returned { .. } => false,
        }
    }

    /// Whether it makes a row where there is none.
    fn makes_a_row(&self) -> bool {
        matches!(self, Self::Began { .. } | Self::Wanted { .. })
    }
}

/// How the file has to follow a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Follow {
    /// Nothing changed.
    Not,
    /// In a while.
    Soon,
    /// Now, and nobody waits for it.
    AtOnce,
    /// Before the number that was given is used: the file has no room for it.
    First,
}

/// Which parts of a row the file does not have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Dirty {
    /// The row is not there any more.
    pub gone: bool,
    /// Its order or its settings.
    pub texts: bool,
    /// It has to be written at once.
    pub urgent: bool,
}

/// What the file is to get of one agent.
#[derive(Debug, Clone)]
pub(super) struct Due {
    pub id: AgentId,
    pub dirty: Dirty,
    /// The file has a row of it already.
    pub is_in_file: bool,
    /// `None`: it is forgotten.
    pub row: Option<AgentRow>,
    /// What the file is to have for its number.
    pub reserved: Incarnation,
}

/// A number that was given, and what the file says of it instead.
pub(super) struct Given {
    pub id: AgentId,
    pub given: Incarnation,
    pub reserved: Incarnation,
}

/// One agent.
struct Entry {
    row: AgentRow,
    /// The file has this number: those up to it are given without asking it again.
    reserved: Incarnation,
    /// Given by earlier runs, and found in the file only after this run began to count.
    earlier: Incarnation,
    /// The file has something of it, or is about to.
    is_in_file: bool,
    /// The writer has its row in hand.
    in_hand: bool,
}

impl Entry {
    fn new(row: AgentRow) -> Self {
        let (reserved, earlier) = (Incarnation(0), Incarnation(0));
        Self { row, reserved, earlier, is_in_file: false, in_hand: false }
    }
}

/// All agents that are known, and what the file does not have of them.
pub(super) struct Image {
    rows: HashMap<AgentId, Entry>,
    dirty: HashMap<AgentId, Dirty>,
    /// Something has to be written at once.
    urgent: bool,
    /// Numbers up to this one were given to agents that are forgotten.
    forgotten: Incarnation,
    max_rows: usize,
    /// Of the newest change.
    newest: Timestamp,
    /// Rises with every change of which agents are desired, and how.
    members: u64,
}

impl Image {
    pub fn new(max_rows: usize) -> Self {
        let (rows, dirty) = (HashMap::new(), HashMap::new());
        let (forgotten, max_rows) = (Incarnation(0), max_rows.max(1));
        let newest = Timestamp(0);
        Self { rows, dirty, urgent: false, forgotten, max_rows, newest, members: 0 }
    }

    /// What a file had at open. `reserved`: the file has so much room for more numbers of each.
    pub fn load(&mut self, rows: Vec<AgentRow>, forgotten: Incarnation, reserved: u64) {
        let entry = |row: AgentRow| {
            let reserved = Incarnation(row.incarnation.0 + reserved);
            (row.id.clone(), Entry { reserved, is_in_file: true, ..Entry::new(row) })
        };
        self.rows = rows.into_iter().map(entry).collect();
        self.newest = self.rows().map(|row| row.changed_at).max().unwrap_or(self.newest);
        self.forgotten = forgotten;
    }

    /// Rows that a file brings when it can be had again. What this run knows better stays as it is. Returns whom it
    /// did not know.
    pub fn merge(&mut self, rows: Vec<AgentRow>, forgotten: Incarnation) -> Vec<AgentId> {
        self.forgotten = self.forgotten.max(forgotten);
        let mut late = Vec::new();
        for mut row in rows {
            let id = row.id.clone();
            if self.dirty.get(&id).is_some_and(|dirty| dirty.gone) {
                self.forgotten = self.forgotten.max(row.incarnation);
                continue;
            }
            if !self.rows.contains_key(&id) {
                late.push(id.clone());
            }
            // Its agent may have restarted its count: nothing of this run comes too late for it. The file
            // keeps the higher number.
            let earlier = std::mem::replace(&mut row.incarnation, Incarnation(0));
            self.newest = self.newest.max(row.changed_at);
            let entry = self.rows.entry(id).or_insert_with(|| Entry::new(row));
            (entry.earlier, entry.is_in_file) = (earlier, true);
        }
        self.members += 1;
        late
    }

    /// Applies a change, and says how the file has to follow.
    pub fn change(&mut self, id: &AgentId, change: Change, now: Timestamp, urgent: bool) -> Follow {
        if !self.rows.contains_key(id) {
            if !change.makes_a_row() {
                return Follow::Not;
            }
            self.make_room();
            // One that was forgotten and started again before the file knew of either.
            let is_in_file = self.dirty.get(id).is_some_and(|dirty| dirty.gone);
            let entry = Entry { is_in_file, ..Entry::new(AgentRow::new(id.clone())) };
            self.rows.insert(id.clone(), entry);
        }
        let Some(Entry { row, reserved, .. }) = self.rows.get_mut(id) else { return Follow::Not };
        let texts = (row.order.clone(), row.settings.clone());
        let was_member = row.is_member();
        if !row.apply(change) {
            return Follow::Not;
        }
        self.newest = now.max(Timestamp(self.newest.0.saturating_add(1)));
        row.changed_at = self.newest;
        let given = row.incarnation.0;
        let (waits, urgent) = (given > reserved.0, urgent || given + RESERVED / 2 > reserved.0);
        let other_order = texts.0 != row.order;
        let texts = other_order || texts.1 != row.settings;
        if was_member != row.is_member() || (was_member && other_order) {
            self.members += 1;
        }
        let dirty = self.dirty.entry(id.clone()).or_default();
        *dirty = Dirty {
            gone: false,
            texts: texts || dirty.texts || dirty.gone,
            urgent: urgent || dirty.urgent,
        };
        self.urgent |= urgent;
        match (waits, urgent) {
            (true, _) => Follow::First,
            (false, true) => Follow::AtOnce,
            (false, false) => Follow::Soon,
        }
    }

    /// Forgets agents that nobody has to see again, the ones that changed first, when there are too many.
    /// Forgets some more, so that the look at every row is rare.
    fn make_room(&mut self) {
        if self.rows.len() < self.max_rows {
            return;
        }
        let idle = self.rows().filter(|row| !row.matters());
        let mut idle: Vec<_> = idle.map(|row| (row.changed_at, row.id.clone())).collect();
        idle.sort_unstable();
        for (_, id) in idle.into_iter().take((self.max_rows / 16).max(1)) {
            if let Some(Entry { row, earlier, is_in_file, in_hand, .. }) = self.rows.remove(&id) {
                self.forgotten = self.forgotten.max(row.incarnation).max(earlier);
                match is_in_file || in_hand {
                    true => _ = self.dirty.insert(id, Dirty { gone: true, ..Dirty::default() }),
                    // However long the disk hangs, no more go than it has.
                    false => _ = self.dirty.remove(&id),
                }
            }
        }
    }

    pub fn rows(&self) -> impl Iterator<Item = &AgentRow> {
        self.rows.values().map(|entry| &entry.row)
    }

    pub fn row(&self, id: &AgentId) -> Option<&AgentRow> {
        self.rows.get(id).map(|entry| &entry.row)
    }

    /// Rises with every change of which agents are desired, and how.
    pub fn members(&self) -> u64 {
        self.members
    }

    /// What of them is reported changed in another way.
    pub fn members_changed(&mut self) {
        self.members += 1;
    }

    /// The town is about to be notified that these are desired.
    pub fn notifying_town(&mut self, agents: &HashSet<&AgentId>) -> bool {
        self.set_town_knows(false, |id, before| match agents.contains(id) {
            true => before.max(TownKnows::Notified),
            false => before,
        })
    }

    /// The town was not notified after all: what it knows is what it knew.
    pub fn town_not_notified(&mut self) -> bool {
        self.set_town_knows(false, |_, before| match before {
            TownKnows::Notified => TownKnows::No,
            before => before,
        })
    }

    /// The town wants these, and no others.
    pub fn town_wants(&mut self, agents: &HashSet<&AgentId>) -> bool {
        self.set_town_knows(true, |id, _| match agents.contains(id) {
            true => TownKnows::Yes,
            false => TownKnows::No,
        })
    }

    /// Says whether the file has something to follow.
    fn set_town_knows(
        &mut self,
        urgent: bool,
        knows: impl Fn(&AgentId, TownKnows) -> TownKnows,
    ) -> bool {
        let mut changed = false;
        for Entry { row, .. } in self.rows.values_mut() {
            let now = knows(&row.id, row.town_knows);
            if now != row.town_knows {
                row.town_knows = now;
                self.dirty.entry(row.id.clone()).or_default().urgent |= urgent;
                self.urgent |= urgent;
                changed = true;
            }
        }
        changed
    }

    pub fn forgotten(&self) -> Incarnation {
        self.forgotten
    }

    pub fn is_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// Rows that the file does not have as they are. As many as are known, and as the file has that are not known any
    /// more.
    #[cfg(test)]
    pub fn waiting(&self) -> usize {
        self.dirty.len()
    }

    /// Whether something has to be written at once.
    pub fn is_urgent(&self) -> bool {
        self.urgent
    }

    /// The file has nothing: all of it has to be written.
    pub fn all_is_dirty(&mut self) {
        self.urgent = !self.rows.is_empty();
        for id in self.rows.keys() {
            self.dirty.insert(id.clone(), Dirty { gone: false, texts: true, urgent: true });
        }
    }

    /// Takes what the file does not have: all of it, or what is urgent.
    pub fn take(&mut self, all: bool) -> Vec<Due> {
        let dirty: Vec<_> = match all {
            true => self.dirty.drain().collect(),
            false if !self.urgent => Vec::new(),
            false => self.dirty.extract_if(|_, dirty| dirty.urgent).collect(),
        };
        self.urgent = false;
        let due = |(id, dirty): (AgentId, Dirty)| {
            let entry = self.rows.get_mut(&id);
            let is_in_file = entry.as_ref().is_none_or(|entry| entry.is_in_file);
            let row = entry.map(|entry| {
                entry.in_hand = true;
                entry.row.clone()
            });
            let reserved = row.as_ref().map_or(0, |row| row.incarnation.0 + RESERVED);
            Due { id, dirty, is_in_file, row, reserved: Incarnation(reserved) }
        };
        dirty.into_iter().map(due).collect()
    }

    /// What was taken is in the file.
    pub fn is_written(&mut self, taken: &[Due]) {
        for due in taken {
            if let Some(entry) = self.rows.get_mut(&due.id) {
                entry.reserved = entry.reserved.max(due.reserved);
                (entry.is_in_file, entry.in_hand) = (true, false);
            }
        }
    }

    /// The numbers that were really given, for the last write of a run.
    pub fn given(&self) -> impl Iterator<Item = Given> {
        self.rows.values().map(|Entry { row, reserved, earlier, .. }| Given {
            id: row.id.clone(),
            given: row.incarnation.max(*earlier),
            reserved: *reserved,
        })
    }

    /// The file will have something of this agent that goes with its row.
    pub fn is_about_to_be_written(&mut self, id: &AgentId) {
        if let Some(entry) = self.rows.get_mut(id) {
            entry.is_in_file = true;
        }
    }

    /// Puts back what could not be written.
    pub fn put_back(&mut self, taken: Vec<Due>) {
        for Due { id, dirty: before, is_in_file, .. } in taken {
            if let Some(entry) = self.rows.get_mut(&id) {
                entry.in_hand = false;
            } else if !is_in_file {
                self.dirty.remove(&id);
                continue;
            }
            let there = self.rows.contains_key(&id);
            let dirty = self.dirty.entry(id).or_default();
            let texts = dirty.texts || before.texts || before.gone;
            *dirty = Dirty { gone: !there, texts, urgent: true };
            self.urgent = true;
        }
    }
}
