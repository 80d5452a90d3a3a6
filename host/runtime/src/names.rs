//! Names of functions that a component brings for its backtraces, as far as the engine may see them.
//!
//! The engine copies the name of each frame's function at every error, and a name can be as long as the component. So
//! where one is too long, the section that it stands in is renamed before the component is compiled, and that module's
//! functions have no names. Nothing moves: offsets in the file, which identify frames, stay as they are.

use std::borrow::Cow;

use wasmparser::{KnownCustom, Name, NameSectionReader, Parser, Payload};

/// Longest name that the engine may copy, in bytes. A backtrace has 64 frames.
const MAX_NAME_BYTES: usize = 64 * 1024;

/// What the engine knows the section by, and what hides it.
const NAME: &[u8] = b"name";
const HIDDEN: &[u8] = b"long";

/// The component without the sections of names in which a name is too long. What cannot be read is left as it is, for
/// the engine to refuse.
pub(crate) fn without_long(component: &[u8]) -> Cow<'_, [u8]> {
    let mut shown = Cow::Borrowed(component);
    for at in sections_with_a_long_name(component) {
        let name = shown.to_mut().get_mut(at..at + NAME.len());
        if let Some(name) = name.filter(|name| *name == NAME) {
            name.copy_from_slice(HIDDEN);
        }
    }
    shown
}

/// Where the names of these sections are.
fn sections_with_a_long_name(component: &[u8]) -> Vec<usize> {
    let mut found = Vec::new();
    for payload in Parser::new(0).parse_all(component).map_while(Result::ok) {
        if let Payload::CustomSection(section) = payload
            && let KnownCustom::Name(names) = section.as_known()
            && has_a_long_name(names)
        {
            // Its name is the last thing before its data.
            found.extend(section.data_offset().checked_sub(NAME.len()));
        }
    }
    found
}

fn has_a_long_name(names: NameSectionReader<'_>) -> bool {
    names.map_while(Result::ok).any(|part| match part {
        Name::Function(names) => {
            names.into_iter().map_while(Result::ok).any(|name| name.name.len() > MAX_NAME_BYTES)
        }
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A component with a function of this name, and one of an ordinary name in another module.
    fn component(name: &str) -> Vec<u8> {
        let text = format!(
            "(component (core module (func (@name {name:?}))) (core module (func $ordinary)))"
        );
        wat::parse_str(text).unwrap()
    }

    fn names(component: &[u8]) -> usize {
        let payloads = Parser::new(0).parse_all(component).map(Result::unwrap);
        payloads
            .filter(|payload| {
                matches!(payload, Payload::CustomSection(section)
                    if matches!(section.as_known(), KnownCustom::Name(_)))
            })
            .count()
    }

    #[test]
    fn names_of_a_module_with_a_name_without_measure_are_hidden_and_nothing_moves() {
        let before = component(&"a".repeat(MAX_NAME_BYTES + 1));
        let after = without_long(&before);
        assert_eq!((names(&before), names(&after)), (2, 1));
        assert_eq!(before.len(), after.len());
        assert_eq!(before.iter().zip(after.iter()).filter(|(a, b)| a != b).count(), NAME.len());
    }

    #[test]
    fn ordinary_names_and_what_cannot_be_read_stay_as_they_are() {
        for before in
            [component(&"a".repeat(MAX_NAME_BYTES)), b"\0asm\x0d\0\x01\0nonsense".to_vec()]
        {
            assert!(matches!(without_long(&before), Cow::Borrowed(same) if same == before));
        }
    }
}
