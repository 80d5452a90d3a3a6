//! What a guest has open in the host: its resource table, looked through and estimated by type.
//!
//! The table holds whatever WASI puts there, and tells nobody when. So it is counted after each host
//! call that could have changed it, by what an entry of its type can hold at most. Such a call costs some
//! nanoseconds an entry, and there are few. What the types buffer was read in the sources of
//! `wasmtime-wasi` and `wasmtime-wasi-http` 48.

use std::any::Any;

use wasmtime::component::ResourceTable;
use wasmtime_wasi::p2::ReaddirIterator;
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream};
use wasmtime_wasi_http::FieldMap;
use wasmtime_wasi_http::p2::body::HostFutureTrailers;
use wasmtime_wasi_http::p2::types::{HostOutgoingRequest, HostOutgoingResponse};

use crate::interfaces::http::{BODY_CHUNK_BYTES, BODY_CHUNKS, MAX_FIELD_BYTES, MAX_HEAD_BYTES};

/// Resources that a guest may hold at once. Each may be a file descriptor of the host.
pub(crate) const MAX_RESOURCES: usize = 256;

/// Handles in the engine's own tables, which hold the guest's own resources as well.
pub(crate) const MAX_HANDLES: usize = 4096;

/// Any entry: its place in the table, its box, and what the kernel holds for an open file.
const ENTRY_BYTES: u64 = 512;

/// A stream reads or writes a file by pieces of at most this, on another thread.
const STREAM_BYTES: u64 = 64 * 1024;

/// What is open, as found in one look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Census {
    /// What all entries can hold.
    pub bytes: u64,
    /// Lists of directories among them. What they hold is known where they are made.
    pub listings: usize,
}

/// Looks through the table. `own_streams` of its output streams are ours and hold nothing each.
pub(crate) fn census(table: &mut ResourceTable, own_streams: usize) -> Census {
    let mut census = Census::default();
    let mut streams = 0_usize;
    for entry in table.iter_mut() {
        let entry: &dyn Any = entry;
        streams += usize::from(entry.is::<DynOutputStream>());
        census.listings += usize::from(entry.is::<ReaddirIterator>());
        census.bytes += ENTRY_BYTES + held_by(entry);
    }
    census.bytes += streams.saturating_sub(own_streams) as u64 * STREAM_BYTES;
    census
}

/// What an entry holds beside itself.
fn held_by(entry: &dyn Any) -> u64 {
    if entry.is::<DynInputStream>() {
        return STREAM_BYTES;
    }
    if let Some(fields) = entry.downcast_ref::<FieldMap>() {
        return if fields.is_empty() { 0 } else { MAX_FIELD_BYTES };
    }
    if let Some(request) = entry.downcast_ref::<HostOutgoingRequest>() {
        let texts = [&request.authority, &request.path_with_query];
        let texts: usize = texts.into_iter().flatten().map(String::len).sum();
        return texts as u64 + method(request) + MAX_FIELD_BYTES + body(request.body.is_some());
    }
    if let Some(response) = entry.downcast_ref::<HostOutgoingResponse>() {
        return MAX_FIELD_BYTES + body(response.body.is_some());
    }
    if entry.is::<HostFutureTrailers>() {
        return MAX_HEAD_BYTES;
    }
    0
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

    #[test]
    fn an_entry_counts_by_what_it_can_hold() {
        let mut table = ResourceTable::new();
        assert_eq!(census(&mut table, 0), Census::default());
        let fields = table.push(FieldMap::new_mutable(1000)).unwrap();
        assert_eq!(census(&mut table, 0).bytes, ENTRY_BYTES);
        let stream: DynInputStream = Box::new(wasmtime_wasi::p2::pipe::ClosedInputStream);
        table.push(stream).unwrap();
        assert_eq!(census(&mut table, 0).bytes, 2 * ENTRY_BYTES + STREAM_BYTES);
        table.delete(fields).unwrap();
        assert_eq!(census(&mut table, 0).bytes, ENTRY_BYTES + STREAM_BYTES);
    }

    #[test]
    fn our_own_output_streams_hold_nothing_each() {
        let mut table = ResourceTable::new();
        for _ in 0..3 {
            let stream: DynOutputStream = Box::new(wasmtime_wasi::p2::pipe::ClosedOutputStream);
            table.push(stream).unwrap();
        }
        assert_eq!(census(&mut table, 2).bytes, 3 * ENTRY_BYTES + STREAM_BYTES);
        assert_eq!(census(&mut table, 5).bytes, 3 * ENTRY_BYTES);
    }
}
