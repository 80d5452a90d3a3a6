//! The memory of one incarnation, as its agent's account counts it.
//!
//! Against one limit stand the linear memories and tables of the guest, and what the host holds for the
//! agent. How each kind is counted, and what happens when there is no room:
//!
//! | what | counted | without room |
//! | --- | --- | --- |
//! | linear memories, tables | exactly, by the limiter | the role's choice: the agent ends as `memory_limit`, or sees the growth fail |
//! | mail: what waits, and the message whose turn it is | exactly, and 512 bytes each | an error for the sender; the agent goes on |
//! | events | exactly | the oldest go, then the new one |
//! | log lines that wait for the writer | exactly | dropped and counted |
//! | requests under way | estimated: what their buffers can become (`interfaces::http`) | as growth; with `deny` the request fails |
//! | a snapshot on its way | exactly | refused; the agent keeps running |
//! | open files and their streams | estimated by type (`resources`), before there is one; 256 files at most (`quota`) | as growth; with `deny` the call fails |
//! | what the engine keeps of the instances of its component | estimated by what is in them (`needs`), but for the first 64 KiB | the agent is not born |
//! | lists of directories | exactly, by pieces of 16 KiB, while one is read (`interfaces::files`) | the same |
//! | whatever else has a handle | estimated by type | the agent ends, because WASI has no error for it |
//!
//! Bounded and not counted:
//!
//! - what one call copies out of the guest: [`lifted_bytes`] of it, at most one call at a time; the copy of
//!   a reply that is larger than a message may be ends with the call
//! - a line on stdout or stderr without its end, 8 KiB each; lines kept for the crash record, 84 KiB
//! - the names of active tools, 4 KiB; the agent's specification and environment, as large as the request
//!   that brought them
//! - handles of the guest's own resources: 4,096
//! - events and replies on their way to a client: by the connections of the control server
//! - the store itself, its fiber stack and 64 KiB of the engine's records of its instances

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use bulkhead_account::{Account, AccountReading, Charge, OverLimit, SoftMark};
use bulkhead_types::message::MAX_BODY_BYTES;
use bulkhead_types::{HostKind, Limits, MemoryPolicy};
use parking_lot::Mutex;

use crate::interrupt::Interrupt;

/// What one host call may copy out of the guest at most, in bytes. The engine's default is 128 MiB.
const MAX_LIFTED_BYTES: u64 = 4 * 1024 * 1024;

/// What it may copy in any case: a message of the largest size and what comes with it.
const MIN_LIFTED_BYTES: u64 = (MAX_BODY_BYTES + MAX_BODY_BYTES / 4) as u64;

/// What the engine keeps of the instances of an ordinary component: so much of it costs an agent nothing.
pub(crate) const UNCOUNTED_RECORD_BYTES: u64 = 64 * 1024;

/// What became of a request for memory.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Growth {
    Granted,
    Denied,
    Ends(Interrupt),
}

/// One incarnation's part of its agent's account.
pub(crate) struct Memory {
    account: Arc<Account>,
    limit: u64,
    soft_percent: u8,
    policy: MemoryPolicy,
    began: AtomicBool,
    /// What the account said when the incarnation ended.
    last: OnceLock<AccountReading>,
    /// The host was made to hold too much; the guest ends when the host call that did it returns.
    ends: AtomicBool,
    cut: Mutex<Option<Interrupt>>,
    /// In the call under way a growth failed.
    growth_failed: AtomicBool,
    /// One of them because the container had no room.
    had_no_room: AtomicBool,
}

impl Memory {
    pub(crate) fn new(limits: &Limits, account: Arc<Account>) -> Self {
        Self {
            account,
            limit: limits.memory_bytes,
            soft_percent: limits.memory_soft_percent,
            policy: limits.on_memory_limit,
            began: AtomicBool::new(false),
            last: OnceLock::new(),
            ends: AtomicBool::new(false),
            cut: Mutex::default(),
            growth_failed: AtomicBool::new(false),
            had_no_room: AtomicBool::new(false),
        }
    }

    /// A call into the guest begins: what failed before is no cause of its end.
    pub(crate) fn begin_call(&self) {
        self.growth_failed.store(false, Relaxed);
        self.had_no_room.store(false, Relaxed);
    }

    /// From now on the account is this incarnation's.
    pub(crate) fn begin(&self, soft_mark: SoftMark) {
        self.account.begin(self.limit, self.soft_percent, Some(soft_mark));
        self.began.store(true, Relaxed);
    }

