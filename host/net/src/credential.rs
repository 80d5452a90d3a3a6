//! A credential, and when it is read again.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bulkhead_types::Secret;
use parking_lot::Mutex;
use tokio::time::Instant;

/// One that was read is not read again within this time, unless the server refuses it.
const FRESH: Duration = Duration::from_secs(1);

/// Reads a credential again: `Err` says why it could not.
pub type ReadCredential = Arc<dyn Fn() -> Result<Option<Secret>, String> + Send + Sync>;

/// A credential. Cheap to clone; the clones share what was read.
#[derive(Clone, Default)]
pub struct Credential(Source);

#[derive(Clone, Default)]
enum Source {
    #[default]
    None,
    Fixed(Secret),
    Read(Arc<Reading>),
}

struct Reading {
    /// For the log.
    name: String,
    read: ReadCredential,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    value: Option<Secret>,
    /// It was read at least once, be it none.
    is_known: bool,
    read_at: Option<Instant>,
    failure: Option<String>,
}

impl Credential {
    /// One that stays.
    pub fn fixed(value: Secret) -> Self {
        Self(Source::Fixed(value))
    }

    /// One that may change: it is read when it is used, once a second at most, and when a server refused it. One that
    /// cannot be read leaves the last one in place, with one warning that has this `name`.
    pub fn read(name: impl Into<String>, read: ReadCredential) -> Self {
        let state = Mutex::default();
        Self(Source::Read(Arc::new(Reading { name: name.into(), read, state })))
    }

    /// The value now. An error says why there is none: it was never read, and cannot be.
    pub fn current(&self) -> Result<Option<Secret>, String> {
        match &self.0 {
            Source::None => Ok(None),
            Source::Fixed(value) => Ok(Some(value.clone())),
            Source::Read(reading) => reading.current(),
        }
    }

    /// Another one than a server refused, if there is one by now.
    pub fn other_than(&self, refused: Option<&Secret>) -> Option<Secret> {
        match &self.0 {
            Source::None | Source::Fixed(_) => None,
            Source::Read(reading) => reading.other_than(refused),
        }
    }
}

impl Reading {
    fn current(&self) -> Result<Option<Secret>, String> {
        let mut state = self.state.lock();
        if state.read_at.is_none_or(|at| at.elapsed() >= FRESH) {
            self.read(&mut state);
        }
        match (&state.failure, state.is_known) {
            (Some(why), false) => Err(why.clone()),
            _ => Ok(state.value.clone()),
        }
    }

    fn other_than(&self, refused: Option<&Secret>) -> Option<Secret> {
        let mut state = self.state.lock();
        // Another caller may have read it in the meantime.
        if state.value.as_ref() == refused {
            self.read(&mut state);
        }
        state.value.clone().filter(|value| Some(value) != refused)
    }

    fn read(&self, state: &mut State) {
        state.read_at = Some(Instant::now());
        match (self.read)() {
            Ok(value) => {
                state.value = value;
                state.is_known = true;
                state.failure = None;
            }
            Err(why) if state.failure.as_ref() == Some(&why) => {}
            Err(why) => {
                let name = &*self.name;
                tracing::warn!(name, error = why, "a credential cannot be read");
                state.failure = Some(why);
            }
        }
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Source::None => "None",
            Source::Fixed(_) => "Fixed",
            Source::Read(_) => "Read",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Contents = Arc<Mutex<Result<Option<Secret>, String>>>;

    fn credential() -> (Credential, Contents) {
        let contents: Contents = Arc::new(Mutex::new(Ok(Some(secret("one")))));
        let file = Arc::clone(&contents);
        let read: ReadCredential = Arc::new(move || file.lock().clone());
        (Credential::read("main", read), contents)
    }

    fn secret(text: &str) -> Secret {
        text.to_owned().into()
    }

    #[tokio::test(start_paused = true)]
    async fn one_is_read_once_a_second() {
        let (credential, contents) = credential();
        assert_eq!(credential.current(), Ok(Some(secret("one"))));
        *contents.lock() = Ok(Some(secret("two")));
        assert_eq!(credential.current(), Ok(Some(secret("one"))));
        tokio::time::advance(FRESH).await;
        assert_eq!(credential.current(), Ok(Some(secret("two"))));
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_was_refused_is_read_at_once() {
        let (credential, contents) = credential();
        let one = credential.current().unwrap();
        assert_eq!(credential.other_than(one.as_ref()), None);
        *contents.lock() = Ok(Some(secret("two")));
        assert_eq!(credential.other_than(one.as_ref()), Some(secret("two")));
        // The next one that was refused finds it read.
        *contents.lock() = Err("gone".into());
        assert_eq!(credential.other_than(one.as_ref()), Some(secret("two")));
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_cannot_be_read_leaves_the_last_in_place() {
        let (credential, contents) = credential();
        *contents.lock() = Err("no such file".into());
        assert_eq!(credential.current(), Err("no such file".into()));
        *contents.lock() = Ok(None);
        tokio::time::advance(FRESH).await;
        assert_eq!(credential.current(), Ok(None));
        *contents.lock() = Err("no such file".into());
        tokio::time::advance(FRESH).await;
        assert_eq!(credential.current(), Ok(None));
    }

    #[test]
    fn no_value_is_in_debug_output() {
        let fixed = Credential::fixed(secret("hunter2"));
        assert_eq!(format!("{fixed:?} {:?}", Credential::default()), "Fixed None");
    }
}
