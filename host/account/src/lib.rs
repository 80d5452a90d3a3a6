//! The memory account of one agent: what its guest holds and what the host holds for it, against one
//! limit.
//!
//! ```text
//!   guest:  memory.grow ──▶ hold_guest ─┐
//!                                       ├──▶ total ≤ limit ── else OverLimit, and nothing changed
//!   host:   charge(kind, bytes) ────────┘        │
//!             └▶ Charge, gives back on drop      └──▶ soft mark: one call for each upward crossing
//! ```
//!
//! An account belongs to an agent's id and outlives its incarnations, because mail and events do. The
//! limit is the one of the incarnation that is or was active last; before the first there is none. Guest
//! and host take from one number by compare and swap, so that two who take at once cannot both have the
//! last bytes. All figures are atomics: reading waits for nobody.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use bulkhead_types::{HostBytes, HostKind};
use parking_lot::Mutex;

/// Gets use and limit, in bytes, at each upward crossing of the soft mark. Must not wait.
pub type SoftMark = Arc<dyn Fn(AccountReading) + Send + Sync>;

/// Percent of the limit that use has to fall below the soft mark before a crossing is reported again.
const HYSTERESIS_PERCENT: u64 = 5;

/// One agent's account. What a sweep over all agents reads comes first and in one cache line.
#[derive(Default)]
#[repr(C, align(64))]
pub struct Account {
    /// Guest and host bytes together: what is held against the limit.
    total: AtomicU64,
    guest: AtomicU64,
    peak: AtomicU64,
    bounds: Bounds,
    host: [AtomicU64; HostKind::ALL.len()],
    above_soft: AtomicBool,
    soft_crossings: AtomicU64,
    denied_growths: AtomicU64,
    last_denied: AtomicU64,
    refused: [AtomicU64; HostKind::ALL.len()],
    soft_mark: Mutex<Option<SoftMark>>,
}

/// In force between [`Account::begin`] and the next one. 0: none.
#[derive(Default)]
struct Bounds {
    limit: AtomicU64,
    soft: AtomicU64,
}

/// What an account said at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AccountReading {
    /// Linear memories and tables, in bytes.
    pub guest_bytes: u64,
    /// What the host holds for the agent.
    pub host: HostBytes,
    /// The largest sum of both since the incarnation began.
    pub peak_bytes: u64,
    /// The hard limit of the sum; 0 while there is none.
    pub limit_bytes: u64,
    /// The soft mark; 0 while there is none.
    pub soft_bytes: u64,
    /// Upward crossings of the soft mark since the incarnation began.
    pub soft_crossings: u64,
    /// Growths of the guest that were denied since the incarnation began.
    pub denied_growths: u64,
    /// What the host did not take for the agent because of the limit, in all kinds, since the
    /// incarnation began.
    pub refused: u64,
}

/// The part of an [`AccountReading`] that a sweep over all agents looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AccountSums {
    /// Linear memories and tables, in bytes.
    pub guest_bytes: u64,
    /// What the host holds for the agent.
    pub host_bytes: u64,
    /// The largest sum of both since the incarnation began.
    pub peak_bytes: u64,
    /// The hard limit of the sum; 0 while there is none.
    pub limit_bytes: u64,
}

/// The agent would hold more than its limit. Nothing was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "{requested_bytes} bytes more than the {used_bytes} in use pass the limit of {limit_bytes}"
)]
pub struct OverLimit {
    /// What was asked for, beyond what is held.
    pub requested_bytes: u64,
    /// Guest and host bytes in use.
    pub used_bytes: u64,
    /// The part of them that the host holds.
    pub host_bytes: u64,
    /// The limit.
    pub limit_bytes: u64,
}

/// Bytes that the host holds for an agent, for as long as this exists.
#[must_use = "the bytes count until this is dropped"]
pub struct Charge {
    account: Arc<Account>,
    kind: HostKind,
    bytes: u64,
}

impl Account {
    /// A new incarnation is active under this account: what is held now is where its figures begin.
    /// `soft_percent` of the limit is its soft mark.
    pub fn begin(&self, limit_bytes: u64, soft_percent: u8, soft_mark: Option<SoftMark>) {
        let soft = limit_bytes.saturating_mul(u64::from(soft_percent)) / 100;
        self.bounds.limit.store(limit_bytes, Relaxed);
        self.bounds.soft.store(soft, Relaxed);
        *self.soft_mark.lock() = soft_mark;
        for figure in [&self.soft_crossings, &self.denied_growths, &self.last_denied] {
            figure.store(0, Relaxed);
        }
        self.refused.iter().for_each(|figure| figure.store(0, Relaxed));
        self.above_soft.store(false, Relaxed);
        self.peak.store(self.total.load(Relaxed), Relaxed);
    }

    /// The incarnation is over: its memory is the engine's again.
    pub fn end(&self) {
        let guest = self.guest.swap(0, Relaxed);
        self.give_back(guest);
        *self.soft_mark.lock() = None;
    }

