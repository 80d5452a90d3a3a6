//! What runs source code.

use std::path::Path;

/// Names without their endings of the file to begin with in a directory.
const ENTRIES: [&str; 3] = ["agent", "main", "index"];

/// A language that has a runner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Language {
    /// JavaScript and TypeScript.
    JavaScript,
    /// Python.
    Python,
}

impl Language {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::JavaScript, Self::Python];

    /// Its name in the configuration, and that of its runner's file without `.wasm`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::JavaScript => "js",
            Self::Python => "python",
        }
    }

    /// The endings of its files, the most usual first.
    pub fn extensions(self) -> &'static [&'static str] {
        match self {
            Self::JavaScript => &["js", "mjs", "ts", "mts"],
            Self::Python => &["py"],
        }
    }

    /// The language of a name in the configuration.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|language| language.as_str() == name)
    }

    /// The language of source code: of a file by its ending, of a directory by the file to begin with in it.
    pub fn of_path(path: &Path) -> Option<Self> {
        let begins_with = |language: &Self| {
            let mut entries = language.entries();
            entries.any(|name| path.join(name).is_file())
        };
        Self::of_file(path).or_else(|| Self::ALL.into_iter().find(begins_with))
    }

    /// Names of the file to begin with in a directory, the first that is there.
    pub(crate) fn entries(self) -> impl Iterator<Item = String> {
        let named = move |name: &'static str| {
            self.extensions().iter().map(move |extension| format!("{name}.{extension}"))
        };
        ENTRIES.into_iter().flat_map(named)
    }

    /// The language of a file, by its ending.
    pub fn of_file(path: &Path) -> Option<Self> {
        let extension = path.extension()?.to_str()?;
        Self::ALL.into_iter().find(|language| language.extensions().contains(&extension))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_language_is_known_by_its_name_and_by_its_files() {
        for language in Language::ALL {
            assert_eq!(Language::of_name(language.as_str()), Some(language));
            for extension in language.extensions() {
                let file = format!("a/agent.{extension}");
                assert_eq!(Language::of_file(Path::new(&file)), Some(language), "{file}");
            }
        }
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Language::of_path(dir.path()), None);
        std::fs::write(dir.path().join("main.py"), "").unwrap();
        assert_eq!(Language::of_path(dir.path()), Some(Language::Python));
        assert_eq!(Language::of_name("ruby"), None);
        for other in ["agent.rb", "agent", ".js", "js"] {
            assert_eq!(Language::of_file(Path::new(other)), None, "{other}");
        }
    }
}
