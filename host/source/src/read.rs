//! Reading it, within bounds.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use bulkhead_types::Digest;
use sha2::{Digest as _, Sha256};
use walkdir::WalkDir;

use crate::{File, Language, Source, SourceError};

/// Files that are taken, at most.
pub const MAX_FILES: usize = 2000;

/// Files, directories and links that are looked at, at most: links can make a tree of a few files endless.
pub const MAX_ENTRIES: usize = 10_000;

/// Bytes of all of them together, at most.
pub const MAX_BYTES: u64 = 16 << 20;

/// Directories within each other that are looked into.
pub const MAX_DEPTH: usize = 16;

/// Directories that hold no source code of the agent's.
const SKIPPED: [&str; 2] = ["node_modules", "__pycache__"];

impl Source {
    /// Reads a file, or a directory with all files below it. Hidden files and directories, `node_modules` and
    /// `__pycache__` are left out. Links within the directory are followed, as a mounted volume has them; one that leads out
    /// of it is an error.
    ///
    /// Of a directory, the file to begin with is `agent`, else `main`, else `index`, with an ending of `language`.
    pub fn read(path: &Path, language: Language) -> Result<Self, SourceError> {
        let is_directory = fs::metadata(path).map_err(unreadable(path))?.is_dir();
        let files = if is_directory { tree(path)? } else { vec![one(path)?] };
        let entry = match files.first() {
            Some(only) if !is_directory => only.path.clone(),
            _ => entry(path, &files, language)?,
        };
        let digest = digest(&files);
        let has_source_maps = files.iter().any(has_source_map);
        Ok(Self { entry, files, digest, has_source_maps })
    }
}

/// The comment of a bundler, or the map itself.
fn has_source_map(file: &File) -> bool {
    let text = std::str::from_utf8(&file.contents).unwrap_or_default();
    file.path.ends_with(".map") || text.contains("//# sourceMappingURL=")
}

fn one(path: &Path) -> Result<File, SourceError> {
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.ok_or_else(|| SourceError::Name(path.to_owned()))?.to_owned();
    let contents = contents(path, MAX_BYTES)?.ok_or_else(|| too_large(path))?;
    Ok(File { path: name, contents })
}

