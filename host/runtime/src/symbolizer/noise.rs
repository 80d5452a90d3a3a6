//! Any bytes as debug information, read as the host reads it. For tests and fuzzing: nothing comes of it.

use super::component::{CoreModule, SECTIONS, with_debug_info};
use super::dwarf::Debug;
use super::vet::Budget;

/// Bytes that the readers may keep, and offsets that are asked for.
const BUDGET_BYTES: usize = 1024 * 1024;
const OFFSETS: u64 = 128;

/// Reads bytes as a component, and as its sections, one after the other, each with its length before it.
pub(crate) fn read_any(bytes: &[u8]) {
    let modules = with_debug_info(bytes).unwrap_or_default();
    let sections = CoreModule { code: 0..OFFSETS, sections: sections(bytes) };
    for module in modules.iter().chain([&sections]) {
        let mut budget = Budget::new(BUDGET_BYTES);
        if let Ok(debug) = Debug::new(module, &mut budget) {
            (0..OFFSETS).for_each(|offset| _ = debug.locate(offset));
        }
    }
}

fn sections(mut bytes: &[u8]) -> Vec<(gimli::SectionId, &[u8])> {
    let mut sections = Vec::new();
    for id in SECTIONS {
        let Some((length, rest)) = bytes.split_first_chunk() else { break };
        let (section, rest) = rest.split_at(rest.len().min(u16::from_le_bytes(*length).into()));
        sections.push((id, section));
        bytes = rest;
    }
    sections
}
