//! The host's log, for whoever wants to know more than was shown.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use super::output::Output;
use crate::failure::Failure;

const NAME: &str = "dev.log";

/// The file does not grow beyond this.
const MAX_BYTES: usize = 64 << 20;

/// The log of one run of the host. The one before it is overwritten.
pub(super) struct LogFile {
    file: File,
    left: usize,
}

impl LogFile {
    /// In a directory. `None`, and reported: it cannot be written.
    pub(super) fn create(dir: &Path, output: &Output) -> Result<Option<Self>, Failure> {
        let path = dir.join(NAME);
        match File::create(&path) {
            Ok(file) => Ok(Some(Self { file, left: MAX_BYTES })),
            Err(error) => {
                let shown = path.display();
                output.aside(&format!("the log of the host is not kept: {shown}: {error}"))?;
                Ok(None)
            }
        }
    }

    /// Adds a line. What has no room is left out, and so is the rest of a log that cannot be written any more.
    pub(super) fn write(&mut self, line: &str) {
        let bytes = line.len() + 1;
        self.left = match bytes <= self.left && writeln!(self.file, "{line}").is_ok() {
            true => self.left - bytes,
            false => 0,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_has_a_bound() {
        let dir = tempfile::tempdir().unwrap();
        let file = File::create(dir.path().join(NAME)).unwrap();
        let mut log = LogFile { file, left: 10 };
        for line in ["1234", "1234", "", "5"] {
            log.write(line);
        }
        let kept = std::fs::read_to_string(dir.path().join(NAME)).unwrap();
        assert_eq!(kept, "1234\n1234\n");
    }
}
