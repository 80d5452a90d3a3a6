//! A snapshot as it lies at the town: what an agent keeps, in an envelope that says whose it is.
//!
//! ```text
//!   89 'B' 'H' 'S' 'N' 'A' 'P' 0A │ version, two bytes, little endian │ the agent's own bytes
//! ```
//!
//! The town keeps octets and knows nothing of them. Another system may have left its own format there; that must
//! neither reach an agent nor be overwritten. So only what has our mark is ours, and one exception: what this
//! program uploaded before there was an envelope says by its headers when it was taken and what its hash is.

/// Begins every snapshot of ours. The first byte is no text, and the last shows a transfer that changed line ends.
pub const MAGIC: [u8; 8] = *b"\x89BHSNAP\n";

/// The version of the envelope that this program writes, and the newest that it reads.
pub const VERSION: u16 = 1;

/// What the envelope has more than the agent's bytes.
pub const ENVELOPE_BYTES: usize = MAGIC.len() + size_of::<u16>();

/// How a database of the original container begins, which kept one for each agent.
const ORIGINAL: &[u8] = b"SQLite format 3\0";

/// Why a snapshot is not ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Foreign {
    /// It does not begin with [`MAGIC`].
    #[error("it has not this program's mark")]
    NoMagic,
    /// A newer program wrote it.
    #[error("its envelope has version {0}, this program knows {VERSION}")]
    Newer(u16),
    /// It is larger than any of ours.
    #[error("it is larger than any snapshot of this program")]
    TooLarge,
}

/// The bytes of an agent in an envelope.
pub fn seal(bytes: &[u8]) -> Vec<u8> {
    [&MAGIC[..], &VERSION.to_le_bytes(), bytes].concat()
}

/// The bytes of an agent out of what the town has. `is_marked`: its headers say when it was taken and what its hash
/// is, as this program's uploads did before they had an envelope.
pub fn open(sealed: &[u8], is_marked: bool) -> Result<&[u8], Foreign> {
    let Some(rest) = sealed.strip_prefix(&MAGIC) else {
        return match is_marked && !sealed.starts_with(ORIGINAL) {
            true => Ok(sealed),
            false => Err(Foreign::NoMagic),
        };
    };
    let (version, bytes) = rest.split_first_chunk().ok_or(Foreign::NoMagic)?;
    match u16::from_le_bytes(*version) {
        1..=VERSION => Ok(bytes),
        version => Err(Foreign::Newer(version)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sealed_opens_and_an_empty_one_as_well() {
        for bytes in [&b""[..], b"41", b"\x89BHSNAP\n", ORIGINAL] {
            let sealed = seal(bytes);
            assert_eq!(sealed.len(), bytes.len() + ENVELOPE_BYTES);
            assert_eq!(open(&sealed, false), Ok(bytes));
        }
    }

    #[test]
    fn what_has_no_mark_is_foreign_unless_its_headers_say_that_it_is_ours() {
        for foreign in [&b""[..], b"41", b"\x89BHSNA", b"\x89BHSNAP\n", b"\x89BHSNAP\r\n\x01\0"] {
            assert_eq!(open(foreign, false), Err(Foreign::NoMagic), "{foreign:?}");
        }
        assert_eq!(open(b"41", true), Ok(&b"41"[..]), "of a version without an envelope");
        assert_eq!(open(b"SQLite format 3\0...", true), Err(Foreign::NoMagic));
    }

    #[test]
    fn one_of_a_newer_program_is_not_ours() {
        let mut sealed = seal(b"41");
        sealed[8..10].copy_from_slice(&2_u16.to_le_bytes());
        assert_eq!(open(&sealed, true), Err(Foreign::Newer(2)));
        sealed[8..10].copy_from_slice(&[0, 0]);
        assert_eq!(open(&sealed, true), Err(Foreign::Newer(0)));
    }
}