    /// The store is about to go. Its figures stay as they are now.
    pub(crate) fn end(&self) {
        if self.began.load(Relaxed) && self.last.set(self.account.reading()).is_ok() {
            self.account.end();
        }
    }

    pub(crate) fn reading(&self) -> AccountReading {
        if let Some(last) = self.last.get() {
            return *last;
        }
        let now = self.account.reading();
        if self.began.load(Relaxed) {
            return now;
        }
        // The account may still be that of the incarnation before.
        let (host, limit_bytes) = (now.host, self.limit);
        AccountReading { host, limit_bytes, ..AccountReading::default() }
    }

    pub(crate) fn account(&self) -> &Arc<Account> {
        &self.account
    }

    /// The guest wants to hold `total` bytes, `requested` more than before. At context there is nobody who
    /// could see a denial.
    pub(crate) fn hold(&self, total: u64, requested: u64, at_instantiation: bool) -> Growth {
        // The account is the next incarnation's, and this one was left on the thread that it blocks.
        if self.last.get().is_some() {
            return Growth::Ends(Interrupt::Killed);
        }
        let Err(over) = self.account.hold_guest(total) else { return Growth::Granted };
        self.growth_failed();
        self.account.deny_growth(requested);
        if self.policy == MemoryPolicy::Deny && !at_instantiation {
            return Growth::Denied;
        }
        let OverLimit { used_bytes, host_bytes, limit_bytes, .. } = over;
        Growth::Ends(Interrupt::Memory {
            requested_bytes: requested,
            used_bytes,
            host_bytes,
            limit_bytes,
        })
    }

    /// Whether the limit allows the guest `total` bytes right now.
    pub(crate) fn fits(&self, total: u64) -> bool {
        let sums = self.account.sums();
        sums.limit_bytes == 0 || total.saturating_add(sums.host_bytes) <= sums.limit_bytes
    }

    /// Bytes that the limit leaves right now.
    pub(crate) fn room(&self) -> u64 {
        let sums = self.account.sums();
        if sums.limit_bytes == 0 {
            return u64::MAX;
        }
        sums.limit_bytes.saturating_sub(sums.guest_bytes + sums.host_bytes)
    }

    /// What becomes of a growth that cannot be.
    pub(crate) fn policy(&self) -> MemoryPolicy {
        self.policy
    }

    /// A growth by `bytes` is denied because the container has no room for it.
    pub(crate) fn deny_for_want_of_room(&self, bytes: u64) {
        self.growth_failed();
        self.had_no_room.store(true, Relaxed);
        self.account.deny_growth(bytes);
    }

    /// A growth failed, no matter what denied it.
    pub(crate) fn growth_failed(&self) {
        self.growth_failed.store(true, Relaxed);
    }

    /// Whether an allocation of `bytes` can have failed in the call under way: a growth did, or so many bytes
    /// never had room, and then the guest's allocator asks for no growth.
    pub(crate) fn can_have_failed(&self, bytes: u64) -> bool {
        let total = self.account.sums().guest_bytes.saturating_add(bytes);
        self.growth_failed.load(Relaxed) || !self.fits(total)
    }

    /// Whether a growth was denied in the call under way because the container had no room.
    pub(crate) fn had_no_room(&self) -> bool {
        self.had_no_room.load(Relaxed)
    }

    /// Size of the growth that was denied last in the call under way, if one was.
    pub(crate) fn denied_bytes(&self) -> Option<u64> {
        self.account.last_denied_bytes().filter(|_| self.growth_failed.load(Relaxed))
    }

    /// The guest makes the host hold `bytes`. Without room it fails, and under the policy `end` the guest
    /// ends when the host call returns.
    pub(crate) fn charge(&self, kind: HostKind, bytes: u64) -> Result<Charge, OverLimit> {
        self.account.charge(kind, bytes).inspect_err(|over| {
            if self.policy == MemoryPolicy::End {
                self.end_guest(self.host_interrupt(kind, over));
            }
        })
    }

    /// The guest made the host hold more of `kind` than it may.
    pub(crate) fn host_interrupt(&self, kind: HostKind, over: &OverLimit) -> Interrupt {
        let held = self.account.reading().host;
        let OverLimit { requested_bytes, used_bytes, limit_bytes, .. } = *over;
        let kind_bytes = match kind {
            HostKind::Mailbox => held.mailbox,
            HostKind::Events => held.events,
            HostKind::Log => held.log,
            HostKind::Http => held.http,
            HostKind::Tools => held.tools,
            HostKind::Snapshot => held.snapshot,
            HostKind::Resources => held.resources,
            HostKind::Instances => held.instances,
        };
        Interrupt::HostMemory { kind, requested_bytes, kind_bytes, used_bytes, limit_bytes }
    }

