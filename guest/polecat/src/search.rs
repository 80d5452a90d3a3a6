//! Finds text in the files of a workspace.

use std::fs;
use std::path::{Path, PathBuf};

use crate::workspace::{Workspace, failed};

/// Lines of one answer.
const MAX_HITS: usize = 100;
/// Characters shown of a line.
const MAX_LINE_CHARS: usize = 200;
/// Directory entries that one search looks at.
const MAX_ENTRIES: usize = 5_000;
/// A larger file is not searched.
const MAX_FILE_BYTES: u64 = 1024 * 1024;
/// Bytes that one search reads: some tens of milliseconds of CPU.
const MAX_TOTAL_BYTES: u64 = 32 * 1024 * 1024;

/// A search as it goes.
struct Search<'a> {
    workspace: &'a Workspace,
    pattern: &'a str,
    hits: Vec<String>,
    entries: usize,
    bytes: u64,
    cut: bool,
}

/// Lines that contain `pattern` as it is written, one a line as `path:number: text`. Links are not
/// followed, and what is not text is skipped.
pub fn search(workspace: &Workspace, pattern: &str, path: &str) -> Result<String, String> {
    if pattern.is_empty() {
        return Err("search: pattern is empty".to_owned());
    }
    let start = workspace.resolve(path)?;
    let metadata = fs::symlink_metadata(&start).map_err(|error| failed("search", path, &error))?;
    let mut search =
        Search { workspace, pattern, hits: Vec::new(), entries: 0, bytes: 0, cut: false };
    if metadata.is_dir() {
        search.walk(start);
    } else if metadata.is_file() {
        search.file(&start, metadata.len());
    }
    Ok(search.answer())
}

impl Search<'_> {
    fn walk(&mut self, start: PathBuf) {
        let mut directories = vec![start];
        while let Some(directory) = directories.pop() {
            // What cannot be read holds nothing that could be found.
            let Ok(entries) = fs::read_dir(&directory) else { continue };
            let mut paths: Vec<PathBuf> = entries
                .filter_map(|entry| entry.ok().map(|entry| entry.path()))
                .take(MAX_ENTRIES)
                .collect();
            paths.sort();
            for path in paths {
                self.entries += 1;
                if self.is_full() {
                    self.cut = true;
                    return;
                }
                match fs::symlink_metadata(&path) {
                    // What git keeps there is found by its own tools.
                    Ok(metadata) if metadata.is_dir() && path.ends_with(".git") => {}
                    Ok(metadata) if metadata.is_dir() => directories.push(path),
                    Ok(metadata) if metadata.is_file() => self.file(&path, metadata.len()),
                    _ => {}
                }
            }
        }
    }

    fn is_full(&self) -> bool {
        self.hits.len() >= MAX_HITS || self.entries > MAX_ENTRIES || self.bytes > MAX_TOTAL_BYTES
    }

    fn file(&mut self, path: &Path, size: u64) {
        if size > MAX_FILE_BYTES {
            return;
        }
        self.bytes += size;
        let Ok(text) = fs::read_to_string(path) else { return };
        for (number, line) in text.lines().enumerate() {
            if !line.contains(self.pattern) {
                continue;
            }
            if self.hits.len() >= MAX_HITS {
                self.cut = true;
                return;
            }
            let shown: String = line.trim().chars().take(MAX_LINE_CHARS).collect();
            let path = self.workspace.relative(path);
            self.hits.push(format!("{path}:{}: {shown}", number + 1));
        }
    }

    fn answer(mut self) -> String {
        if self.hits.is_empty() && !self.cut {
            return "[nothing found]".to_owned();
        }
        if self.cut {
            self.hits.push("[there may be more; search in a smaller place]".to_owned());
        }
        self.hits.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_found_with_their_place() {
        let directory = tempfile::tempdir().unwrap();
        let workspace = Workspace::new(directory.path());
        workspace.write("a/one.txt", "first\n  needle here\n").unwrap();
        workspace.write("two.txt", "a needle").unwrap();
        fs::write(directory.path().join("binary"), b"needle \xff").unwrap();
        assert_eq!(
            search(&workspace, "needle", "").unwrap(),
            "two.txt:1: a needle\na/one.txt:2: needle here"
        );
        assert_eq!(search(&workspace, "needle", "a").unwrap(), "a/one.txt:2: needle here");
        assert_eq!(search(&workspace, "needle", "two.txt").unwrap(), "two.txt:1: a needle");
        assert_eq!(search(&workspace, "absent", ".").unwrap(), "[nothing found]");
    }

    #[test]
    fn what_git_keeps_is_not_searched() {
        let directory = tempfile::tempdir().unwrap();
        let workspace = Workspace::new(directory.path());
        for path in [".git/config", "sub/.git/config", ".gitignore", "a.git/b"] {
            workspace.write(path, "needle").unwrap();
        }
        let found = search(&workspace, "needle", "").unwrap();
        assert_eq!(found, ".gitignore:1: needle\na.git/b:1: needle");
        assert_eq!(search(&workspace, "needle", ".git").unwrap(), ".git/config:1: needle");
    }

    #[test]
    fn the_answer_is_bounded_and_says_so() {
        let directory = tempfile::tempdir().unwrap();
        let workspace = Workspace::new(directory.path());
        workspace.write("many", &"x\n".repeat(1000)).unwrap();
        let answer = search(&workspace, "x", "").unwrap();
        assert_eq!(answer.lines().count(), MAX_HITS + 1);
        assert!(answer.ends_with("smaller place]"), "{answer}");
    }

    #[cfg(unix)]
    #[test]
    fn a_link_in_a_circle_ends() {
        let directory = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(directory.path(), directory.path().join("self")).unwrap();
        let workspace = Workspace::new(directory.path());
        assert_eq!(search(&workspace, "x", "").unwrap(), "[nothing found]");
    }

    #[test]
    fn bad_arguments_are_refused() {
        let workspace = Workspace::new("/workspace");
        assert!(search(&workspace, "", ".").is_err());
        assert!(search(&workspace, "x", "../..").is_err());
    }
}
