//! Panics: where they are contained, and what is known of them.
//!
//! ```text
//!   panic ──▶ the process's hook ── inside `contain`? ── yes ─▶ the place is kept; its container reports
//!                                        │ no
//!                                        ├─ in some task of a runtime ─▶ logged as unhandled; the task is gone
//!                                        └─ anywhere else ─▶ logged as uncaught; the process ends
//! ```

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::pin::pin;
use std::task::Poll;

thread_local! {
    static DEPTH: Cell<usize> = const { Cell::new(0) };
    static PLACE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// A panic that was contained.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Panicked {
    /// What it said.
    pub message: String,
    /// `file:line:column` in the host's source, when the hook is installed.
    pub place: Option<String>,
}

impl fmt::Display for Panicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Some(place) => write!(f, "panicked at {place}: {}", self.message),
            None => write!(f, "panicked: {}", self.message),
        }
    }
}

/// What the hook does with a panic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// The code that contains it reports it.
    Contained,
    /// A task of a runtime ends with it, and nobody else would report it.
    EndsItsTask,
    /// Nothing contains it.
    EndsTheProcess,
}

/// Looks at a panic, from the process's hook, and keeps its place for the code that contains it.
pub fn fate_of(panic: &PanicHookInfo<'_>) -> Fate {
    if DEPTH.get() > 0 {
        PLACE.set(panic.location().map(ToString::to_string));
        return Fate::Contained;
    }
    match tokio::task::try_id() {
        Some(_) => Fate::EndsItsTask,
        None => Fate::EndsTheProcess,
    }
}

/// Says that whatever panics on this thread is contained: a worker of a pool that hands panics on to
/// the one that gave it the work.
pub fn this_thread_is_contained() {
    DEPTH.set(DEPTH.get() + 1);
}

/// Calls `work`, and turns a panic of it into an error.
pub fn contain<T>(work: impl FnOnce() -> T) -> Result<T, Panicked> {
    DEPTH.set(DEPTH.get() + 1);
    #[expect(clippy::disallowed_methods, reason = "this is the one place")]
    let result = catch_unwind(AssertUnwindSafe(work));
    DEPTH.set(DEPTH.get() - 1);
    result.map_err(|panic| Panicked { message: panic_message(panic.as_ref()), place: PLACE.take() })
}

/// Runs `future`, and turns a panic of it into an error.
pub async fn contain_future<T>(future: impl Future<Output = T>) -> Result<T, Panicked> {
    let mut future = pin!(future);
    poll_fn(|context| match contain(|| future.as_mut().poll(context)) {
        Ok(Poll::Pending) => Poll::Pending,
        Ok(Poll::Ready(value)) => Poll::Ready(Ok(value)),
        Err(panicked) => Poll::Ready(Err(panicked)),
    })
    .await
}

/// What a panic said.
pub fn panic_message(panic: &(dyn Any + Send)) -> String {
    if let Some(text) = panic.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = panic.downcast_ref::<String>() {
        text.clone()
    } else {
        "a panic without a message".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_an_error_and_the_next_work_is_not_disturbed() {
        let panicked = contain(|| panic!("boom {}", 1)).unwrap_err();
        assert_eq!(panicked.message, "boom 1");
        assert_eq!(contain(|| 2), Ok(2));
        assert_eq!(DEPTH.get(), 0);
    }

    #[test]
    fn a_panic_of_a_future_becomes_an_error_at_any_poll() {
        let mut polls = 0;
        let future = poll_fn(|context| {
            polls += 1;
            assert!(polls < 3, "third poll");
            context.waker().wake_by_ref();
            Poll::<()>::Pending
        });
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let panicked = runtime.block_on(contain_future(future)).unwrap_err();
        assert_eq!(panicked.message, "third poll");
    }
}
