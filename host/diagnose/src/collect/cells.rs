//! What is kept of the lines: not the lines, but how often each thing was seen in each second, with the first and
//! the last of them. When there are too many such cells, seconds become longer.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::names::Name;
use crate::read::line::Memory;
use crate::rules::SignSpec;

/// Cells that are kept: some 25 MiB.
const MAX_CELLS: usize = 100_000;

/// A cell is this long at first.
const FIRST_WIDTH_MS: i64 = 1000;

/// And this long at most. Past it, new cells are not kept.
const MAX_WIDTH_MS: i64 = 7 * 86_400_000;

/// Where a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Point {
    /// Milliseconds since 1970.
    pub ts: i64,
    /// Number of the input.
    pub input: u16,
    /// From 1.
    pub line: u64,
}

/// Of which town a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// It says so.
    Town(Name),
    /// It does not say; it is from this input.
    Input(u16),
}

/// What a cell is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key {
    /// Of which town.
    pub origin: Origin,
    /// Of which run, when it says so.
    pub run: Option<Name>,
    /// What was seen; nothing but a heartbeat without it.
    pub spec: Option<SpecId>,
    /// Of which agent.
    pub agent: Option<Name>,
    /// The run says it about the one before it, whose name it does not know.
    pub of_predecessor: bool,
    bucket: i64,
}

/// A row of the table of signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpecId(u16);

impl SpecId {
    /// The number of a row.
    pub fn of(spec: &'static SignSpec) -> Self {
        let at = crate::rules::SIGNS.iter().position(|known| std::ptr::eq(known, spec));
        Self(at.and_then(|at| u16::try_from(at).ok()).unwrap_or(0))
    }

    /// The row.
    pub fn spec(self) -> &'static SignSpec {
        &crate::rules::SIGNS[usize::from(self.0)]
    }
}

/// What was seen.
#[derive(Debug, Clone)]
pub struct Cell {
    /// How often.
    pub count: u32,
    /// First.
    pub first: Point,
    /// Last.
    pub last: Point,
    /// In words, of the first one that was read.
    pub detail: Option<Name>,
    /// Boot id that the line says.
    pub boot_id: Option<Name>,
    /// When the run began, by the uptime that the last line says.
    pub boot_ts: Option<i64>,
    /// Memory, as of the last one.
    pub memory: Option<Memory>,
    /// Smallest time between two that are not the same line twice, in milliseconds.
    pub gap_ms: Option<i64>,
    /// Lines that are the same as another one in the cell, letter for letter.
    pub same: u32,
    /// Of its last lines, the newest first.
    hashes: [u64; 4],
}

impl Cell {
    /// A cell with one thing in it.
    pub fn new(at: Point, hash: u64) -> Self {
        Self {
            count: 1,
            first: at,
            last: at,
            detail: None,
            boot_id: None,
            boot_ts: None,
            memory: None,
            gap_ms: None,
            same: 0,
            hashes: [hash; 4],
        }
    }

    /// Takes in a cell of the same key. The same line again, letter for letter, makes no gap; with a time of its
    /// own it is not counted either, because it is then a double.
    fn merge(&mut self, other: Self, own_time: bool) {
        if other.count == 1 && other.hashes[0] != 0 && self.hashes.contains(&other.hashes[0]) {
            self.same = self.same.saturating_add(1);
            if !own_time {
                self.count = self.count.saturating_add(1);
                self.last = self.last.max(other.last);
            }
            return;
        }
        let gap = if other.first.ts >= self.last.ts {
            other.first.ts - self.last.ts
        } else if other.last.ts <= self.first.ts {
            self.first.ts - other.last.ts
        } else {
            (other.first.ts - self.first.ts).abs().min((self.last.ts - other.first.ts).abs())
        };
        self.gap_ms = [self.gap_ms, other.gap_ms, Some(gap)].into_iter().flatten().min();
        self.count = self.count.saturating_add(other.count);
        self.same = self.same.saturating_add(other.same);
        self.detail = self.detail.or(other.detail);
        self.boot_id = self.boot_id.or(other.boot_id);
        if other.last.ts >= self.last.ts {
            self.memory = other.memory.or(self.memory);
            self.boot_ts = other.boot_ts.or(self.boot_ts);
        }
        self.first = self.first.min(other.first);
        self.last = self.last.max(other.last);
        self.hashes.rotate_right(1);
        self.hashes[0] = other.hashes[0];
    }
}

/// All cells.
#[derive(Debug)]
pub struct Cells {
    cells: HashMap<Key, Cell>,
    width_ms: i64,
    /// Things that found no room.
    pub dropped: u64,
    /// Lines that were the same as one before.
    pub doubled: u64,
    /// Events with a time of their own and without a number, and those of them that were there before. No two of
    /// them are alike when nothing doubles lines.
    pub events: (u64, u64),
}

