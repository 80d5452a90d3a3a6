//! What may not be logged before the run's first line.

/// Holds values back until they may pass.
pub enum Held<T> {
    /// There is no first line yet. Values wait, up to a bound.
    Waiting {
        /// In the order in which they came.
        values: Vec<T>,
        /// Most that wait; what comes then is dropped.
        max: usize,
    },
    /// Values pass.
    Open,
}

impl<T> Held<T> {
    /// Holds back up to `max` values.
    pub fn new(max: usize) -> Self {
        Self::Waiting { values: Vec::new(), max }
    }

    /// Lets values pass from now on. Returns what waited.
    pub fn open(&mut self) -> Vec<T> {
        match std::mem::replace(self, Self::Open) {
            Self::Waiting { values, .. } => values,
            Self::Open => Vec::new(),
        }
    }

    /// The value, if it may pass now.
    pub fn pass(&mut self, value: T) -> Option<T> {
        match self {
            Self::Open => return Some(value),
            Self::Waiting { values, max } if values.len() < *max => values.push(value),
            Self::Waiting { .. } => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_passes_before_the_first_line() {
        let mut held = Held::new(2);
        assert!([1, 2, 3].into_iter().all(|value| held.pass(value).is_none()));
        assert_eq!(held.open(), [1, 2], "the third had no room");
        assert_eq!(held.pass(4), Some(4));
        assert!(held.open().is_empty());
    }
}
