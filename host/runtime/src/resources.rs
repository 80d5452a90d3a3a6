//! What a guest has open in the host: its resource table, scanned and estimated by type.
//!
//! The table holds whatever WASI puts there, and notifies nobody. So it is counted after each host
//! call that could have changed it, by what an entry of its type can hold at most. What the types buffer
//! was read in the sources of `wasmtime-wasi` and `wasmtime-wasi-http` 48.
//!
//! Two things are kept apart. An open *file* is a descriptor of the host: there are [`MAX_OPEN`] at most, counted where
//! they are opened (`quota`), and one that is read by streams is one. All else is a *handle*: a timer, a stream, a list
//! of a directory, header fields. A guest in a language with a garbage collector may keep thousands of those that it
//! does not need any more, so they are bounded by their bytes alone.
//!
//! Looking through thousands of entries after each call would cost more than the calls. [`Pace`] puts it off
//! while what the calls since can have added fits into the account in any case: a large table is counted late, and its
//! agent never holds more than its limits.

use std::sync::Arc;

use std::any::{Any, TypeId};

use http::HeaderMap;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, DynPollable};
use wasmtime_wasi_http::p2::body::{HostFutureTrailers, HostIncomingBody};
use wasmtime_wasi_http::p2::types::{
    HostFutureIncomingResponse, HostIncomingResponse, HostOutgoingRequest, HostOutgoingResponse,
};
use wasmtime_wasi_http::{FieldMap, RequestOptions};

/// What a guest may write to a body at once. The default of 1 MiB would let every body hold 2 MiB.
pub(crate) const BODY_CHUNK_BYTES: u64 = 32 * 1024;

/// Chunks of a body that wait: one, and the slot that `wasmtime-wasi-http` adds.
pub(crate) const BODY_CHUNKS: u64 = 2;

/// Header fields that a guest makes, as they are in memory.
pub(crate) const MAX_FIELD_BYTES: u64 = 32 * 1024;

/// Bytes that are made at once: some tens of microseconds.
pub(crate) const RANDOM_PART_BYTES: u64 = 64 * 1024;

/// How many streams of responses a store has.
#[derive(Clone, Default)]
pub(crate) struct BodyStreams(Arc<()>);

impl BodyStreams {
    pub(crate) fn count(&self) -> usize {
        Arc::strong_count(&self.0) - 1
    }
}

/// Files and directories that a guest may have open at once. Each is a file descriptor of the host.
pub(crate) const MAX_OPEN: usize = 256;

/// Handles of the guest's own resources in the engine's tables, beside those of what the host has for it.
const OWN_HANDLES: usize = 4096;

/// Any entry: its slot in the table, its box, and what the kernel holds for an open file.
const ENTRY_BYTES: u64 = 512;

/// An entry of a type that is known to be small, with its handle in the engine's table. 190 as measured by the
/// sizes of the types, with the unused part of growing tables.
const LIGHT_BYTES: u64 = 256;

/// An open file or directory.
pub(crate) const FILE_BYTES: u64 = ENTRY_BYTES;

/// A stream reads or writes a file by pieces of at most this, on another thread.
pub(crate) const STREAM_BYTES: u64 = 64 * 1024;

/// A field in a map of fields, beside its texts: a bucket, an index, and the box of the value.
const FIELD_BYTES: u64 = 160;

/// What one host call can add at most: a request with a body that waits.
const CALL_BYTES: u64 = MAX_FIELD_BYTES + BODY_CHUNKS * BODY_CHUNK_BYTES + MAX_FIELD_BYTES;

/// Entries that may be scanned for each host call: a microsecond.
const STEPS_PER_CALL: usize = 256;

/// The streams of a table that are ours, and hold nothing here.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct OwnStreams {
    /// Those that read a response: what they hold is charged to its request.
    pub input: usize,
    /// Those that write lines of the log.
    pub output: usize,
}

