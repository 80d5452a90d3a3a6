//! Random passes: names that nobody guesses, each for something, good for a while.
//!
//! ```text
//!  issue ─▶ 64 hex digits ─▶ shown: as often as you like, or taken: once
//!              └─ gone: after its time, or when too many newer ones came
//! ```
//!
//! Sessions are passes that last, tickets those that are taken. They are in memory only, and end with the process.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use subtle::ConstantTimeEq;

/// Passes for a `T` each.
pub(crate) struct Passes<T> {
    lasts: Duration,
    most: usize,
    issued: Mutex<HashMap<String, Pass<T>>>,
}

struct Pass<T> {
    since: Instant,
    opens: T,
}

impl<T> Passes<T> {
    /// Each is good for so long. Of more than `most` the oldest makes room.
    pub(crate) fn new(lasts: Duration, most: usize) -> Self {
        Self { lasts, most, issued: Mutex::default() }
    }

    /// Issues one, and returns its name. `None`: the system has no randomness.
    pub(crate) fn issue(&self, opens: T) -> Option<String> {
        let name = random()?;
        let mut issued = self.issued.lock();
        issued.retain(|_, pass| pass.since.elapsed() < self.lasts);
        if issued.len() >= self.most {
            let oldest = issued.iter().min_by_key(|(_, pass)| pass.since);
            if let Some(oldest) = oldest.map(|(name, _)| name.clone()) {
                issued.remove(&oldest);
            }
        }
        issued.insert(name.clone(), Pass { since: Instant::now(), opens });
        Some(name)
    }

    /// What the pass of this name opens. It stays good.
    pub(crate) fn shown(&self, name: &str) -> Option<T>
    where
        T: Clone,
    {
        let issued = self.issued.lock();
        let pass = issued.get(name).filter(|pass| pass.since.elapsed() < self.lasts)?;
        Some(pass.opens.clone())
    }

    /// What the pass of this name opened. It is good no more.
    pub(crate) fn take(&self, name: &str) -> Option<T> {
        let pass =
            self.issued.lock().remove(name).filter(|pass| pass.since.elapsed() < self.lasts)?;
        Some(pass.opens)
    }

    /// Passes that are kept, those among them whose time is over.
    pub(crate) fn count(&self) -> usize {
        self.issued.lock().len()
    }
}

/// 32 random bytes as text.
pub(crate) fn random() -> Option<String> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).ok()?;
    Some(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Whether what was shown is the secret, compared in constant time. The secret's length is none.
pub(crate) fn is_secret(shown: &[u8], secret: &[u8]) -> bool {
    shown.ct_eq(secret).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LASTS: Duration = Duration::from_secs(60);

    #[test]
    fn a_pass_opens_until_it_is_taken() {
        let passes = Passes::new(LASTS, 3);
        let (one, two) = (passes.issue(1).unwrap(), passes.issue(2).unwrap());
        assert!(one.len() == 64 && one != two);
        assert_eq!((passes.shown(&one), passes.shown(&one)), (Some(1), Some(1)));
        assert_eq!((passes.take(&one), passes.take(&one)), (Some(1), None));
        for wrong in ["", &one, &two[1..]] {
            assert_eq!((passes.shown(wrong), passes.take(wrong)), (None, None), "{wrong}");
        }
        assert_eq!(passes.take(&two), Some(2));
    }

    #[test]
    fn the_oldest_of_too_many_makes_room() {
        let passes = Passes::new(LASTS, 3);
        let names: Vec<_> = (0..4).map(|n| passes.issue(n).unwrap()).collect();
        let good: Vec<_> = names.iter().map(|name| passes.shown(name)).collect();
        assert_eq!((good, passes.count()), (vec![None, Some(1), Some(2), Some(3)], 3));
    }

    #[test]
    fn one_whose_time_is_over_opens_nothing() {
        let passes = Passes::new(LASTS, 3);
        let Some(past) = Instant::now().checked_sub(LASTS) else { return };
        let (old, older) = (passes.issue(1).unwrap(), passes.issue(2).unwrap());
        passes.issued.lock().values_mut().for_each(|pass| pass.since = past);
        assert_eq!((passes.shown(&old), passes.take(&older)), (None, None));
        passes.issue(3).unwrap();
        assert_eq!(passes.count(), 1);
    }

    #[test]
    fn only_the_whole_secret_is_one() {
        assert!(is_secret(b"hunter2", b"hunter2"));
        for wrong in [&b""[..], b"hunter", b"hunter22", b"Hunter2"] {
            assert!(!is_secret(wrong, b"hunter2"), "{wrong:?}");
        }
    }
}
