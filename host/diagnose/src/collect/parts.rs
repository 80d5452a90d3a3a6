//! Records of ours that came in parts (`container.line_part`), put together again.

use std::collections::VecDeque;

use crate::read::bounds::LINE_BYTES;
use crate::read::line::Part;

/// Records of which some parts are missing. Their parts are written one after the other, so few are enough.
const MAX_OPEN: usize = 16;

/// Parts of one record. More make no record that would be looked at.
const MAX_PARTS: u32 = 1 << 10;

/// Records of which some parts are missing, the oldest first.
#[derive(Default)]
pub struct Parts(VecDeque<Open>);

struct Open {
    run: Box<str>,
    first: u64,
    /// From part 2 on.
    texts: Vec<Option<Box<str>>>,
}

/// A whole record.
pub struct Record {
    /// Its line, without its number.
    pub text: String,
    /// The number of its first part.
    pub seq: u64,
}

impl Parts {
    /// Takes a part, and gives the record when it was the last one that was missing.
    pub fn take(&mut self, part: Part) -> Option<Record> {
        let run = part.stamp.run?;
        let first = part.stamp.seq?.checked_sub(u64::from(part.part.checked_sub(1)?))?;
        if !(2..=part.parts).contains(&part.part) || part.parts > MAX_PARTS {
            return None;
        }
        let known = self.0.iter().position(|open| open.first == first && open.run == run);
        let at = known.unwrap_or_else(|| {
            if self.0.len() == MAX_OPEN {
                self.0.pop_front();
            }
            let texts = vec![None; part.parts as usize - 1];
            self.0.push_back(Open { run, first, texts });
            self.0.len() - 1
        });
        let open = &mut self.0[at];
        let place = open.texts.get_mut(part.part as usize - 2)?;
        place.get_or_insert(part.text);
        let bytes: usize = open.texts.iter().flatten().map(|text| text.len()).sum();
        let is_whole = open.texts.iter().all(Option::is_some);
        if !is_whole && bytes <= LINE_BYTES {
            return None;
        }
        let open = self.0.remove(at)?;
        is_whole.then(|| Record { text: open.texts.into_iter().flatten().collect(), seq: first })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read::stamp::Stamp;

    fn part(run: &str, seq: u64, part: u32, parts: u32, text: &str) -> Part {
        let stamp = Stamp { run: Some(run.into()), seq: Some(seq), ..Stamp::default() };
        Part { stamp, line: 1, part, parts, text: text.into() }
    }

    #[test]
    fn parts_in_any_order_and_twice_are_one_record() {
        let mut parts = Parts::default();
        assert!(parts.take(part("r", 9, 4, 4, "c")).is_none());
        assert!(parts.take(part("s", 7, 2, 3, "x")).is_none());
        assert!(parts.take(part("r", 9, 4, 4, "c")).is_none());
        assert!(parts.take(part("r", 7, 2, 4, "a")).is_none());
        let record = parts.take(part("r", 8, 3, 4, "b")).expect("all are there");
        assert_eq!((&*record.text, record.seq), ("abc", 6));
        assert!(parts.take(part("s", 8, 3, 3, "y")).is_some_and(|record| record.text == "xy"));
    }

    #[test]
    fn what_cannot_be_and_what_never_comes_has_a_bound() {
        let mut parts = Parts::default();
        for (number, of) in [(0, 2), (1, 2), (3, 2), (2, u32::MAX), (2, 1)] {
            assert!(parts.take(part("r", 5, number, of, "x")).is_none());
        }
        assert!(parts.0.is_empty());
        for seq in 0..1000 {
            parts.take(part("r", seq * 10 + 1, 2, 3, "x"));
        }
        assert_eq!(parts.0.len(), MAX_OPEN);
        let long = "x".repeat(LINE_BYTES + 1);
        assert!(parts.take(part("s", 1, 2, 3, &long)).is_none());
        assert!(parts.0.iter().all(|open| &*open.run == "r"));
    }
}
