//! The tables of [`crate::rules`], made ready for looking up.

use std::collections::HashMap;
use std::sync::LazyLock;

use aho_corasick::{AhoCorasick, MatchKind};

use crate::rules::{SIGNS, SignSpec, Source};

/// Look-up of signs.
pub struct Tables {
    events: HashMap<&'static [u8], Vec<&'static SignSpec>>,
    anchors: AhoCorasick,
    texts: Vec<&'static SignSpec>,
}

static TABLES: LazyLock<Tables> = LazyLock::new(Tables::build);

/// The tables.
pub fn tables() -> &'static Tables {
    &TABLES
}

impl Tables {
    fn build() -> Self {
        let mut events: HashMap<&[u8], Vec<&SignSpec>> = HashMap::new();
        let (mut texts, mut anchors) = (Vec::new(), Vec::new());
        for spec in SIGNS {
            match spec.source {
                Source::Event { name, .. } => events.entry(name.as_bytes()).or_default().push(spec),
                Source::Text { parts, .. } => {
                    texts.push(spec);
                    anchors.push(parts[0]);
                }
            }
        }
        let anchors = AhoCorasick::builder().match_kind(MatchKind::Standard).build(anchors);
        Self { events, anchors: anchors.expect("the tables hold a few short texts"), texts }
    }

    /// Signs that lines of this event can show.
    pub fn of_event(&self, name: &[u8]) -> Option<&[&'static SignSpec]> {
        self.events.get(name).map(Vec::as_slice)
    }

    /// Signs that this text shows.
    pub fn of_text(&self, text: &[u8]) -> Vec<&'static SignSpec> {
        let mut found: Vec<&'static SignSpec> = Vec::new();
        for hit in self.anchors.find_overlapping_iter(text) {
            let spec = self.texts[hit.pattern().as_usize()];
            let Source::Text { parts, .. } = spec.source else { continue };
            let all =
                || parts.iter().all(|part| memchr::memmem::find(text, part.as_bytes()).is_some());
            if !found.iter().any(|known| known.sign == spec.sign) && all() {
                found.push(spec);
            }
        }
        found
    }

    /// Whether a text may show a sign.
    pub fn may_show(&self, text: &[u8]) -> bool {
        self.anchors.is_match(text)
    }
}
