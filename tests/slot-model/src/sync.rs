//! The primitives that the slot names, under the checker's scheduler.

pub use std::sync::PoisonError;

pub use shuttle::sync::{Mutex, MutexGuard};

pub mod watch {
    //! As much of tokio's `watch` as the slot uses. A wake is no step of the scheduler: a reader that looks after
    //! the change that it announces sees the change, notified or not.

    use std::future::poll_fn;
    use std::sync::{Arc, Mutex};
    use std::task::{Poll, Waker};

    /// Notifies receivers of changes.
    pub struct Sender<T> {
        value: Mutex<T>,
        shared: Arc<Shared>,
    }

    /// Sees changes since it last looked.
    pub struct Receiver {
        seen: u64,
        shared: Arc<Shared>,
    }

    /// The sender is gone. Never: receivers here hold the state alive.
    #[derive(Debug)]
    pub struct Gone;

    #[derive(Default)]
    struct Shared(Mutex<State>);

    #[derive(Default)]
    struct State {
        version: u64,
        waiting: Vec<Waker>,
    }

    impl<T> Sender<T> {
        /// A sender with a first value.
        pub fn new(value: T) -> Self {
            Self { value: Mutex::new(value), shared: Arc::default() }
        }

        /// Changes the value and wakes everyone.
        pub fn send_replace(&self, value: T) -> T {
            let before = std::mem::replace(&mut *self.value.lock().unwrap(), value);
            let mut state = self.shared.0.lock().unwrap();
            state.version += 1;
            let waiting = std::mem::take(&mut state.waiting);
            drop(state);
            waiting.into_iter().for_each(Waker::wake);
            before
        }

        /// A receiver that has seen everything until now.
        pub fn subscribe(&self) -> Receiver {
            let seen = self.shared.0.lock().unwrap().version;
            Receiver { seen, shared: Arc::clone(&self.shared) }
        }
    }

    impl Receiver {
        /// Resolves when there is a change that was not seen.
        pub async fn changed(&mut self) -> Result<(), Gone> {
            poll_fn(|context| {
                let mut state = self.shared.0.lock().unwrap();
                if state.version != self.seen {
                    self.seen = state.version;
                    return Poll::Ready(Ok(()));
                }
                state.waiting.push(context.waker().clone());
                Poll::Pending
            })
            .await
        }
    }
}
