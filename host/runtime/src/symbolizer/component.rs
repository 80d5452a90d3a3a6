//! The core modules of a component, with their debug sections.

use std::ops::Range;

use gimli::SectionId;
use wasmparser::{BinaryReaderError, Encoding, Parser, Payload};

/// What is read of the debug information. The rest is for debuggers that show variables.
pub(super) const SECTIONS: [SectionId; 9] = [
    SectionId::DebugAbbrev,
    SectionId::DebugAddr,
    SectionId::DebugInfo,
    SectionId::DebugLine,
    SectionId::DebugLineStr,
    SectionId::DebugRanges,
    SectionId::DebugRngLists,
    SectionId::DebugStr,
    SectionId::DebugStrOffsets,
];

/// One core module inside a component.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct CoreModule<'a> {
    /// Where the contents of its code section are in the file. Addresses in the debug information count
    /// from the start of it.
    pub code: Range<u64>,
    /// Its debug sections.
    pub sections: Vec<(SectionId, &'a [u8])>,
}

impl CoreModule<'_> {
    /// Bytes of all sections.
    pub(super) fn debug_bytes(&self) -> usize {
        self.sections.iter().map(|(_, bytes)| bytes.len()).sum()
    }
}

/// The core modules of a component that have code and debug information.
pub(super) fn with_debug_info(bytes: &[u8]) -> Result<Vec<CoreModule<'_>>, BinaryReaderError> {
    let mut found = Vec::new();
    let mut module: Option<CoreModule<'_>> = None;
    for payload in Parser::new(0).parse_all(bytes) {
        match payload? {
            Payload::Version { encoding, .. } => {
                module = (encoding == Encoding::Module).then(CoreModule::default);
            }
            Payload::CodeSectionStart { range, .. } => {
                if let Some(module) = &mut module {
                    module.code = range.start as u64..range.end as u64;
                }
            }
            Payload::CustomSection(section) => {
                let id = SECTIONS.iter().find(|id| id.name() == section.name());
                if let (Some(module), Some(id)) = (&mut module, id) {
                    module.sections.push((*id, section.data()));
                }
            }
            Payload::End(_) => {
                let complete = |module: &CoreModule<'_>| {
                    !module.code.is_empty() && !module.sections.is_empty()
                };
                found.extend(module.take().filter(complete));
            }
            _ => {}
        }
    }
    Ok(found)
}
