//! The one clock of a lease.

use rustix::time::{ClockId, clock_gettime};

use crate::protocol::{Boottime, Permit};

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
        let now = clock_gettime(ClockId::Boottime);
        let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
        let nanos = u64::try_from(now.tv_nsec).unwrap_or(0);
        Boottime(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
    }
}

impl Permit {
    /// Whether work may begin at this moment, by the clock of this machine.
    pub fn is_valid_now(&self) -> bool {
        self.is_valid(System.now())
    }

    /// Whether anything may still run at this moment, by the clock of this machine.
    pub fn is_live_now(&self) -> bool {
        self.is_live(System.now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert!(permit(later, later).is_valid_now());
        assert!(!permit(now, later).is_valid_now() && permit(now, later).is_live_now());
        assert!(!permit(now, now).is_live_now());
    }
}
