//! A credential that may change while the host runs.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bulkhead_types::Secret;

/// A file is looked at once in this time, at most.
const PACE: Duration = Duration::from_secs(1);

/// Reads a credential anew. The error says why it could not.
pub type ReadCredential = Arc<dyn Fn() -> Result<Secret, String> + Send + Sync>;

/// A credential.
#[derive(Clone, Default)]
pub enum Credential {
    /// There is none.
    #[default]
    None,
    /// It stays what it is.
    Fixed(Secret),
    /// It is read again and again.
    Read(Arc<Reading>),
}

/// A credential that is read from where it may change.
pub struct Reading {
    read: ReadCredential,
    last: Mutex<Last>,
}

struct Last {
    value: Secret,
    at: Instant,
    /// The last try failed, and that was said.
    failed: bool,
}

impl Credential {
    /// One that was just read, and is read again with `read`.
    pub fn read(value: Secret, read: ReadCredential) -> Self {
        let last = Last { value, at: Instant::now(), failed: false };
        Self::Read(Arc::new(Reading { read, last: Mutex::new(last) }))
    }

    /// Its value now. It may read a file, once a second at most; when that fails the value stays and a warning says why.
    pub fn current(&self) -> Option<Secret> {
        match self {
            Self::None => None,
            Self::Fixed(value) => Some(value.clone()),
            Self::Read(reading) => Some(reading.current(PACE)),
        }
    }

    /// Its value, read now. For a server that refuses the current one.
    pub fn renewed(&self) -> Option<Secret> {
        match self {
            Self::Read(reading) => Some(reading.current(Duration::ZERO)),
            _ => self.current(),
        }
    }
}

impl Reading {
    fn current(&self, pace: Duration) -> Secret {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.at.elapsed() >= pace {
            last.at = Instant::now();
            match (self.read)() {
                Ok(value) => (last.value, last.failed) = (value, false),
                Err(why) => {
                    if !std::mem::replace(&mut last.failed, true) {
                        tracing::warn!(
                            "a credential cannot be read again, the last one stays: {why}"
                        );
                    }
                }
            }
        }
        last.value.clone()
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Fixed(_) => "Fixed",
            Self::Read(_) => "Read",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_cannot_be_read_again_stays_and_a_new_one_counts() {
        let next = Arc::new(Mutex::new(Ok::<_, String>("one")));
        let file = Arc::clone(&next);
        let read = move || file.lock().unwrap().clone().map(|text| Secret::from(text.to_owned()));
        let credential = Credential::read("zero".to_owned().into(), Arc::new(read));
        let renewed = || credential.renewed().unwrap().expose().to_owned();
        // Not so soon.
        assert_eq!(credential.current().unwrap().expose(), "zero");
        assert_eq!(renewed(), "one");
        *next.lock().unwrap() = Err("gone".into());
        assert_eq!(renewed(), "one");
        *next.lock().unwrap() = Ok("two");
        assert_eq!(renewed(), "two");
    }

    #[test]
    fn it_is_never_shown() {
        let fixed = Credential::Fixed("hunter2".to_owned().into());
        assert_eq!(format!("{fixed:?} {:?}", Credential::None), "Fixed None");
    }
}
