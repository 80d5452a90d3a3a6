//! Small files of the kernel.

use std::fs;
use std::io;
use std::path::Path;

/// Writes to a file that exists. An error names it.
pub fn write(path: &Path, text: impl AsRef<[u8]>) -> io::Result<()> {
    let mut file = open(path)?;
    io::Write::write_all(&mut file, text.as_ref()).map_err(naming(path))
}

/// Opens a file that exists, to write to it.
pub fn open(path: &Path) -> io::Result<fs::File> {
    fs::OpenOptions::new().write(true).open(path).map_err(naming(path))
}

fn naming(path: &Path) -> impl FnOnce(io::Error) -> io::Error {
    move |error| io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// A number alone in a file.
pub fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// The number behind a word, in a file of such lines.
pub fn word(path: &Path, name: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

/// The processes of a cgroup.
pub fn processes(dir: &Path) -> Vec<i32> {
    let text = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}
