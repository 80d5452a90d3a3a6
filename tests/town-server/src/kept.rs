//! A list with a bound.

use std::collections::VecDeque;

/// Items that a list keeps at most. The oldest go first.
const MAX: usize = 100_000;

/// The last items of a list, and how many there were.
#[derive(Debug, Clone)]
pub struct Kept<T> {
    items: VecDeque<T>,
    seen: u64,
}

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self { items: VecDeque::new(), seen: 0 }
    }
}

impl<T> Kept<T> {
    /// Adds an item and returns its number, from 0 upward.
    pub fn push(&mut self, item: T) -> u64 {
        if self.items.len() == MAX {
            self.items.pop_front();
        }
        self.items.push_back(item);
        self.seen += 1;
        self.seen - 1
    }

    /// The item with this number, if it is still there.
    pub fn get_mut(&mut self, number: u64) -> Option<&mut T> {
        let gone = self.seen - self.items.len() as u64;
        self.items.get_mut(usize::try_from(number.checked_sub(gone)?).ok()?)
    }

    /// Those that are still there, the oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &T> {
        self.items.iter()
    }

    /// How many there were, those that are gone as well.
    pub fn seen(&self) -> u64 {
        self.seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_go_first_and_numbers_stay() {
        let mut kept = Kept::default();
        for number in 0..=MAX as u64 {
            assert_eq!(kept.push(number), number);
        }
        assert_eq!((kept.seen(), kept.iter().count()), (MAX as u64 + 1, MAX));
        assert_eq!(kept.get_mut(0), None);
        assert_eq!(kept.get_mut(1), Some(&mut 1));
    }
}
