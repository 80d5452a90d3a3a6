//! Whether debug information is fit to be read.
//!
//! A guest brings its debug information with it, and the readers were made for files that one trusts:
//! they call themselves once for each level of inlining, and hold on to every list as often as something
//! points at it. A few megabytes can be written so that reading them takes all stack or all memory,
//! which no `catch_unwind` catches. So everything that the readers will do and keep is counted first, in constant
//! memory, and refused above bounds that no compiler comes near. One byte of a line program can stand for a row of 24,
//! so line programs are run for that.

use std::collections::HashMap;

use gimli::{AttributeValue, Dwarf, EndianSlice, LittleEndian, Reader, Section, Unit, UnitRef};

use super::source::SourceDirs;

/// A section, as long as the [`Debug`](super::dwarf::Debug) that it belongs to.
pub(super) type Slice = EndianSlice<'static, LittleEndian>;

/// Nested entries of a unit: a function, a block, a call in line, and so on. The readers take some
/// hundred bytes of stack for each.
const MAX_DEPTH: isize = 256;

/// Longest directory or file name.
const MAX_PATH_BYTES: usize = 4096;

/// Entries, files, ranges, and bytes of line programs and of abbreviations that are read, of all modules of a
/// component together. A component of 3 MB has 0.7 million.
const MAX_STEPS: u64 = 8 * 1024 * 1024;

/// What the readers keep, in bytes, by the sizes of their types.
const UNIT_BYTES: usize = 512;
const ABBREVIATIONS_BYTES: usize = 8;
const FILE_BYTES: usize = 128;
const ROW_BYTES: usize = 24;
const SEQUENCE_BYTES: usize = 40;
const FUNCTION_BYTES: usize = 48;
const CALL_BYTES: usize = 56;
const RANGE_BYTES: usize = 40;

/// It is damaged, or larger than anything that is checked here.
#[derive(Debug)]
pub(super) enum Unfit {
    Broken,
    TooLarge,
}

impl From<gimli::Error> for Unfit {
    fn from(_: gimli::Error) -> Self {
        Self::Broken
    }
}

/// What may be done with the debug information of one component, and what may be kept of it.
pub(super) struct Budget {
    steps: u64,
    bytes: usize,
}

impl Budget {
    /// So many bytes may be kept, the sections themselves among them.
    pub(super) fn new(bytes: usize) -> Self {
        Self { steps: MAX_STEPS, bytes }
    }

    /// Bytes that are left.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// What was taken since this many bytes were left is not kept after all.
    pub(super) fn give_back_to(&mut self, bytes: usize) {
        self.bytes = bytes;
    }

    /// The readers will look at so many things.
    fn spend(&mut self, steps: usize) -> Result<(), Unfit> {
        self.steps = self.steps.checked_sub(steps as u64).ok_or(Unfit::TooLarge)?;
        Ok(())
    }

    /// They may keep so many bytes.
    pub(super) fn keep(&mut self, bytes: usize) -> Result<(), Unfit> {
        self.bytes = self.bytes.checked_sub(bytes).ok_or(Unfit::TooLarge)?;
        Ok(())
    }
}

/// Counts what reading will cost, at most: most of it is read when an address needs it. Returns where the files
/// come from, which is found on the way.
pub(super) fn vet(dwarf: &Dwarf<Slice>, budget: &mut Budget) -> Result<SourceDirs, Unfit> {
    let mut dirs = SourceDirs::default();
    let mut abbreviations = HashMap::new();
    let mut headers = dwarf.units();
    while let Some(header) = headers.next()? {
        let offset = header.debug_abbrev_offset().0;
        let bytes = match abbreviations.get(&offset) {
            Some(bytes) => *bytes,
            None => {
                let bytes = abbreviation_bytes(dwarf, offset)?;
                abbreviations.insert(offset, bytes);
                budget.spend(bytes)?;
                bytes
            }
        };
        // Every unit has its own copy.
        budget.spend(bytes.div_ceil(4))?;
        budget.keep(UNIT_BYTES + bytes.saturating_mul(ABBREVIATIONS_BYTES))?;
        let unit = dwarf.unit(header)?;
        let unit = UnitRef::new(dwarf, &unit);
        files(unit, budget)?;
        rows(unit, budget)?;
        entries(unit, budget)?;
        collect_dirs(&unit, &mut dirs);
    }
    dirs.compiled_in.sort_unstable_by_key(|dir| std::cmp::Reverse(dir.len()));
    Ok(dirs)
}

