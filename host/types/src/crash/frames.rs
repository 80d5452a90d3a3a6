//! The frames of a backtrace, shared by all that report it.

use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::{RawValue, to_raw_value};

use super::Frame;

/// Frames that do not change any more, innermost first.
///
/// A clone is a count: an agent that fails the same way a thousand times has one list, and one text of it. The
/// text is most of a crash record's, so it is written once, for the log and the database together.
#[derive(Clone, Default)]
pub struct Frames(Option<Arc<Shared>>);

struct Shared {
    list: Vec<Frame>,
    json: OnceLock<Option<Box<RawValue>>>,
}

impl Frames {
    /// Bytes that all of it takes, roughly: the text is as long as the list.
    pub fn weight(&self) -> usize {
        let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let texts = |frame: &Frame| text(&frame.function) + text(&frame.module) + text(&frame.file);
        2 * self.iter().map(|frame| size_of::<Frame>() + texts(frame)).sum::<usize>()
    }
}

impl Deref for Frames {
    type Target = [Frame];

    fn deref(&self) -> &[Frame] {
        self.0.as_ref().map_or(&[], |shared| &shared.list)
    }
}

impl From<Vec<Frame>> for Frames {
    fn from(list: Vec<Frame>) -> Self {
        let is_empty = list.is_empty();
        Self((!is_empty).then(|| Arc::new(Shared { list, json: OnceLock::new() })))
    }
}

impl FromIterator<Frame> for Frames {
    fn from_iter<I: IntoIterator<Item = Frame>>(frames: I) -> Self {
        frames.into_iter().collect::<Vec<_>>().into()
    }
}

impl<'a> IntoIterator for &'a Frames {
    type Item = &'a Frame;
    type IntoIter = std::slice::Iter<'a, Frame>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl PartialEq for Frames {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Frames {}

impl fmt::Debug for Frames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl Serialize for Frames {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let json = self.0.as_ref().and_then(|shared| {
            shared.json.get_or_init(|| to_raw_value(&shared.list).ok()).as_deref()
        });
        match json {
            Some(json) => json.serialize(serializer),
            None => (**self).serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Frames {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::deserialize(deserializer).map(Self::from)
    }
}
