//! Files and lines of one core module.

use std::collections::HashMap;
use std::sync::Arc;

use addr2line::Context;
use gimli::{Dwarf, EndianSlice, LittleEndian, SectionId};

use super::component::CoreModule;
use super::source::{self, SourceDirs};
use super::vet::{Budget, Slice, Unfit, vet};
use crate::symbol::{demangle, symbol_of, truncated};

/// Calls in line that are shown for one address.
const MAX_INLINED: usize = 32;

/// The debug information of one core module. Its tables are read when an address needs them.
pub(super) struct Debug {
    /// First: it borrows from `_sections`, and fields are dropped in order.
    context: Context<Slice>,
    dirs: SourceDirs,
    _sections: HashMap<SectionId, Arc<[u8]>>,
}

/// What is known about one call at an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Located {
    /// By the debug information. Without its path where that has line tables only.
    pub function: Option<String>,
    pub file: Option<String>,
    pub line: Option<u32>,
    pub column: Option<u32>,
    pub in_app: bool,
}

impl Located {
    /// What it takes in memory.
    pub(super) fn bytes(&self) -> usize {
        let texts = [&self.function, &self.file];
        size_of::<Self>() + texts.into_iter().flatten().map(String::len).sum::<usize>()
    }
}

impl Debug {
    /// Looks at all of it once, and keeps a copy of its sections. Both is taken off `budget`.
    pub(super) fn new(module: &CoreModule<'_>, budget: &mut Budget) -> Result<Self, Unfit> {
        budget.keep(module.debug_bytes())?;
        let sections: HashMap<SectionId, Arc<[u8]>> =
            module.sections.iter().map(|(id, bytes)| (*id, Arc::from(*bytes))).collect();
        #[expect(unsafe_code, reason = "the context borrows what is beside it")]
        let dwarf = Dwarf::load(|id| {
            let bytes: &[u8] = sections.get(&id).map_or(&[], |bytes| bytes);
            // SAFETY: the bytes are on the heap, in an `Arc` that `_sections` holds as long as the
            // context exists and that nobody writes to. Neither the context nor a slice of it leaves
            // this struct: what `locate` returns is copied.
            let bytes = unsafe { std::mem::transmute::<&[u8], &'static [u8]>(bytes) };
            Ok::<_, Unfit>(EndianSlice::new(bytes, LittleEndian))
        })?;
        let dirs = vet(&dwarf, budget)?;
        let context = Context::from_dwarf(dwarf)?;
        Ok(Self { context, dirs, _sections: sections })
    }

    /// The calls at an address, innermost first: those in line, then the function itself. Empty when
    /// nothing is known.
    pub(super) fn locate(&self, address: u64) -> Result<Vec<Located>, Unfit> {
        let mut frames = self.context.find_frames(address).skip_all_loads()?;
        let mut calls = Vec::new();
        while let Some(frame) = frames.next()? {
            let name = frame.function.as_ref().map(|function| symbol_of(function.name.slice()));
            let function = name.map(|name| demangle(&name));
            let location = frame.location.as_ref();
            let file = location.and_then(|location| location.file);
            let (file, own_file) = match file.map(|file| self.dirs.show(file)) {
                Some((file, own)) => (Some(truncated(&file).to_owned()), own),
                None => (None, false),
            };
            calls.push(Located {
                in_app: own_file && !function.as_deref().is_some_and(source::is_library),
                function,
                file,
                line: location.and_then(|location| location.line),
                column: location.and_then(|location| location.column).filter(|column| *column > 0),
            });
        }
        if calls.len() > MAX_INLINED {
            // The function itself is the last one.
            calls.drain(MAX_INLINED / 2..calls.len() - MAX_INLINED / 2);
        }
        Ok(calls)
    }
}
