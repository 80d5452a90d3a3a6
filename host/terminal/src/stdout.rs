//! Stdout: the one way that an answer takes there.

use std::io::{self, ErrorKind, Write};

/// Who is at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    /// It takes what is written.
    Reads,
    /// It has seen enough and closed the pipe, which is as good an end as any.
    IsGone,
}

/// Writes a text to stdout, all of it.
///
/// # Errors
///
/// It is not there, for example on a full disk. For a person.
pub fn print(text: &str) -> Result<Reader, String> {
    printed(write(&mut io::stdout().lock(), text))
}

/// What came of writing to stdout.
///
/// # Errors
///
/// As [`print()`].
pub fn printed(written: io::Result<()>) -> Result<Reader, String> {
    match written {
        Ok(()) => Ok(Reader::Reads),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(Reader::IsGone),
        Err(error) => Err(format!("cannot write to stdout: {error}")),
    }
}

/// What is buffered is not written.
fn write(to: &mut impl Write, text: &str) -> io::Result<()> {
    to.write_all(text.as_bytes())?;
    to.flush()
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::LineWriter;

    use super::*;

    #[test]
    fn a_disk_that_is_full_is_an_error_also_where_the_text_ends_in_a_line() {
        for text in ["a line\n", "a line\nand a half"] {
            let full = File::options().write(true).open("/dev/full").unwrap();
            let written = write(&mut LineWriter::new(full), text);
            let error = printed(written).unwrap_err();
            assert!(error.starts_with("cannot write to stdout: No space left"), "{error}");
        }
    }

    #[test]
    fn a_reader_that_is_gone_is_no_error() {
        let (reader, mut writer) = io::pipe().unwrap();
        assert_eq!(printed(write(&mut writer, "one\n")), Ok(Reader::Reads));
        drop(reader);
        assert_eq!(printed(write(&mut writer, "two\n")), Ok(Reader::IsGone));
    }
}
