//! The newest records, by age and by id.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bulkhead_types::{CrashRecord, Frames, Symbolized};

use super::{Filter, Page, Stats};

pub(super) struct Memory {
    /// Oldest first. The one at the front has the number `first`, and each one more than the one before.
    entries: VecDeque<Entry>,
    first: u64,
    numbers: HashMap<String, u64>,
    bytes: usize,
    evicted: u64,
    max_records: usize,
    max_bytes: usize,
}

struct Entry {
    record: Arc<CrashRecord>,
    bytes: usize,
}

impl Memory {
    pub fn new(max_records: usize, max_bytes: usize) -> Self {
        Self {
            entries: VecDeque::new(),
            first: 0,
            numbers: HashMap::new(),
            bytes: 0,
            evicted: 0,
            max_records,
            max_bytes,
        }
    }

    /// Takes a record, and hands out what had to make room for it.
    pub fn put(&mut self, record: Arc<CrashRecord>) -> Vec<Arc<CrashRecord>> {
        let entry = Entry { bytes: weight(&record), record };
        self.bytes += entry.bytes;
        if let Some(at) = self.place(&entry.record.crash_id) {
            self.bytes -= self.entries[at].bytes;
            self.entries[at] = entry;
        } else {
            let number = self.first + self.entries.len() as u64;
            self.numbers.insert(entry.record.crash_id.clone(), number);
            self.entries.push_back(entry);
        }
        self.make_room()
    }

    /// The record with its new frames, if it is kept.
    pub fn update_frames(
        &mut self,
        crash_id: &str,
        frames: Frames,
        symbolized: Symbolized,
    ) -> Option<Arc<CrashRecord>> {
        let at = self.place(crash_id)?;
        let entry = &mut self.entries[at];
        let record = Arc::make_mut(&mut entry.record);
        (record.frames, record.symbolized) = (frames, symbolized);
        self.bytes -= entry.bytes;
        entry.bytes = weight(&entry.record);
        self.bytes += entry.bytes;
        let record = Arc::clone(&entry.record);
        drop(self.make_room());
        Some(record)
    }

    pub fn get(&self, crash_id: &str) -> Option<Arc<CrashRecord>> {
        self.place(crash_id).map(|at| Arc::clone(&self.entries[at].record))
    }

    pub fn list(&self, filter: &Filter) -> Page {
        let place = |crash_id: &String| self.place(crash_id);
        let (before, after) = (filter.before.as_ref(), filter.after.as_ref());
        let cursor_lost = before.into_iter().chain(after).any(|id| place(id).is_none());
        let end = before.map_or(self.entries.len(), |id| place(id).unwrap_or(0));
        let begin = after.and_then(place).map_or(0, |at| at + 1);
        let range = begin.min(end)..end;
        let wanted = |record: &&Arc<CrashRecord>| {
            filter.agent.as_ref().is_none_or(|agent| *agent == record.agent_id)
                && filter.reason.is_none_or(|reason| reason == record.reason)
        };
        let records = self.entries.range(range).map(|entry| &entry.record).filter(wanted);
        let one_more = filter.limit.saturating_add(1);
        let mut records: Vec<_> = if after.is_some() {
            records.take(one_more).cloned().collect()
        } else {
            records.rev().take(one_more).cloned().collect()
        };
        let more = records.len() > filter.limit;
        records.truncate(filter.limit);
        if after.is_some() {
            records.reverse();
        }
        Page { records, more, cursor_lost }
    }

    pub fn stats(&self) -> Stats {
        Stats {
            kept: self.entries.len(),
            bytes: self.bytes,
            evicted: self.evicted,
            ..Stats::default()
        }
    }

    /// What was evicted so far made room for records of an earlier run as well.
    pub fn begin_to_count(&mut self) {
        self.evicted = 0;
    }

    fn place(&self, crash_id: &str) -> Option<usize> {
        self.numbers.get(crash_id).map(|number| (number - self.first) as usize)
    }

    fn make_room(&mut self) -> Vec<Arc<CrashRecord>> {
        let mut evicted = Vec::new();
        while self.entries.len() > self.max_records || self.bytes > self.max_bytes {
            let Some(oldest) = self.entries.pop_front() else { break };
            self.numbers.remove(&oldest.record.crash_id);
            self.first += 1;
            self.bytes -= oldest.bytes;
            self.evicted += 1;
            evicted.push(oldest.record);
        }
        evicted
    }
}

/// Size of a record in memory, without what its strings and vectors reserve beyond their length.
pub(crate) fn weight(record: &CrashRecord) -> usize {
    let texts = |texts: &[String]| texts.iter().map(|text| size_of::<String>() + text.len()).sum();
    let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    let last_events = record.last_events.iter().map(|event| size_of_val(event) + event.event.len());
    let tools = record.tools_in_flight.iter();
    let tools = tools.map(|it| size_of_val(it) + it.program.len() + texts(&it.arguments));
    let lists: [usize; 5] = [
        tools.sum(),
        texts(&record.last_log_lines),
        texts(&record.active_tools),
        record.frames.weight(),
        last_events.sum(),
    ];
    let fixed = [
        // The id is in the index as well.
        2 * record.crash_id.len(),
        record.name.len(),
        record.message.len(),
        record.fingerprint.len(),
        text(&record.code),
        text(&record.host_call),
    ];
    size_of::<CrashRecord>() + lists.iter().sum::<usize>() + fixed.iter().sum::<usize>()
}
