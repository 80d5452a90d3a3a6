//! The one clock of a lease.

use crate::protocol::Boottime;

/// Says what time it is. Everything of one lease asks the same clock.
pub trait Clock: Send + Sync {
    /// Now. Never less than before.
    fn now(&self) -> Boottime;
}

/// `CLOCK_BOOTTIME` of this machine, which all processes of it share: a moment of one of them means the same to another.
#[derive(Debug, Clone, Copy, Default)]
pub struct System;

impl Clock for System {
    fn now(&self) -> Boottime {
        Boottime(bulkhead_fence::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Permit;

    #[test]
    fn it_goes_on() {
        let before = System.now();
        std::thread::sleep(std::time::Duration::from_millis(2));
        assert!(System.now() > before && before > Boottime(0));
    }

    #[test]
    fn a_permit_ends_twice() {
        let now = System.now().0;
        let permit = |fence_at, until| Permit {
            epoch: 1,
            fence_at: Boottime(fence_at),
            until: Boottime(until),
        };
        let later = now + 60_000_000_000;
        assert!(permit(later, later).is_valid(System.now()));
        assert!(
            !permit(now, later).is_valid(System.now()) && permit(now, later).is_live(System.now())
        );
        assert!(!permit(now, now).is_live(System.now()));
    }
}