    fn end_guest(&self, cut: Interrupt) {
        *self.cut.lock() = Some(cut);
        self.ends.store(true, Relaxed);
    }

    /// Why the guest has to end now, if it has to.
    pub(crate) fn take_interrupt(&self) -> Option<Interrupt> {
        if !self.ends.swap(false, Relaxed) {
            return None;
        }
        self.cut.lock().take()
    }

    /// What one host call may copy out of the guest: a tenth of the limit, within bounds.
    pub(crate) fn lifted_bytes(&self) -> usize {
        lifted_bytes(self.limit)
    }
}

/// What one host call may copy out of a guest with this limit, in bytes.
fn lifted_bytes(limit: u64) -> usize {
    let bytes = (limit / 10).clamp(MIN_LIFTED_BYTES, MAX_LIFTED_BYTES);
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(limit: u64, policy: MemoryPolicy) -> Memory {
        let limits = Limits { memory_bytes: limit, on_memory_limit: policy, ..Limits::default() };
        let memory = Memory::new(&limits, Arc::default());
        memory.begin(Arc::new(|_| {}));
        memory
    }

    #[test]
    fn the_limit_may_be_reached_and_not_passed() {
        let memory = memory(100, MemoryPolicy::Deny);
        assert_eq!(memory.hold(60, 60, true), Growth::Granted);
        assert_eq!(memory.hold(100, 40, false), Growth::Granted);
        assert_eq!(memory.hold(101, 1, false), Growth::Denied);
        assert_eq!(memory.denied_bytes(), Some(1));
        assert_eq!(memory.hold(50, 0, false), Growth::Granted);
        let reading = memory.reading();
        assert_eq!((reading.guest_bytes, reading.peak_bytes), (50, 100));
    }

    #[test]
    fn growth_past_the_limit_ends_an_agent_that_may_not_see_it() {
        let memory = memory(100, MemoryPolicy::End);
        let _mail = memory.account().charge(HostKind::Mailbox, 40).unwrap();
        let ends = memory.hold(61, 61, false);
        let Growth::Ends(cut) = ends else { panic!("{ends:?}") };
        let text = cut.to_string();
        assert!(
            text.contains("61 bytes denied: 40 of 100") && text.contains("40 of them"),
            "{text}"
        );
    }

    #[test]
    fn what_the_guest_makes_the_host_hold_ends_it_by_name_unless_it_may_see_that() {
        let strict = memory(100, MemoryPolicy::End);
        let held = strict.charge(HostKind::Http, 90).unwrap();
        assert!(strict.charge(HostKind::Http, 20).is_err());
        let text = strict.take_interrupt().unwrap().to_string();
        assert!(
            text.contains("HTTP requests") && text.contains("20") && text.contains("90"),
            "{text}"
        );
        assert_eq!(strict.take_interrupt(), None);
        drop(held);
        let lenient = memory(100, MemoryPolicy::Deny);
        assert!(lenient.charge(HostKind::Http, 101).is_err());
        assert_eq!(lenient.take_interrupt(), None);
    }

    #[test]
    fn the_figures_of_an_end_stay_and_its_memory_does_not() {
        let memory = memory(100, MemoryPolicy::End);
        assert_eq!(memory.hold(60, 60, true), Growth::Granted);
        memory.end();
        memory.end();
        assert_eq!(memory.reading().guest_bytes, 60);
        assert_eq!(memory.account().reading().guest_bytes, 0);
    }

    #[test]
    fn before_it_is_instantiated_it_has_the_mail_and_no_memory() {
        let account = Arc::new(Account::default());
        account.begin(100, 80, None);
        account.hold_guest(70).unwrap();
        let _mail = account.charge(HostKind::Mailbox, 10).unwrap();
        let next = Memory::new(&Limits::default(), account);
        let reading = next.reading();
        assert_eq!((reading.guest_bytes, reading.host.mailbox, reading.peak_bytes), (0, 10, 0));
        assert_eq!(reading.limit_bytes, Limits::default().memory_bytes);
    }

    #[test]
    fn a_call_may_copy_a_message_and_not_much_of_the_limit() {
        let mib = 1024 * 1024;
        assert_eq!(lifted_bytes(mib as u64), mib + mib / 4);
        assert_eq!(lifted_bytes(32 * mib as u64), 32 * mib / 10);
        assert_eq!(lifted_bytes(u64::MAX), 4 * mib);
    }
}
