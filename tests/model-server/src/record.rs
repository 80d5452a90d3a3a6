//! What was asked, and how far the answer got: for tests that look at the wire.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::Serialize;
use serde_json::Value;

/// Requests that are kept; older ones are forgotten.
const KEPT: usize = 256;

/// A request as it came, whether it was accepted or not.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Record {
    /// Counts all requests of a server, from 1.
    pub number: u64,
    /// With the query, if there is one.
    pub path: String,
    /// In their order, names in lower case.
    pub headers: Vec<(String, String)>,
    /// A string, if it is not JSON.
    pub body: Value,
    /// Of the answer, if it has begun.
    pub status: Option<u16>,
    /// Chunks of the answer that were written.
    pub chunks: u64,
    /// How the answer ended.
    pub end: End,
}

impl Record {
    /// The first header of this name, which is in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        headers.find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }
}

/// How an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// It has not.
    Open,
    /// The server wrote all that it meant to write.
    Complete,
    /// The client closed the connection before that.
    HungUp,
}

/// The requests of a server, newest last.
#[derive(Debug, Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Records>>);

#[derive(Debug, Default)]
struct Records {
    count: u64,
    kept: VecDeque<Record>,
}

impl Log {
    /// Records a request. Its answer is under way until the entry is dropped.
    pub(crate) fn begin(&self, path: String, headers: Vec<(String, String)>, body: &[u8]) -> Entry {
        let body = serde_json::from_slice(body)
            .unwrap_or_else(|_| String::from_utf8_lossy(body).into_owned().into());
        let mut records = self.0.lock();
        records.count += 1;
        let number = records.count;
        if records.kept.len() == KEPT {
            records.kept.pop_front();
        }
        let (status, chunks, end) = (None, 0, End::Open);
        records.kept.push_back(Record { number, path, headers, body, status, chunks, end });
        Entry { log: self.clone(), number }
    }

    pub(crate) fn all(&self) -> Vec<Record> {
        self.0.lock().kept.iter().cloned().collect()
    }

    /// Requests with this path among those that are kept.
    pub(crate) fn count_of(&self, path: &str) -> u64 {
        self.0.lock().kept.iter().filter(|record| record.path == path).count() as u64
    }

    pub(crate) fn clear(&self) {
        self.0.lock().kept.clear();
    }
}

/// A request whose answer is under way. Dropped before [`complete`](Self::complete), its client hung up.
#[derive(Debug)]
pub(crate) struct Entry {
    log: Log,
    number: u64,
}

impl Entry {
    pub(crate) fn status(&self, status: u16) {
        self.change(|record| record.status = Some(status));
    }

    pub(crate) fn chunk(&self) {
        self.change(|record| record.chunks += 1);
    }

    pub(crate) fn complete(&self) {
        self.change(|record| record.end = End::Complete);
    }

    fn change(&self, change: impl FnOnce(&mut Record)) {
        let mut records = self.log.0.lock();
        // It may be forgotten already.
        if let Some(record) = records.kept.iter_mut().rfind(|record| record.number == self.number) {
            change(record);
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.change(|record| {
            if record.end == End::Open {
                record.end = End::HungUp;
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begin(log: &Log, body: &str) -> Entry {
        log.begin("/".into(), vec![("accept".into(), "*/*".into())], body.as_bytes())
    }

    #[test]
    fn an_answer_is_open_until_it_is_complete_or_dropped() {
        let log = Log::default();
        let (first, second) = (begin(&log, "{\"a\":1}"), begin(&log, "no json"));
        assert_eq!(log.all()[0].end, End::Open);
        first.status(200);
        first.chunk();
        first.complete();
        drop((first, second));
        let all = log.all();
        assert_eq!((all[0].end, all[0].status, all[0].chunks), (End::Complete, Some(200), 1));
        assert_eq!((all[1].end, &all[1].body), (End::HungUp, &Value::from("no json")));
        assert_eq!(all[0].header("accept"), Some("*/*"));
    }

    #[test]
    fn the_oldest_are_forgotten_and_numbers_go_on() {
        let log = Log::default();
        let oldest = begin(&log, "");
        for _ in 0..KEPT {
            begin(&log, "").complete();
        }
        drop(oldest);
        assert_eq!((log.all().len(), log.all()[0].number), (KEPT, 2));
        log.clear();
        begin(&log, "").complete();
        assert_eq!(log.all()[0].number, KEPT as u64 + 2);
    }
}