/// What is there, as found in one scan.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Census {
    /// What all entries can hold.
    pub bytes: u64,
    /// Entries.
    pub entries: usize,
    /// What was looked at: entries and header fields.
    steps: usize,
}

impl Census {
    /// Handles that the engine may keep for a guest with these entries: theirs, those that calls until the
    /// next census can add, and the guest's own.
    pub(crate) fn max_handles(&self) -> usize {
        OWN_HANDLES + 2 * self.entries
    }
}

/// When to scan the table.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// Host calls since the last census, and how many may be.
    late: usize,
    every: usize,
}

impl Pace {
    /// A host call may have changed the table. Whether it has to be scanned now, with `room` bytes
    /// left in the account.
    pub(crate) fn is_due(&mut self, room: u64) -> bool {
        self.late += 1;
        let may_hold = (self.late as u64 + 1).saturating_mul(CALL_BYTES);
        self.late >= self.every || may_hold > room
    }

    pub(crate) fn begin_again(&mut self, census: &Census) {
        self.late = 0;
        self.every = census.steps / STEPS_PER_CALL;
    }
}

/// Looks through the table.
pub(crate) fn census(table: &mut ResourceTable, own: OwnStreams) -> Census {
    let mut census = Census::default();
    let (mut inputs, mut outputs) = (0_usize, 0_usize);
    for entry in table.iter_mut() {
        let entry: &dyn Any = entry;
        census.entries += 1;
        census.steps += 1;
        let kind = entry.type_id();
        if kind == TypeId::of::<DynPollable>()
            || kind == TypeId::of::<HostIncomingBody>()
            || kind == TypeId::of::<RequestOptions>()
        {
            census.bytes += LIGHT_BYTES;
        } else if kind == TypeId::of::<DynInputStream>() {
            inputs += 1;
            census.bytes += LIGHT_BYTES;
        } else if kind == TypeId::of::<DynOutputStream>() {
            outputs += 1;
            census.bytes += ENTRY_BYTES;
        } else if let Some(fields) = fields_of(entry) {
            census.steps += fields.len();
            census.bytes += LIGHT_BYTES + fields_bytes(fields);
        } else {
            census.bytes += ENTRY_BYTES + held_by(entry);
        }
    }
    let inputs = inputs.saturating_sub(own.input);
    let streams = inputs + outputs.saturating_sub(own.output);
    census.bytes += streams as u64 * STREAM_BYTES + inputs as u64 * (ENTRY_BYTES - LIGHT_BYTES);
    census
}

/// The header fields of an entry that holds nothing else of any size.
fn fields_of(entry: &dyn Any) -> Option<&HeaderMap> {
    if let Some(fields) = entry.downcast_ref::<FieldMap>() {
        return Some(fields);
    }
    if let Some(response) = entry.downcast_ref::<HostIncomingResponse>() {
        return Some(&response.headers);
    }
    None
}

/// What header fields take in memory.
pub(crate) fn fields_bytes(fields: &HeaderMap) -> u64 {
    let texts = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
        (name.as_str().len() + value.len()) as u64 + FIELD_BYTES
    };
    fields.iter().map(texts).sum()
}

/// What an entry holds beside itself.
fn held_by(entry: &dyn Any) -> u64 {
    if let Some(request) = entry.downcast_ref::<HostOutgoingRequest>() {
        let texts = [&request.authority, &request.path_with_query];
        let texts: usize = texts.into_iter().flatten().map(String::len).sum();
        let fields = fields_bytes(&request.headers);
        return texts as u64 + method(request) + fields + body(request.body.is_some());
    }
    if let Some(response) = entry.downcast_ref::<HostOutgoingResponse>() {
        return fields_bytes(&response.headers) + body(response.body.is_some());
    }
    // One that is on its way is charged to its request.
    if let Some(HostFutureIncomingResponse::Ready(Ok((response, _)))) = entry.downcast_ref() {
        return fields_bytes(response.headers());
    }
    match entry.downcast_ref::<HostFutureTrailers>() {
        Some(HostFutureTrailers::Done(Ok(Some(trailers)))) => fields_bytes(trailers),
        Some(_) | None => 0,
    }
}

