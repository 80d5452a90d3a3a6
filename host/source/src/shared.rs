//! One copy of what is the same.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::{Source, SourceCode, SourceError};

/// What was read, as long as somebody has it. One entry for each path; those who ask have a configured one.
#[derive(Debug, Default)]
pub struct Sources(Mutex<HashMap<PathBuf, Weak<Source>>>);

impl Sources {
    /// Reads source code again, see [`Source::read`]. If it is what was read last from there, it is the same copy. Waits
    /// for the disk.
    pub fn read(&self, code: &SourceCode) -> Result<Arc<Source>, SourceError> {
        let SourceCode { path, language } = code;
        let read = Arc::new(Source::read(path, *language)?);
        let mut known = self.0.lock();
        let last = known.get(path.as_path()).and_then(Weak::upgrade);
        if let Some(last) = last.filter(|last| **last == *read) {
            return Ok(last);
        }
        known.insert(path.clone(), Arc::downgrade(&read));
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::Language;

    #[test]
    fn the_same_code_is_held_once_and_an_edit_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.js");
        let sources = Sources::default();
        let code = SourceCode { path: path.clone(), language: Language::JavaScript };
        fs::write(&path, "1").unwrap();
        let first = sources.read(&code).unwrap();
        assert!(Arc::ptr_eq(&first, &sources.read(&code).unwrap()));
        fs::write(&path, "2").unwrap();
        let second = sources.read(&code).unwrap();
        assert_eq!(
            (&*first.files()[0].contents, &*second.files()[0].contents),
            (&b"1"[..], &b"2"[..])
        );
        assert_ne!(first.digest(), second.digest());
    }
}