impl Default for Cells {
    fn default() -> Self {
        Self {
            cells: HashMap::new(),
            width_ms: FIRST_WIDTH_MS,
            dropped: 0,
            doubled: 0,
            events: (0, 0),
        }
    }
}

impl Cells {
    /// Puts something in. `own_time` says that the line has a time of its own, so that the same text again is
    /// the same line again.
    pub fn add(
        &mut self,
        (origin, run): (Origin, Option<Name>),
        (spec, agent, of_predecessor): (Option<SpecId>, Option<Name>, bool),
        cell: Cell,
        own_time: bool,
    ) {
        let bucket = cell.last.ts.div_euclid(self.width_ms);
        let key = Key { origin, run, spec, agent, of_predecessor, bucket };
        let full = self.cells.len() >= MAX_CELLS;
        let is_event = own_time && run.is_none() && spec.is_some_and(|id| id.spec().is_event());
        self.events.0 += u64::from(is_event);
        match self.cells.entry(key) {
            Entry::Occupied(mut known) => {
                let same = known.get().same;
                known.get_mut().merge(cell, own_time);
                let doubled = u64::from(known.get().same - same);
                self.doubled += if own_time { doubled } else { 0 };
                self.events.1 += if is_event { doubled } else { 0 };
            }
            Entry::Vacant(_) if full && self.width_ms >= MAX_WIDTH_MS => self.dropped += 1,
            Entry::Vacant(origin) => {
                origin.insert(cell);
                if full {
                    self.widen();
                }
            }
        }
    }

    fn widen(&mut self) {
        while self.cells.len() >= MAX_CELLS / 2 && self.width_ms < MAX_WIDTH_MS {
            self.width_ms *= 4;
            let mut wide: HashMap<Key, Cell> = HashMap::with_capacity(MAX_CELLS / 2);
            for (mut key, cell) in self.cells.drain() {
                key.bucket = cell.last.ts.div_euclid(self.width_ms);
                match wide.entry(key) {
                    Entry::Occupied(mut known) => known.get_mut().merge(cell, false),
                    Entry::Vacant(origin) => {
                        origin.insert(cell);
                    }
                }
            }
            self.cells = wide;
        }
    }

    /// All of them, in the order of time.
    pub fn into_sorted(self) -> Vec<(Key, Cell)> {
        let mut cells: Vec<_> = self.cells.into_iter().collect();
        cells.sort_unstable_by_key(|(key, cell)| (cell.first, cell.last, key.spec.map(|id| id.0)));
        cells
    }

    /// How many there are.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.cells.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collect::names::Names;

    fn at(ts: i64, line: u64) -> Point {
        Point { ts, input: 0, line }
    }

    #[test]
    fn a_cell_knows_its_first_its_last_and_the_smallest_gap() {
        let mut cells = Cells::default();
        for (ts, hash) in [(500, 1), (100, 2), (140, 3), (500, 1)] {
            cells.add(
                (Origin::Input(0), None),
                (None, None, false),
                Cell::new(at(ts, 1), hash),
                true,
            );
        }
        let sorted = cells.into_sorted();
        let [(_, cell)] = &sorted[..] else { panic!("one cell") };
        assert_eq!((cell.count, cell.same, cell.first.ts, cell.last.ts), (3, 1, 100, 500));
        assert_eq!(cell.gap_ms, Some(40));
    }

    #[test]
    fn there_are_never_more_cells_than_allowed_and_nothing_is_lost() {
        let mut cells = Cells::default();
        let things = 3 * MAX_CELLS as i64;
        for n in 0..things {
            let cell = Cell::new(at(n * 7919 % things * 1000, 1), n as u64);
            cells.add((Origin::Input(0), None), (None, None, false), cell, true);
            assert!(cells.len() <= MAX_CELLS + 1);
        }
        assert_eq!(cells.dropped, 0);
        let total: u32 = cells.into_sorted().iter().map(|(_, cell)| cell.count).sum();
        assert_eq!(i64::from(total), things);
    }

    #[test]
    fn more_things_than_cells_are_counted_as_dropped() {
        let mut cells = Cells::default();
        let mut names = Names::with_max(2 * MAX_CELLS);
        for n in 0..2 * MAX_CELLS {
            let agent = names.keep(&n.to_string());
            let cell = Cell::new(at(0, 1), n as u64);
            cells.add((Origin::Input(0), None), (None, agent, false), cell, true);
        }
        assert!(cells.dropped > 0 && cells.len() <= MAX_CELLS + 1);
    }
}
