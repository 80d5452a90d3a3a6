//! The host's log, for an author that wants more than was shown.

use std::fs::File;
use std::io::Write;
use std::path::Path;

/// The file does not grow beyond this.
const MAX_BYTES: usize = 64 << 20;

/// The log of one run of the host. The one before it is overwritten.
pub(crate) struct LogFile {
    file: File,
    left: usize,
}

impl LogFile {
    /// The error is for a person, and names the file.
    pub(crate) fn create(path: &Path) -> Result<Self, String> {
        let not_kept =
            |error| format!("the log of the host is not kept: {}: {error}", path.display());
        File::create(path).map(|file| Self { file, left: MAX_BYTES }).map_err(not_kept)
    }

    /// Adds a line. What has no room is left out, and so is the rest of a log that cannot be written any more.
    pub(crate) fn write(&mut self, line: &str) {
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
        let path = dir.path().join("dev.log");
        let file = File::create(&path).unwrap();
        let mut log = LogFile { file, left: 10 };
        for line in ["1234", "1234", "", "5"] {
            log.write(line);
        }
        let kept = std::fs::read_to_string(&path).unwrap();
        assert_eq!(kept, "1234\n1234\n");
    }
}
