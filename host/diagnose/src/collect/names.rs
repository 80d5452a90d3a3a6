//! Texts that come again and again, kept once.

use std::collections::HashMap;

/// A text that was kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(u32);

/// A bounded set of texts. When it is full, new ones become `(others)`.
#[derive(Debug)]
pub struct Names {
    ids: HashMap<Box<str>, Name>,
    texts: Vec<Box<str>>,
    max: usize,
}

impl Names {
    /// An empty set for so many texts.
    pub fn with_max(max: usize) -> Self {
        let mut names = Self { ids: HashMap::new(), texts: Vec::new(), max: max + 1 };
        names.keep("(others)");
        names
    }

    /// Keeps a text.
    pub fn keep(&mut self, text: &str) -> Name {
        if let Some(name) = self.ids.get(text) {
            return *name;
        }
        if self.texts.len() >= self.max {
            return Name(0);
        }
        let name = Name(u32::try_from(self.texts.len()).unwrap_or(0));
        self.texts.push(text.into());
        self.ids.insert(text.into(), name);
        name
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
        let (a, b, c) = (names.keep("a"), names.keep("b"), names.keep("c"));
        assert_eq!([a, b, c].map(|name| names.text(name)), ["a", "b", "(others)"]);
        assert_eq!(names.keep("a"), a);
        assert_eq!(names.keep("d"), c);
    }
}
