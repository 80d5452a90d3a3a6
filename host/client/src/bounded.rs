//! Files that a person names, up to a bound: one may be a device without an end. Pipes are files here as any.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// All bytes of a file.
///
/// # Errors
///
/// It cannot be read, or has more than `most` bytes.
pub(crate) fn read_bytes(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(most + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > most {
        true => Err(io::Error::other(format!("it has more than {most} bytes"))),
        false => Ok(bytes),
    }
}

/// The text of a file.
///
/// # Errors
///
/// It cannot be read, has more than `most` bytes, or is not UTF-8.
pub fn read_text(path: &Path, most: u64) -> io::Result<String> {
    String::from_utf8(read_bytes(path, most)?).map_err(|_| io::Error::other("it is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_without_an_end_is_not_read_to_its_end() {
        let error = read_text(Path::new("/dev/zero"), 4096).unwrap_err();
        assert_eq!(error.to_string(), "it has more than 4096 bytes");
    }

    #[test]
    fn a_file_may_be_as_large_as_its_bound_and_has_to_be_text() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, "four").unwrap();
        assert_eq!(read_text(&path, 4).unwrap(), "four");
        read_text(&path, 3).unwrap_err();
        std::fs::write(&path, [0xff]).unwrap();
        assert_eq!(read_text(&path, 3).unwrap_err().to_string(), "it is not UTF-8");
        assert_eq!(read_bytes(&path, 3).unwrap(), [0xff]);
    }
}