/// The size of a table of abbreviations. They may overlap, and then each counts in full.
fn abbreviation_bytes(dwarf: &Dwarf<Slice>, offset: usize) -> Result<usize, gimli::Error> {
    let mut rest = *dwarf.debug_abbrev.reader();
    rest.skip(offset)?;
    let before = rest.len();
    while !rest.is_empty() && rest.read_uleb128()? != 0 {
        let _tag = rest.read_uleb128()?;
        let _children = rest.read_u8()?;
        loop {
            let (name, form) = (rest.read_uleb128()?, rest.read_uleb128()?);
            if form == u64::from(gimli::DW_FORM_implicit_const.0) {
                rest.read_sleb128()?;
            }
            if (name, form) == (0, 0) {
                break;
            }
        }
    }
    Ok(before - rest.len())
}

fn files(unit: UnitRef<'_, Slice>, budget: &mut Budget) -> Result<(), Unfit> {
    let dir_bytes = unit.comp_dir.map_or(0, |dir| dir.len());
    let Some(program) = &unit.line_program else { return Ok(()) };
    let header = program.header();
    let length =
        |value: AttributeValue<Slice>| unit.attr_string(value).map_or(0, |text| text.len());
    let mut longest = dir_bytes;
    for dir in header.include_directories() {
        longest = longest.max(dir_bytes + length(*dir));
    }
    for file in header.file_names() {
        let bytes = longest + length(file.path_name());
        if bytes > 2 * MAX_PATH_BYTES {
            return Err(Unfit::TooLarge);
        }
        budget.spend(1 + bytes / 32)?;
        budget.keep(FILE_BYTES + bytes)?;
    }
    Ok(())
}

/// The line program, run to its end or to what is wrong in it, where the reader stops as well. That makes the rows
/// again for every unit, also where they share a program.
fn rows(unit: UnitRef<'_, Slice>, budget: &mut Budget) -> Result<(), Unfit> {
    let Some(program) = &unit.line_program else { return Ok(()) };
    budget.spend(program.header().unit_length())?;
    let mut rows = program.clone().rows();
    while let Ok(Some((_, row))) = rows.next_row() {
        budget.keep(if row.end_sequence() { SEQUENCE_BYTES } else { ROW_BYTES })?;
    }
    Ok(())
}

fn entries(unit: UnitRef<'_, Slice>, budget: &mut Budget) -> Result<(), Unfit> {
    let mut entries = unit.entries_raw(None)?;
    while !entries.is_empty() {
        if entries.next_depth() > MAX_DEPTH {
            return Err(Unfit::TooLarge);
        }
        budget.spend(1)?;
        let Some(abbreviation) = entries.read_abbreviation()? else { continue };
        budget.keep(match abbreviation.tag() {
            gimli::DW_TAG_subprogram => FUNCTION_BYTES,
            gimli::DW_TAG_inlined_subroutine => CALL_BYTES + RANGE_BYTES,
            _ => 0,
        })?;
        let attributes = abbreviation.attributes();
        if attributes.iter().all(|attribute| attribute.name() != gimli::DW_AT_ranges) {
            entries.skip_attributes(attributes)?;
            continue;
        }
        for attribute in attributes {
            let attribute = entries.read_attribute(*attribute)?;
            if attribute.name() == gimli::DW_AT_ranges
                && let Some(offset) = unit.attr_ranges_offset(attribute.value())?
            {
                spend_ranges(unit.raw_ranges(offset)?, budget)?;
            }
        }
    }
    Ok(())
}

/// Each entry of a list, also those that stand for nothing.
fn spend_ranges(
    mut ranges: gimli::RawRngListIter<Slice>,
    budget: &mut Budget,
) -> Result<(), Unfit> {
    while ranges.next()?.is_some() {
        budget.spend(1)?;
        budget.keep(RANGE_BYTES)?;
    }
    Ok(())
}

/// Where the unit was compiled, and whether it is the SDK: rustc names a unit
/// `ROOT-FILE/@/CRATE.HASH-cgu.N`.
fn collect_dirs(unit: &Unit<Slice>, dirs: &mut SourceDirs) {
    let text = |slice: Slice| slice.to_string_lossy().replace('\\', "/");
    if let Some(dir) = unit.comp_dir {
        let dir = format!("{}/", text(dir).trim_end_matches('/'));
        if dir.len() > 1 && !dirs.compiled_in.contains(&dir) {
            dirs.compiled_in.push(dir);
        }
    }
    if let Some(name) = unit.name
        && let Some((root, of)) = text(name).split_once("/@/")
        && of.starts_with("bulkhead_guest.")
        && let Some((dir, _)) = root.rsplit_once('/')
    {
        dirs.sdk = Some(format!("{dir}/"));
    }
}
