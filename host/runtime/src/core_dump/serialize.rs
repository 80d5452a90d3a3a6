//! A core dump as bytes.

use bulkhead_tasks::containment::contain;
use std::ops::Range;

use wasm_encoder::{
    ConstExpr, CoreDumpInstancesSection, CoreDumpModulesSection, CoreDumpSection,
    CoreDumpStackSection, CustomSection, DataSection, MemorySection, MemoryType, Module,
};
use wasmtime::{Store, WasmCoreDump};

/// Bytes of memory that the engine writes as one segment, without the zeroes at its ends.
const CHUNK_BYTES: usize = 4096;

/// What a segment takes beside its bytes, at most.
const SEGMENT_BYTES: u64 = 16;

const TOO_LARGE: &str = "the memories are left out: they are larger than allowed";
const UNASSIGNED: &str = "whose memory is whose is left out: the engine cannot write it";

/// A core dump.
pub(super) struct Dump {
    pub bytes: Vec<u8>,
    /// What is not in it, and why.
    pub note: Option<&'static str>,
}

/// The whole dump when it fits into `max_bytes`, else without the memories.
pub(super) fn serialize<T: 'static>(
    dump: &WasmCoreDump,
    store: &mut Store<T>,
    name: &str,
    max_bytes: u64,
) -> Dump {
    if memory_bytes(dump, store) > max_bytes {
        return plain(dump, store, name, None, TOO_LARGE);
    }
    // Version 48 of the engine panics over composed components: it knows some of their globals by their
    // users only. Nobody enters the store again.
    match contain(|| dump.serialize(&mut *store, name)) {
        Ok(bytes) if bytes.len() as u64 <= max_bytes => Dump { bytes, note: None },
        Ok(_) => plain(dump, store, name, None, TOO_LARGE),
        Err(_) => plain(dump, store, name, Some(memories(dump, store)), UNASSIGNED),
    }
}

/// Bytes that the memories will take in the dump.
fn memory_bytes<T: 'static>(dump: &WasmCoreDump, store: &Store<T>) -> u64 {
    let chunks = dump.memories().iter().flat_map(|memory| memory.data(store).chunks(CHUNK_BYTES));
    chunks.map(segment_bytes).sum()
}

fn segment_bytes(chunk: &[u8]) -> u64 {
    filled(chunk).map_or(0, |range| range.len() as u64 + SEGMENT_BYTES)
}

/// A chunk without the zeroes at its ends.
fn filled(chunk: &[u8]) -> Option<Range<usize>> {
    let first = chunk.iter().position(|byte| *byte != 0)?;
    let last = chunk.iter().rposition(|byte| *byte != 0)?;
    Some(first..last + 1)
}

/// The memories as the engine writes them: chunks without the zeroes at their ends, because one segment
/// for each run of other bytes would be too many.
fn memories<T: 'static>(dump: &WasmCoreDump, store: &Store<T>) -> (MemorySection, DataSection) {
    let (mut memories, mut data) = (MemorySection::new(), DataSection::new());
    for (index, memory) in dump.memories().iter().enumerate() {
        let kind = memory.ty(store);
        memories.memory(MemoryType {
            minimum: memory.size(store),
            maximum: kind.maximum(),
            memory64: kind.is_64(),
            shared: kind.is_shared(),
            page_size_log2: None,
        });
        for (chunk, bytes) in memory.data(store).chunks(CHUNK_BYTES).enumerate() {
            let Some(range) = filled(bytes) else { continue };
            // 64-bit memories are off, so every offset is one of 32 bits.
            let offset = (chunk * CHUNK_BYTES + range.start) as u32;
            let offset = ConstExpr::i32_const(offset.cast_signed());
            data.active(index as u32, &offset, bytes[range].iter().copied());
        }
    }
    (memories, data)
}

/// Modules, instances and the stack in the same format, and the memories, whose owners are not known.
fn plain<T: 'static>(
    dump: &WasmCoreDump,
    store: &Store<T>,
    name: &str,
    memories: Option<(MemorySection, DataSection)>,
    note: &'static str,
) -> Dump {
    let mut module = Module::new();
    module.section(&CoreDumpSection::new(name));
    if let Some((memories, data)) = &memories {
        module.section(memories).section(data);
    }
    module.section(&modules(dump)).section(&instances(dump, store)).section(&stack(dump, store));
    module.section(&CustomSection { name: "bulkhead.note".into(), data: note.as_bytes().into() });
    Dump { bytes: module.finish(), note: Some(note) }
}

fn modules(dump: &WasmCoreDump) -> CoreDumpModulesSection {
    let mut section = CoreDumpModulesSection::new();
    for (index, module) in dump.modules().iter().enumerate() {
        let name = module.name().map_or_else(|| format!("<module {index}>"), str::to_owned);
        section.module(&name);
    }
    section
}

fn instances<T: 'static>(dump: &WasmCoreDump, store: &Store<T>) -> CoreDumpInstancesSection {
    let mut section = CoreDumpInstancesSection::new();
    for instance in dump.instances() {
        let module = instance.module(store);
        let index = dump.modules().iter().position(|other| wasmtime::Module::same(other, module));
        section.instance(number(index), [], []);
    }
    section
}

fn stack<T: 'static>(dump: &WasmCoreDump, store: &Store<T>) -> CoreDumpStackSection {
    let mut section = CoreDumpStackSection::new("main");
    for frame in dump.frames() {
        // Which of several instances of a module it was is not known: the last one, as the engine says.
        let is_of = |instance: &wasmtime::Instance| {
            wasmtime::Module::same(instance.module(store), frame.module())
        };
        let instance = dump.instances().iter().rposition(is_of);
        let offset = frame.func_offset().and_then(|offset| u32::try_from(offset).ok()).unwrap_or(0);
        section.frame(number(instance), frame.func_index(), offset, [], []);
    }
    section
}

/// An index of the format. What is not found has none.
fn number(index: Option<usize>) -> u32 {
    index.and_then(|index| u32::try_from(index).ok()).unwrap_or(u32::MAX)
}