    /// The guest holds `bytes` from now on, if the limit allows. Only one thread at a time calls this.
    pub fn hold_guest(&self, bytes: u64) -> Result<(), OverLimit> {
        let before = self.guest.load(Relaxed);
        let crossed = if bytes > before { self.take(bytes - before)? } else { false };
        self.guest.store(bytes, Relaxed);
        if crossed {
            self.report_soft_mark();
        }
        self.give_back(before.saturating_sub(bytes));
        Ok(())
    }

    /// A growth of the guest by `bytes` was denied.
    pub fn deny_growth(&self, bytes: u64) {
        self.denied_growths.fetch_add(1, Relaxed);
        self.last_denied.store(bytes, Relaxed);
    }

    /// Size of the growth that was denied last, if one was.
    pub fn last_denied_bytes(&self) -> Option<u64> {
        (self.denied_growths.load(Relaxed) > 0).then(|| self.last_denied.load(Relaxed))
    }

    /// The host holds `bytes` of `kind`, until the charge is dropped.
    pub fn charge(self: &Arc<Self>, kind: HostKind, bytes: u64) -> Result<Charge, OverLimit> {
        let mut charge = self.nothing(kind);
        match charge.grow(bytes) {
            Ok(()) => Ok(charge),
            Err(over) => {
                self.refuse(kind);
                Err(over)
            }
        }
    }

    /// The same, and not more than `share` bytes of `kind` in all unless it holds nothing of it yet. The
    /// error then has the figures of the share.
    pub fn charge_within(
        self: &Arc<Self>,
        kind: HostKind,
        bytes: u64,
        share: u64,
    ) -> Result<Charge, OverLimit> {
        let held = self.host[kind.index()].load(Relaxed);
        if held > 0 && held.saturating_add(bytes) > share {
            self.refuse(kind);
            return Err(OverLimit {
                requested_bytes: bytes,
                used_bytes: held,
                host_bytes: held,
                limit_bytes: share,
            });
        }
        self.charge(kind, bytes)
    }

    /// A charge of nothing, to grow later.
    pub fn nothing(self: &Arc<Self>, kind: HostKind) -> Charge {
        Charge { account: Arc::clone(self), kind, bytes: 0 }
    }

    /// Counts something of `kind` that the host did not take because of the limit.
    pub fn refuse(&self, kind: HostKind) {
        self.refused[kind.index()].fetch_add(1, Relaxed);
    }

    /// The hard limit, if there is one.
    pub fn limit_bytes(&self) -> Option<u64> {
        Some(self.bounds.limit.load(Relaxed)).filter(|limit| *limit > 0)
    }

    /// Reads it. Figures that change meanwhile may be of two moments.
    pub fn reading(&self) -> AccountReading {
        AccountReading {
            guest_bytes: self.guest.load(Relaxed),
            host: HostBytes::of(|kind| self.host[kind.index()].load(Relaxed)),
            peak_bytes: self.peak.load(Relaxed),
            limit_bytes: self.bounds.limit.load(Relaxed),
            soft_bytes: self.bounds.soft.load(Relaxed),
            soft_crossings: self.soft_crossings.load(Relaxed),
            denied_growths: self.denied_growths.load(Relaxed),
            refused: self.refused.iter().map(|figure| figure.load(Relaxed)).sum(),
        }
    }

    /// Reads the sums alone, in a tenth of the time when no cache holds the account.
    pub fn sums(&self) -> AccountSums {
        let guest_bytes = self.guest.load(Relaxed);
        AccountSums {
            guest_bytes,
            host_bytes: self.total.load(Relaxed).saturating_sub(guest_bytes),
            peak_bytes: self.peak.load(Relaxed),
            limit_bytes: self.bounds.limit.load(Relaxed),
        }
    }

    /// Whether it crossed the soft mark, which the caller reports when the parts of the total are right.
    fn take(&self, bytes: u64) -> Result<bool, OverLimit> {
        let limit = self.limit_bytes().unwrap_or(u64::MAX);
        let fits = |total: u64| total.checked_add(bytes).filter(|total| *total <= limit);
        let before = self.total.fetch_update(Relaxed, Relaxed, fits).map_err(|used_bytes| {
            let host_bytes = used_bytes.saturating_sub(self.guest.load(Relaxed));
            OverLimit { requested_bytes: bytes, used_bytes, host_bytes, limit_bytes: limit }
        })?;
        let total = before + bytes;
        self.peak.fetch_max(total, Relaxed);
        let soft = self.bounds.soft.load(Relaxed);
        Ok(soft > 0 && total >= soft && !self.above_soft.swap(true, Relaxed))
    }

    fn give_back(&self, bytes: u64) {
        if bytes == 0 {
            return;
        }
        let total = self.total.fetch_sub(bytes, Relaxed).saturating_sub(bytes);
        if self.above_soft.load(Relaxed) {
            let limit = self.bounds.limit.load(Relaxed);
            let soft = self.bounds.soft.load(Relaxed);
            if total < soft.saturating_sub(limit / 100 * HYSTERESIS_PERCENT) {
                self.above_soft.store(false, Relaxed);
            }
        }
    }

