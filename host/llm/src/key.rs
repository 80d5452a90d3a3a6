//! Keys, and when they are read again.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bulkhead_types::Secret;
use tokio::time::Instant;

/// A key that was read is not read again within this time, unless the server refuses it.
const FRESH: Duration = Duration::from_secs(1);

/// Reads the key again: `Err` says why it could not.
pub type ReadKey = Arc<dyn Fn() -> Result<Option<Secret>, String> + Send + Sync>;

/// Where an endpoint's key comes from.
pub enum Key {
    /// There is none.
    None,
    /// It stays.
    Fixed(Secret),
    /// It is read from a file that may change: once a second at most when a call begins, and again after 401; a key
    /// that cannot be read leaves the last one in place (one warning per change). Where there is no last one, calls
    /// fail.
    Read(ReadKey),
}

/// The key of an endpoint.
pub(crate) struct Keys {
    name: Arc<str>,
    source: Source,
}

enum Source {
    Fixed(Option<Secret>),
    Read(ReadKey, Mutex<State>),
}

#[derive(Default)]
struct State {
    key: Option<Secret>,
    /// A key was read at least once, be it none.
    is_known: bool,
    read_at: Option<Instant>,
    failure: Option<String>,
}

impl Keys {
    pub(crate) fn new(name: Arc<str>, key: Key) -> Self {
        let source = match key {
            Key::None => Source::Fixed(None),
            Key::Fixed(key) => Source::Fixed(Some(key)),
            Key::Read(read) => Source::Read(read, Mutex::default()),
        };
        Self { name, source }
    }

    /// The key for a call that begins. An error says why there is none.
    pub(crate) fn current(&self) -> Result<Option<Secret>, String> {
        let (read, state) = match &self.source {
            Source::Fixed(key) => return Ok(key.clone()),
            Source::Read(read, state) => (read, state),
        };
        let mut state = lock(state);
        if state.read_at.is_none_or(|at| at.elapsed() >= FRESH) {
            self.read(read, &mut state);
        }
        match (&state.failure, state.is_known) {
            (Some(why), false) => Err(why.clone()),
            _ => Ok(state.key.clone()),
        }
    }

    /// Another key than the one that the server refused, if there is one by now.
    pub(crate) fn other_than(&self, refused: Option<&Secret>) -> Option<Secret> {
        let Source::Read(read, state) = &self.source else { return None };
        let mut state = lock(state);
        // Another call may have read it in the meantime.
        if state.key.as_ref() == refused {
            self.read(read, &mut state);
        }
        state.key.clone().filter(|key| Some(key) != refused)
    }

    fn read(&self, read: &ReadKey, state: &mut State) {
        state.read_at = Some(Instant::now());
        match read() {
            Ok(key) => {
                state.key = key;
                state.is_known = true;
                state.failure = None;
            }
            Err(why) if state.failure.as_ref() == Some(&why) => {}
            Err(why) => {
                let endpoint = &*self.name;
                tracing::warn!(endpoint, error = why, "the key of a model endpoint cannot be read");
                state.failure = Some(why);
            }
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Contents = Arc<Mutex<Result<Option<Secret>, String>>>;

    fn keys() -> (Keys, Contents) {
        let contents: Contents = Arc::new(Mutex::new(Ok(Some(secret("one")))));
        let file = Arc::clone(&contents);
        let read: ReadKey = Arc::new(move || file.lock().unwrap().clone());
        (Keys::new("main".into(), Key::Read(read)), contents)
    }

    fn secret(text: &str) -> Secret {
        text.to_owned().into()
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_is_read_once_a_second() {
        let (keys, contents) = keys();
        assert_eq!(keys.current(), Ok(Some(secret("one"))));
        *contents.lock().unwrap() = Ok(Some(secret("two")));
        assert_eq!(keys.current(), Ok(Some(secret("one"))));
        tokio::time::advance(FRESH).await;
        assert_eq!(keys.current(), Ok(Some(secret("two"))));
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_key_is_read_at_once() {
        let (keys, contents) = keys();
        let one = keys.current().unwrap();
        assert_eq!(keys.other_than(one.as_ref()), None);
        *contents.lock().unwrap() = Ok(Some(secret("two")));
        assert_eq!(keys.other_than(one.as_ref()), Some(secret("two")));
        // The next one that was refused finds it read.
        *contents.lock().unwrap() = Err("gone".into());
        assert_eq!(keys.other_than(one.as_ref()), Some(secret("two")));
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_that_cannot_be_read_leaves_the_last_in_place() {
        let (keys, contents) = keys();
        *contents.lock().unwrap() = Err("no such file".into());
        assert_eq!(keys.current(), Err("no such file".into()));
        *contents.lock().unwrap() = Ok(None);
        tokio::time::advance(FRESH).await;
        assert_eq!(keys.current(), Ok(None));
        *contents.lock().unwrap() = Err("no such file".into());
        tokio::time::advance(FRESH).await;
        assert_eq!(keys.current(), Ok(None));
    }
}
