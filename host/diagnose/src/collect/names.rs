//! Texts that come again and again, kept once.

use std::collections::HashMap;

/// A text that was kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(u32);

/// A bounded set of texts.
#[derive(Debug)]
pub struct Names {
    ids: HashMap<Box<str>, Name>,
    texts: Vec<Box<str>>,
    max: usize,
}

impl Names {
    /// An empty set for so many texts.
    pub fn with_max(max: usize) -> Self {
        Self { ids: HashMap::new(), texts: Vec::new(), max }
    }

    /// Keeps a text. None when the set is full and does not have it.
    pub fn keep(&mut self, text: &str) -> Option<Name> {
        if let Some(name) = self.ids.get(text) {
            return Some(*name);
        }
        if self.texts.len() >= self.max {
            return None;
        }
        let name = Name(u32::try_from(self.texts.len()).ok()?);
        self.texts.push(text.into());
        self.ids.insert(text.into(), name);
        Some(name)
    }

    /// The text.
    pub fn text(&self, name: Name) -> &str {
        &self.texts[name.0 as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_set_takes_no_more() {
        let mut names = Names::with_max(2);
        let (a, b) = (names.keep("a").unwrap(), names.keep("b").unwrap());
        assert_eq!([a, b].map(|name| names.text(name)), ["a", "b"]);
        assert_eq!(names.keep("c"), None);
        assert_eq!(names.keep("a"), Some(a));
    }
}
