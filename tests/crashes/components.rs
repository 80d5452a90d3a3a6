//! Components with sections taken away.

use std::ops::Range;

const CUSTOM: u8 = 0;
const CORE_MODULE: u8 = 1;
const HEADER_BYTES: usize = 8;

/// A component without those custom sections of its core modules that `drops` names.
pub fn without(component: &[u8], drops: impl Fn(&str) -> bool) -> Vec<u8> {
    let mut kept = component[..HEADER_BYTES].to_vec();
    for (id, range) in parts(component, HEADER_BYTES..component.len()) {
        match id {
            CORE_MODULE => {
                let mut module = component[range.start..range.start + HEADER_BYTES].to_vec();
                for (id, range) in parts(component, range.start + HEADER_BYTES..range.end) {
                    if id != CUSTOM || !drops(name(&component[range.clone()])) {
                        push(&mut module, id, &component[range]);
                    }
                }
                push(&mut kept, id, &module);
            }
            id => push(&mut kept, id, &component[range]),
        }
    }
    kept
}

/// Where the contents are of those custom sections of core modules that `wants` names.
pub fn sections(component: &[u8], wants: impl Fn(&str) -> bool) -> Vec<Range<usize>> {
    let modules = parts(component, HEADER_BYTES..component.len());
    let modules = modules.into_iter().filter(|(id, _)| *id == CORE_MODULE);
    let inside =
        modules.flat_map(|(_, range)| parts(component, range.start + HEADER_BYTES..range.end));
    inside
        .filter(|(id, range)| *id == CUSTOM && wants(name(&component[range.clone()])))
        .map(|(_, range)| range.start + 1 + name(&component[range.clone()]).len()..range.end)
        .collect()
}

/// Sections by id and contents.
fn parts(bytes: &[u8], mut rest: Range<usize>) -> Vec<(u8, Range<usize>)> {
    let mut found = Vec::new();
    while !rest.is_empty() {
        let id = bytes[rest.start];
        let (size, at) = number(bytes, rest.start + 1);
        found.push((id, at..at + size));
        rest.start = at + size;
    }
    found
}

/// The name of a custom section. All of ours are shorter than 128 bytes.
fn name(section: &[u8]) -> &str {
    let (length, at) = number(section, 0);
    std::str::from_utf8(&section[at..at + length]).expect("a section's name is text")
}

fn number(bytes: &[u8], mut at: usize) -> (usize, usize) {
    let (mut number, mut shift) = (0, 0);
    loop {
        let byte = bytes[at];
        number |= usize::from(byte & 0x7f) << shift;
        (at, shift) = (at + 1, shift + 7);
        if byte < 0x80 {
            return (number, at);
        }
    }
}

fn push(to: &mut Vec<u8>, id: u8, contents: &[u8]) {
    to.push(id);
    let mut size = contents.len();
    while size >= 0x80 {
        to.push(size as u8 | 0x80);
        size >>= 7;
    }
    to.push(size as u8);
    to.extend(contents);
}