fn tree(root: &Path) -> Result<Vec<File>, SourceError> {
    let mut files = Vec::new();
    let mut left = MAX_BYTES;
    let inside = root.canonicalize().map_err(unreadable(root))?;
    let walk = WalkDir::new(root).follow_links(true).max_depth(MAX_DEPTH).into_iter();
    for (seen, found) in walk.filter_entry(|entry| is_source(root, entry.path())).enumerate() {
        if seen == MAX_ENTRIES {
            return Err(SourceError::TooMany(root.to_owned()));
        }
        let found = match found {
            Ok(found) => found,
            // A link that leads nowhere, of an editor for example, is followed before it is left out.
            Err(error) if error.path().is_some_and(|path| !is_source(root, path)) => continue,
            Err(error) => return Err(walk_failed(root, error)),
        };
        if found.path_is_symlink() {
            let to = found.path().canonicalize().map_err(unreadable(found.path()))?;
            if !to.starts_with(&inside) {
                return Err(SourceError::Outside(found.into_path()));
            }
        }
        if found.file_type().is_dir() {
            continue;
        }
        if files.len() == MAX_FILES {
            return Err(SourceError::TooMany(root.to_owned()));
        }
        let path = relative(root, found.path())?;
        let contents = contents(found.path(), left)?.ok_or_else(|| too_large(root))?;
        left -= contents.len() as u64;
        files.push(File { path, contents });
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

/// Whether a path below `root` is not left out. Those below what is left out are not asked for.
fn is_source(root: &Path, path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path == root || !(name.starts_with('.') || SKIPPED.contains(&&*name))
}

/// What is in a file, unless that is more than `max` bytes.
fn contents(path: &Path, max: u64) -> Result<Option<Vec<u8>>, SourceError> {
    // Asked before it is opened, as to open a device may do something, and again, as it may be another one then. To open a
    // pipe is to wait for its other end, unless one says not to.
    let is_file = |about: &fs::Metadata| match about.is_file() {
        true => Ok(()),
        false => Err(SourceError::Special(path.to_owned())),
    };
    is_file(&fs::metadata(path).map_err(unreadable(path))?)?;
    let opened = fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path);
    let file = opened.map_err(unreadable(path))?;
    let about = file.metadata().map_err(unreadable(path))?;
    is_file(&about)?;
    let mut contents = Vec::with_capacity(about.len().min(max) as usize);
    file.take(max + 1).read_to_end(&mut contents).map_err(unreadable(path))?;
    Ok((contents.len() as u64 <= max).then_some(contents))
}

fn relative(root: &Path, path: &Path) -> Result<String, SourceError> {
    let relative = path.strip_prefix(root).unwrap_or(path);
    relative.to_str().map(str::to_owned).ok_or_else(|| SourceError::Name(path.to_owned()))
}

fn entry(root: &Path, files: &[File], language: Language) -> Result<String, SourceError> {
    let names: Vec<String> = language.entries().collect();
    let found = names.iter().find(|name| files.iter().any(|file| file.path == **name));
    found.cloned().ok_or_else(|| SourceError::NoEntry { path: root.to_owned(), names })
}

fn digest(files: &[File]) -> Digest {
    let mut hash = Sha256::new();
    for part in files.iter().flat_map(|file| [file.path.as_bytes(), &file.contents]) {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    Digest(hash.finalize().into())
}

fn too_large(path: &Path) -> SourceError {
    SourceError::TooLarge(path.to_owned())
}

fn unreadable(path: &Path) -> impl Fn(std::io::Error) -> SourceError {
    move |source| SourceError::Unreadable { path: path.to_owned(), source }
}

fn walk_failed(root: &Path, error: walkdir::Error) -> SourceError {
    let path = error.path().map_or_else(|| root.to_owned(), Path::to_owned);
    SourceError::Unreadable { path, source: error.into() }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;

    use bulkhead_types::error::chain;

    use super::*;

    /// A directory with these files.
    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        dir
    }

    fn paths(source: &Source) -> Vec<&str> {
        source.files().iter().map(|file| &*file.path).collect()
    }

    fn error(path: &Path) -> String {
        chain(&Source::read(path, Language::JavaScript).unwrap_err())
    }

    #[test]
    fn a_file_is_its_own_entry() {
        let dir = folder(&[("toast.js", "1"), ("other.js", "2")]);
        let source = Source::read(&dir.path().join("toast.js"), Language::JavaScript).unwrap();
        assert_eq!((source.entry(), paths(&source)), ("toast.js", vec!["toast.js"]));
        assert_eq!(source.files()[0].contents, b"1");
    }

    #[test]
    fn a_directory_is_read_as_far_as_it_is_source_code() {
        let dir = folder(&[
            ("index.js", "0"),
            ("main.ts", "1"),
            ("lib/b.js", "2"),
            ("vendor/x/y.js", "3"),
            (".git/config", "no"),
            (".env", "no"),
            ("node_modules/z/index.js", "no"),
            ("lib/__pycache__/a.pyc", "no"),
        ]);
        let source = Source::read(dir.path(), Language::JavaScript).unwrap();
        assert_eq!(paths(&source), ["index.js", "lib/b.js", "main.ts", "vendor/x/y.js"]);
        assert_eq!(source.entry(), "main.ts", "before index.js");
        let text = Source::read(dir.path(), Language::Python).unwrap_err().to_string();
        assert!(text.ends_with("has none of agent.py, main.py, index.py"), "{text}");
    }

    #[test]
    fn the_digest_is_that_of_paths_and_contents() {
        let digest = |files: &[(&str, &str)]| {
            Source::read(folder(files).path(), Language::JavaScript).unwrap().digest()
        };
        let one = digest(&[("agent.js", "ab"), ("b.js", "c")]);
        assert_eq!(one, digest(&[("b.js", "c"), ("agent.js", "ab")]));
        for other in [
            &[("agent.js", "a"), ("b.js", "bc")][..],
            &[("agent.js", "ab"), ("c.js", "c")],
            &[("agent.js", "ab")],
        ] {
            assert_ne!(one, digest(other), "{other:?}");
        }
    }

    #[test]
    fn links_are_followed_as_a_mounted_volume_has_them() {
        let dir = folder(&[("..data/agent.js", "1")]);
        symlink("..data/agent.js", dir.path().join("agent.js")).unwrap();
        let source = Source::read(dir.path(), Language::JavaScript).unwrap();
        assert_eq!((paths(&source), &*source.files()[0].contents), (vec!["agent.js"], &b"1"[..]));
        // An editor's, which is left out.
        symlink("somebody@somewhere.1", dir.path().join(".#agent.js")).unwrap();
        assert!(Source::read(dir.path(), Language::JavaScript).is_ok());
        symlink("nowhere", dir.path().join("b.js")).unwrap();
        assert!(error(dir.path()).contains("b.js: "), "{}", error(dir.path()));
        fs::remove_file(dir.path().join("b.js")).unwrap();
        symlink(".", dir.path().join("here")).unwrap();
        assert!(error(dir.path()).contains("loop"), "{}", error(dir.path()));
    }

    #[test]
    fn a_link_that_leads_out_is_refused_and_nothing_of_it_read() {
        let dir = folder(&[("source/agent.js", "1"), ("secret.js", "2"), ("more/b.js", "3")]);
        let source = dir.path().join("source");
        for (name, to) in [("a.js", "../secret.js"), ("more", "../more")] {
            symlink(to, source.join(name)).unwrap();
            let text = error(&source);
            assert!(
                text.ends_with(&format!("{name} is a link that leads out of the directory")),
                "{text}"
            );
            fs::remove_file(source.join(name)).unwrap();
        }
        symlink("..", source.join("up")).unwrap();
        assert!(error(&source).contains("loop"), "{}", error(&source));
        fs::remove_file(source.join("up")).unwrap();
        assert!(Source::read(&source, Language::JavaScript).is_ok());
        // The path that the operator configures may be a link.
        symlink("source", dir.path().join("current")).unwrap();
        assert!(Source::read(&dir.path().join("current"), Language::JavaScript).is_ok());
    }

    #[test]
    fn links_make_no_endless_tree_of_a_few_files() {
        let dir = folder(&[("agent.js", "1")]);
        for level in 0..10 {
            let own = dir.path().join(format!("d{level}"));
            fs::create_dir(&own).unwrap();
            for name in 0..10 {
                symlink(format!("../d{}", level + 1), own.join(name.to_string())).unwrap();
            }
        }
        fs::create_dir(dir.path().join("d10")).unwrap();
        assert!(error(dir.path()).contains("10000 entries"), "{}", error(dir.path()));
    }

    #[test]
    fn what_is_beyond_the_bounds_is_named() {
        let dir = folder(&[("agent.js", "1")]);
        let path = dir.path().join("large.js");
        fs::File::create(&path).unwrap().set_len(MAX_BYTES + 1).unwrap();
        assert!(error(&path).ends_with("large.js has more than 16 MiB"), "{}", error(&path));
        assert!(error(dir.path()).ends_with("has more than 16 MiB"));
        fs::File::create(&path).unwrap().set_len(MAX_BYTES).unwrap();
        assert!(Source::read(&path, Language::JavaScript).is_ok());
        assert!(error(dir.path()).ends_with("has more than 16 MiB"), "together they have more");
        fs::remove_file(&path).unwrap();
        for n in 0..MAX_FILES {
            fs::write(dir.path().join(format!("{n}.js")), "").unwrap();
        }
        assert!(
            error(dir.path()).ends_with("has more than 2000 files, or more than 10000 entries")
        );
    }

    #[test]
    fn what_is_no_file_is_not_waited_for() {
        let dir = folder(&[("agent.js", "1")]);
        let pipe = dir.path().join("pipe.js");
        let status = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
        assert!(status.success());
        assert!(error(&pipe).ends_with("pipe.js is neither a regular file nor a directory"));
        assert!(error(dir.path()).contains("pipe.js is neither"));
        let missing = dir.path().join("missing.js");
        assert!(error(&missing).contains("missing.js: No such file"), "{}", error(&missing));
    }

    #[test]
    fn a_name_that_is_no_text_is_refused() {
        let dir = folder(&[("agent.js", "1")]);
        let name = std::ffi::OsStr::from_bytes(b"a\xff.js");
        fs::write(dir.path().join(name), "").unwrap();
        assert!(error(dir.path()).ends_with("has a name that is no UTF-8"));
    }
}