    #[cold]
    fn report_soft_mark(&self) {
        self.soft_crossings.fetch_add(1, Relaxed);
        let soft_mark = self.soft_mark.lock().clone();
        if let Some(soft_mark) = soft_mark {
            soft_mark(self.reading());
        }
    }
}

impl AccountReading {
    /// Guest and host bytes together: what is held against the limit.
    pub fn used_bytes(&self) -> u64 {
        self.guest_bytes + self.host.total()
    }
}

impl Charge {
    /// Holds `bytes` more, or nothing more.
    pub fn grow(&mut self, bytes: u64) -> Result<(), OverLimit> {
        let crossed = self.account.take(bytes)?;
        self.account.host[self.kind.index()].fetch_add(bytes, Relaxed);
        self.bytes += bytes;
        if crossed {
            self.account.report_soft_mark();
        }
        Ok(())
    }

    /// Holds `bytes` less.
    pub fn shrink(&mut self, bytes: u64) {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        self.account.host[self.kind.index()].fetch_sub(bytes, Relaxed);
        self.account.give_back(bytes);
    }

    /// Holds `bytes` in all. Fails only when that is more.
    pub fn resize(&mut self, bytes: u64) -> Result<(), OverLimit> {
        if bytes > self.bytes {
            return self.grow(bytes - self.bytes);
        }
        self.shrink(self.bytes - bytes);
        Ok(())
    }

    /// What it holds.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The account that it is charged to.
    pub fn account(&self) -> &Arc<Account> {
        &self.account
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.shrink(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(limit: u64) -> Arc<Account> {
        let account = Arc::new(Account::default());
        account.begin(limit, 80, None);
        account
    }

    #[test]
    fn guest_and_host_share_one_limit() {
        let account = account(100);
        account.hold_guest(60).unwrap();
        let mail = account.charge(HostKind::Mailbox, 30).unwrap();
        let over = account.hold_guest(71).unwrap_err();
        assert_eq!((over.requested_bytes, over.used_bytes, over.host_bytes), (11, 90, 30));
        assert!(account.charge(HostKind::Log, 11).is_err());
        assert_eq!(account.reading().refused, 1);
        drop(mail);
        account.hold_guest(100).unwrap();
        assert_eq!(account.reading().host, HostBytes::default());
        assert_eq!(account.reading().peak_bytes, 100);
    }

    #[test]
    fn a_charge_gives_back_what_it_holds_and_not_more() {
        let account = account(100);
        let mut charge = account.charge(HostKind::Events, 40).unwrap();
        charge.shrink(10);
        charge.shrink(1000);
        assert_eq!(account.reading().used_bytes(), 0);
        charge.resize(100).unwrap();
        assert!(charge.resize(101).is_err());
        assert_eq!(charge.bytes(), 100, "a resize that fails changes nothing");
        drop(charge);
        account.hold_guest(100).unwrap();
    }

    #[test]
    fn each_upward_crossing_is_reported_once_and_trembling_is_none() {
        let crossings = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&crossings);
        let account = Arc::new(Account::default());
        let soft_mark: SoftMark = Arc::new(move |reading: AccountReading| {
            assert!(reading.used_bytes() >= reading.soft_bytes, "{reading:?}");
            count.fetch_add(1, Relaxed);
        });
        account.begin(1000, 80, Some(soft_mark));
        account.hold_guest(799).unwrap();
        assert_eq!(crossings.load(Relaxed), 0);
        for _ in 0..3 {
            drop(account.charge(HostKind::Mailbox, 1).unwrap());
        }
        assert_eq!(crossings.load(Relaxed), 1, "it fell by less than 5 %");
        account.hold_guest(749).unwrap();
        account.hold_guest(800).unwrap();
        assert_eq!((crossings.load(Relaxed), account.reading().soft_crossings), (2, 2));
    }

    #[test]
    fn a_new_incarnation_begins_with_what_the_host_holds() {
        let account = account(100);
        let mail = account.charge(HostKind::Mailbox, 50).unwrap();
        account.hold_guest(50).unwrap();
        account.deny_growth(7);
        account.end();
        account.begin(200, 80, None);
        let reading = account.reading();
        assert_eq!((reading.guest_bytes, reading.host.mailbox, reading.peak_bytes), (0, 50, 50));
        assert_eq!((reading.limit_bytes, account.last_denied_bytes()), (200, None));
        drop(mail);
    }

    #[test]
    fn threads_that_take_at_once_never_pass_the_limit_together() {
        let account = account(1000);
        std::thread::scope(|scope| {
            for kind in HostKind::ALL {
                let account = Arc::clone(&account);
                scope.spawn(move || {
                    for _ in 0..10_000 {
                        let charge = account.charge(kind, 400);
                        assert!(account.total.load(Relaxed) <= 1000);
                        drop(charge);
                    }
                });
            }
        });
        let reading = account.reading();
        assert_eq!(reading.used_bytes(), 0);
        assert!(reading.peak_bytes <= 1000, "{reading:?}");
    }
}
