//! Connections that wait for the next request.

use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::runtime::{Handle, Id};
use tokio::time::Instant;

/// Connections that wait for the next request, each for the runtime that opened it: that one hears of what arrives on it. A request
/// of another runtime would wait until that one has nothing else to do, and for ever if it is blocked.
#[derive(Debug)]
pub struct Idle<T> {
    kept: Mutex<Vec<Kept<T>>>,
    most: usize,
    longest: Duration,
}

#[derive(Debug)]
struct Kept<T> {
    connection: T,
    since: Instant,
    runtime: Id,
}

impl<T> Idle<T> {
    /// Of each runtime `most` connections wait, for `longest`. What has waited for longer closes at the next use, because nothing
    /// runs in between.
    pub const fn new(most: usize, longest: Duration) -> Self {
        Self { kept: Mutex::new(Vec::new()), most, longest }
    }

    /// Keeps a connection for later requests of the [runtime](crate::Connected::runtime) that opened it. If there are too many, the
    /// oldest one closes.
    pub fn put(&self, runtime: Id, connection: T) {
        let since = Instant::now();
        let mut kept = self.fresh();
        let mut own = kept.iter().enumerate().filter(|(_, kept)| kept.runtime == runtime);
        let oldest = own.next().map(|(at, _)| at);
        if let Some(oldest) = oldest.filter(|_| own.count() + 1 >= self.most) {
            kept.remove(oldest);
        }
        kept.push(Kept { connection, since, runtime });
    }

    /// The one that this runtime opened and used last.
    pub fn take(&self) -> Option<T> {
        let runtime = Handle::try_current().ok()?.id();
        let mut kept = self.fresh();
        let at = kept.iter().rposition(|kept| kept.runtime == runtime)?;
        Some(kept.remove(at).connection)
    }

    /// Closes all of them.
    pub fn clear(&self) {
        self.kept.lock().clear();
    }

    fn fresh(&self) -> MutexGuard<'_, Vec<Kept<T>>> {
        let mut kept = self.kept.lock();
        kept.retain(|kept| kept.since.elapsed() < self.longest);
        kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runtime() -> tokio::runtime::Runtime {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().start_paused(true).build().unwrap()
    }

    #[test]
    fn a_connection_is_used_again_in_its_own_runtime_alone() {
        let (idle, one, other) = (Idle::new(2, Duration::MAX), runtime(), runtime());
        idle.put(one.handle().id(), "of one");
        assert_eq!(idle.take(), None);
        assert_eq!(other.block_on(async { idle.take() }), None);
        idle.put(other.handle().id(), "of the other");
        assert_eq!(one.block_on(async { idle.take() }), Some("of one"));
        assert_eq!(other.block_on(async { idle.take() }), Some("of the other"));
    }

    #[test]
    fn of_each_runtime_the_latest_are_kept_and_not_for_long() {
        let (idle, one, other) = (Idle::new(2, Duration::from_secs(60)), runtime(), runtime());
        other.block_on(async { idle.put(other.handle().id(), 0) });
        one.block_on(async {
            let runtime = Handle::current().id();
            (1..=3).for_each(|n| idle.put(runtime, n));
            assert_eq!((idle.take(), idle.take(), idle.take()), (Some(3), Some(2), None));
            idle.put(runtime, 4);
            tokio::time::sleep(Duration::from_secs(60)).await;
            assert_eq!(idle.take(), None);
        });
        assert_eq!(other.block_on(async { idle.take() }), Some(0));
        other.block_on(async { idle.put(other.handle().id(), 5) });
        idle.clear();
        assert_eq!(other.block_on(async { idle.take() }), None);
    }
}