/// A body that was not sent yet keeps what was written to it, and trailers.
fn body(is_there: bool) -> u64 {
    if is_there { BODY_CHUNKS * BODY_CHUNK_BYTES + MAX_FIELD_BYTES } else { 0 }
}

fn method(request: &HostOutgoingRequest) -> u64 {
    use wasmtime_wasi_http::p2::bindings::http::types::{Method, Scheme};
    let method = match &request.method {
        Method::Other(text) => text.len(),
        _ => 0,
    };
    let scheme = match &request.scheme {
        Some(Scheme::Other(text)) => text.len(),
        _ => 0,
    };
    (method + scheme) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(table: &mut ResourceTable) -> Census {
        census(table, OwnStreams::default())
    }

    #[test]
    fn an_entry_counts_by_what_it_can_hold() {
        let mut table = ResourceTable::new();
        assert_eq!(look(&mut table), Census::default());
        let fields = table.push(FieldMap::new_mutable(1000)).unwrap();
        assert_eq!(look(&mut table).bytes, LIGHT_BYTES);
        let stream: DynInputStream = Box::new(wasmtime_wasi::p2::pipe::ClosedInputStream);
        table.push(stream).unwrap();
        assert_eq!(look(&mut table).bytes, LIGHT_BYTES + ENTRY_BYTES + STREAM_BYTES);
        table.delete(fields).unwrap();
        assert_eq!(look(&mut table).bytes, ENTRY_BYTES + STREAM_BYTES);
    }

    #[test]
    fn header_fields_count_by_their_size() {
        let mut fields = HeaderMap::new();
        assert_eq!(fields_bytes(&fields), 0);
        fields.append("x-ten", http::HeaderValue::from_static("0123456789"));
        fields.append("x-ten", http::HeaderValue::from_static("0123456789"));
        assert_eq!(fields_bytes(&fields), 2 * (FIELD_BYTES + 15));
    }

    #[test]
    fn our_own_streams_hold_nothing_each() {
        let mut table = ResourceTable::new();
        for _ in 0..3 {
            let output: DynOutputStream = Box::new(wasmtime_wasi::p2::pipe::ClosedOutputStream);
            table.push(output).unwrap();
            let input: DynInputStream = Box::new(wasmtime_wasi::p2::pipe::ClosedInputStream);
            table.push(input).unwrap();
        }
        let own = |input, output| OwnStreams { input, output };
        let all = census(&mut table, own(0, 0));
        assert_eq!(all.bytes, 6 * (ENTRY_BYTES + STREAM_BYTES));
        let one = census(&mut table, own(3, 2));
        assert_eq!(one.bytes, 3 * LIGHT_BYTES + 3 * ENTRY_BYTES + STREAM_BYTES);
        let none = census(&mut table, own(5, 5)).bytes;
        assert_eq!(none, 3 * LIGHT_BYTES + 3 * ENTRY_BYTES);
    }

    #[test]
    fn a_small_table_is_counted_at_each_call_and_a_large_one_while_there_is_room() {
        let mut pace = Pace::default();
        let large = Census { steps: 10 * STEPS_PER_CALL, ..Census::default() };
        assert!(pace.is_due(u64::MAX) && pace.is_due(u64::MAX));
        pace.begin_again(&large);
        let due = (0..20).filter(|_| {
            let due = pace.is_due(u64::MAX);
            if due {
                pace.begin_again(&large);
            }
            due
        });
        assert_eq!(due.count(), 2);
        pace.begin_again(&large);
        assert!(!pace.is_due(3 * CALL_BYTES) && !pace.is_due(3 * CALL_BYTES));
        assert!(pace.is_due(3 * CALL_BYTES), "the next call might not fit");
    }
}
