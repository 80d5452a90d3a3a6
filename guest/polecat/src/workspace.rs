//! The files that a polecat works on. Everything has a bound, and an error is a sentence that the
//! model can learn from.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Component, Path, PathBuf};

/// Entries of one listing.
const MAX_ENTRIES: usize = 500;
/// Bytes of one read. The tool's description has it, as of a write.
const MAX_READ_BYTES: u64 = 64 * 1024;
/// Bytes of one write, and of a file that is edited.
pub const MAX_WRITE_BYTES: usize = 1024 * 1024;

/// A directory that nothing here leaves.
///
/// Paths are checked as text. Whether a link leads outside is the host's to check: it opens every
/// path below the directory that it gave away.
#[derive(Debug)]
pub struct Workspace {
    root: PathBuf,
}

impl Workspace {
    /// The workspace at `root`.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The location of a path that a model gave: relative, or absolute below the root.
    pub fn resolve(&self, path: &str) -> Result<PathBuf, String> {
        let given = Path::new(path.trim());
        let relative = given.strip_prefix(&self.root).unwrap_or(given);
        let mut resolved = self.root.clone();
        for component in relative.components() {
            match component {
                Component::Normal(name) => resolved.push(name),
                Component::CurDir => {}
                Component::ParentDir | Component::RootDir | Component::Prefix(_) => {
                    return Err(format!("path `{path}` is outside of the workspace"));
                }
            }
        }
        if path.contains('\0') {
            return Err("path has a zero byte".to_owned());
        }
        Ok(resolved)
    }

    /// The path as a model should see it.
    pub fn relative<'a>(&self, path: &'a Path) -> std::borrow::Cow<'a, str> {
        path.strip_prefix(&self.root).unwrap_or(path).to_string_lossy()
    }

    /// One name a line, directories with a slash, files with their size.
    pub fn list(&self, path: &str) -> Result<String, String> {
        let directory = self.resolve(path)?;
        let mut lines = Vec::new();
        let mut more = 0_usize;
        for entry in fs::read_dir(directory).map_err(|error| failed("list", path, &error))? {
            let entry = entry.map_err(|error| failed("list", path, &error))?;
            if lines.len() == MAX_ENTRIES {
                more += 1;
                continue;
            }
            lines.push(line(&entry));
        }
        lines.sort();
        if more > 0 {
            lines.push(format!("[{more} more are not shown]"));
        }
        Ok(if lines.is_empty() { "[empty]".to_owned() } else { lines.join("\n") })
    }

    /// Text from a byte offset on.
    pub fn read(&self, path: &str, offset: u64) -> Result<String, String> {
        let problem = |error: io::Error| failed("read", path, &error);
        let mut file = File::open(self.resolve(path)?).map_err(problem)?;
        let metadata = file.metadata().map_err(problem)?;
        if !metadata.is_file() {
            return Err(format!("read {path}: not a file"));
        }
        file.seek(SeekFrom::Start(offset)).map_err(problem)?;
        let mut bytes = Vec::new();
        file.take(MAX_READ_BYTES).read_to_end(&mut bytes).map_err(problem)?;
        let mut text = text(bytes).ok_or_else(|| format!("read {path}: not UTF-8 text"))?;
        let end = offset.saturating_add(text.len() as u64);
        if end < metadata.len() && !text.is_empty() {
            text.push_str(&format!(
                "\n[{end} of {} bytes; go on with offset {end}]",
                metadata.len()
            ));
        }
        Ok(text)
    }

    /// Replaces or creates a file, and the directories that lead to it.
    pub fn write(&self, path: &str, content: &str) -> Result<String, String> {
        if content.len() > MAX_WRITE_BYTES {
            return Err(format!("write {path}: more than {MAX_WRITE_BYTES} bytes"));
        }
        let problem = |error: io::Error| failed("write", path, &error);
        let file = self.resolve(path)?;
        if file == self.root {
            return Err("write: path is empty".to_owned());
        }
        if let Some(parent) = file.parent() {
            fs::create_dir_all(parent).map_err(problem)?;
        }
        fs::write(file, content).map_err(problem)?;
        Ok(format!("wrote {} bytes", content.len()))
    }

    /// The whole text of a file that is to be edited.
    pub fn load(&self, path: &str) -> Result<String, String> {
        let problem = |error: io::Error| failed("edit", path, &error);
        let file = File::open(self.resolve(path)?).map_err(problem)?;
        if !file.metadata().map_err(problem)?.is_file() {
            return Err(format!("edit {path}: not a file"));
        }
        let mut bytes = Vec::new();
        file.take(MAX_WRITE_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(problem)?;
        if bytes.len() > MAX_WRITE_BYTES {
            return Err(format!("edit {path}: the file has more than {MAX_WRITE_BYTES} bytes"));
        }
        String::from_utf8(bytes).map_err(|_| format!("edit {path}: not UTF-8 text"))
    }

    /// Replaces the text of a file that is there. Room is taken first, so that a full workspace
    /// leaves the file as it was.
    pub fn store(&self, path: &str, text: &str) -> Result<(), String> {
        let problem = |error: io::Error| failed("edit", path, &error);
        let mut file = OpenOptions::new().write(true).open(self.resolve(path)?).map_err(problem)?;
        let (before, after) = (file.metadata().map_err(problem)?.len(), text.len() as u64);
        file.set_len(before.max(after)).map_err(problem)?;
        file.write_all(text.as_bytes()).map_err(problem)?;
        file.set_len(after).map_err(problem)
    }
}

fn line(entry: &fs::DirEntry) -> String {
    let name = entry.file_name().to_string_lossy().into_owned();
    match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => format!("{name}/"),
        Ok(metadata) if metadata.is_file() => format!("{name}\t{} bytes", metadata.len()),
        _ => name,
    }
}

/// The bytes as text. A read may end inside of a character; that one is left for the next read.
fn text(bytes: Vec<u8>) -> Option<String> {
    match String::from_utf8(bytes) {
        Ok(text) => Some(text),
        Err(error) => {
            let valid = error.utf8_error().valid_up_to();
            let cut_off = error.utf8_error().error_len().is_none() && valid > 0;
            let mut bytes = error.into_bytes();
            bytes.truncate(valid);
            cut_off.then(|| String::from_utf8(bytes).unwrap_or_default())
        }
    }
}

pub fn failed(what: &str, path: &str, error: &io::Error) -> String {
    format!("{what} {path}: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workspace() -> (tempfile::TempDir, Workspace) {
        let directory = tempfile::tempdir().unwrap();
        let workspace = Workspace::new(directory.path());
        (directory, workspace)
    }

    #[test]
    fn paths_stay_inside() {
        let workspace = Workspace::new("/workspace");
        for path in ["a/b", "./a/./b", "/workspace/a/b", " a/b "] {
            assert_eq!(workspace.resolve(path).unwrap(), Path::new("/workspace/a/b"), "{path}");
        }
        for path in ["..", "a/../../b", "/etc/passwd", "/workspace/../x", "/workspacex", "a\0b"] {
            assert!(workspace.resolve(path).is_err(), "{path}");
        }
        assert_eq!(workspace.resolve("").unwrap(), Path::new("/workspace"));
    }

    #[test]
    fn what_is_written_is_read_and_listed() {
        let (_directory, workspace) = workspace();
        workspace.write("src/new.txt", "grün").unwrap();
        assert_eq!(workspace.read("src/new.txt", 0).unwrap(), "grün");
        assert_eq!(workspace.list("src").unwrap(), "new.txt\t5 bytes");
        assert_eq!(workspace.list("").unwrap(), "src/");
    }

    #[test]
    fn a_long_file_is_read_in_pieces_that_join() {
        let (_directory, workspace) = workspace();
        // Three bytes each, so that the bound falls inside of a character.
        let content = "€".repeat(30_000);
        workspace.write("long", &content).unwrap();
        let first = workspace.read("long", 0).unwrap();
        let (piece, note) = first.rsplit_once('\n').unwrap();
        assert_eq!(piece.len(), 65_535);
        assert!(note.contains("go on with offset 65535"), "{note}");
        let second = workspace.read("long", 65_535).unwrap();
        assert_eq!(format!("{piece}{second}"), content);
    }

    #[test]
    fn errors_name_the_path() {
        let (directory, workspace) = workspace();
        fs::write(directory.path().join("binary"), [0xff, 0xfe, 0]).unwrap();
        assert!(workspace.read("none", 0).unwrap_err().contains("read none"));
        assert!(workspace.read("binary", 0).unwrap_err().contains("not UTF-8"));
        assert!(workspace.read(".", 0).is_err());
        assert!(workspace.write("", "x").is_err());
        let large = "x".repeat(MAX_WRITE_BYTES + 1);
        assert!(workspace.write("large", &large).unwrap_err().contains("write large"));
    }

    #[test]
    fn what_is_edited_is_a_text_file_of_bounded_size_that_is_there() {
        let (directory, workspace) = workspace();
        fs::write(directory.path().join("binary"), [b'a', 0xff]).unwrap();
        fs::write(directory.path().join("large"), vec![b'a'; MAX_WRITE_BYTES + 1]).unwrap();
        fs::write(directory.path().join("full"), vec![b'a'; MAX_WRITE_BYTES]).unwrap();
        assert!(workspace.load("binary").unwrap_err().contains("edit binary: not UTF-8"));
        assert!(workspace.load("large").unwrap_err().contains("more than 1048576 bytes"));
        assert!(workspace.load(".").unwrap_err().contains("not a file"));
        assert_eq!(workspace.load("full").unwrap().len(), MAX_WRITE_BYTES);
        assert!(workspace.store("none", "x").unwrap_err().contains("edit none"));
        assert!(!directory.path().join("none").exists());
    }

    #[test]
    fn a_stored_text_is_all_that_is_left() {
        let (_directory, workspace) = workspace();
        workspace.write("file", "first text").unwrap();
        for text in ["a", "longer than it was", ""] {
            workspace.store("file", text).unwrap();
            assert_eq!(workspace.load("file").unwrap(), text);
        }
    }

    #[test]
    fn an_empty_directory_says_so() {
        let (_directory, workspace) = workspace();
        assert_eq!(workspace.list(".").unwrap(), "[empty]");
    }
}
