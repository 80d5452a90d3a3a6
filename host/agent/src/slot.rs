//! The start slot of an agent id: at most one incarnation is active, and every start gets an answer.
//!
//! ```text
//!             admit                 ready, then the holder is gone               end
//!   (nothing) ─────▶ reserved `next` ────────────────────────────▶ `holder` ─────────▶ `past`
//!                      │    ▲                                       │    ▲  end, with
//!        a newer start │    │ a newer start                         │    │  a restart due
//!        takes over    ▼    │                                       ▼    │ restart
//!                  withdrawn └───────────────────────────────────  `backoff`
//! ```
//!
//! A start reserves the slot. It then does what can fail without touching whatever runs, and says that it is
//! ready. If an incarnation is up that is what it asks for, from the same component, the start joins that one
//! and the reservation is gone. Else it waits for its turn: the holder is asked to end, and when it is gone
//! the reservation becomes the holder. Only the holder touches the engine. A newer start of another spec takes
//! over the reservation, so at most one ever waits, and the older one is answered at once.
//!
//! Numbers are never given twice, and an incarnation that begins later has a higher one. So a reservation gets
//! its number as soon as no other incarnation can begin before it: at once when no incarnation is active or in backoff,
//! else when it is ready. Until then a restart may take a number. A reservation that is gone before has none.
//!
//! Every decision is one short critical section of [`Slot::inner`]. Nothing waits in it, and nobody is
//! cancelled in it: a method hands out whom to cancel, and the caller does so afterwards. That an end was
//! asked for is written down under the lock all the same, so that an agent that crashes at that moment is
//! not restarted.
//!
//! `tests/slot-model` runs this file with `slot_entry.rs`, and broken versions of it, under a scheduler that goes
//! through the interleavings.

use bulkhead_types::restart::{Decision, PastEnd};
use bulkhead_types::{IfRunning, Incarnation, RestartRules, RestartState};
use std::time::Duration;

pub(crate) use super::slot_entry::{
    Acquired, Admitted, Before, NotReady, RestartIntent, SlotEntry, StartIntent, Stopped, Ticket,
};
use super::sync::{Mutex, MutexGuard, PoisonError, watch};

/// One agent id's slot. `T` is an incarnation, `P` its part of the container's capacity.
pub(crate) struct Slot<T: SlotEntry, P> {
    inner: Mutex<Inner<T, P>>,
    changed: watch::Sender<()>,
}

struct Inner<T, P> {
    /// The last number that was given.
    last: Incarnation,
    /// Reservations that were made.
    tickets: u64,
    /// May touch the engine, and is not gone.
    holder: Option<Holder<T>>,
    /// The newest start. It begins when it is ready and the holder is gone.
    next: Option<Reservation<T>>,
    /// No incarnation is active; this one's task waits to begin again.
    backoff: Option<T>,
    /// The last one that ended and is not restarted.
    past: Option<T>,
    /// Kept from one incarnation to the next, so that a replacement or a restart cannot lose it to
    /// somebody else.
    permit: Option<P>,
    restarts: RestartState,
}

struct Holder<T> {
    entry: T,
    /// Somebody asked for its end: it is not restarted automatically.
    released: bool,
}

struct Reservation<T> {
    ticket: Ticket,
    entry: T,
    /// An equal one that runs is not enough.
    restarts: bool,
    force: bool,
    resumes: bool,
    /// What can fail without touching the holder is done.
    ready: bool,
    /// A new spec, or a person's word: once it begins, what happened before does not count.
    fresh: bool,
}

impl<T: SlotEntry, P> Slot<T, P> {
    /// A slot that holds nothing. Numbers go on from `last`.
    pub(crate) fn new(last: Incarnation) -> Self {
        let inner = Inner {
            last,
            tickets: 0,
            holder: None,
            next: None,
            backoff: None,
            past: None,
            permit: None,
            restarts: RestartState::default(),
        };
        Self { inner: Mutex::new(inner), changed: watch::Sender::new(()) }
    }

    /// What an earlier run of the host left: the history, and the incarnation that others see.
    pub(crate) fn remember(&self, restarts: RestartState, past: Option<T>) {
        let mut inner = self.lock();
        inner.restarts = restarts;
        inner.past = past.or(inner.past.take());
        drop(inner);
        self.notify();
    }

    /// Lets a start in. `may_begin` is asked under the lock under which [`Slot::stop`] looks for the active
    /// incarnation: a start that it lets through is seen there. `make` makes the incarnation; it must not block.
    ///
    /// Whether a start comes out of quarantine depends on its component, so [`Slot::ready`] says that. Only a
    /// start that would take the reservation from another one is refused here.
    pub(crate) fn admit<E: From<RestartState>>(
        &self,
        intent: &StartIntent<'_, T::Spec>,
        may_begin: impl FnOnce() -> Result<(), E>,
        make: impl FnOnce() -> T,
    ) -> Result<Admitted<T>, E> {
        let mut inner = self.lock();
        may_begin()?;
        if let Some(admitted) = inner.without_a_new_one(intent) {
            return Ok(admitted);
        }
        if inner.next.is_some() && inner.is_quarantined(intent) {
            return Err(inner.restarts.clone().into());
        }
        let entry = make();
        let ticket = inner.ticket();
        let reservation = Reservation {
            ticket,
            entry: entry.clone(),
            restarts: intent.if_running == IfRunning::Restart,
            force: intent.force,
            resumes: intent.resumes,
            ready: false,
            fresh: false,
        };
        let superseded = inner.next.replace(reservation).map(|before| before.entry);
        inner.number_next();
        drop(inner);
        self.notify();
        Ok(Admitted::Reserved { ticket, entry, superseded })
    }

    /// The incarnation that is up, when it is what the reservation asks for. The reservation is gone then.
    pub(crate) fn join(&self, ticket: Ticket) -> Option<T> {
        let joined = self.lock().join(ticket)?;
        self.notify();
        Some(joined)
    }

    /// The reservation can do without what there is now, unless that is what it asks for, or is quarantined. In both
    /// cases it is gone then.
    pub(crate) fn ready(&self, ticket: Ticket) -> Result<Before<T>, NotReady<T>> {
        let mut inner = self.lock();
        if let Some(joined) = inner.join(ticket) {
            drop(inner);
            self.notify();
            return Err(NotReady::Joined(joined));
        }
        let next = inner.next.as_ref().filter(|next| next.ticket == ticket);
        let next = next.ok_or(NotReady::Gone)?;
        let fresh = !next.resumes && (next.force || !inner.knows(&next.entry));
        if inner.restarts.quarantine.is_some() && !fresh {
            let restarts = Box::new(inner.restarts.clone());
            // At once: a start with more right than this one would join it, and be refused with it.
            inner.next = None;
            drop(inner);
            self.notify();
            return Err(NotReady::Quarantined(restarts));
        }
        if let Some(next) = &mut inner.next {
            (next.ready, next.fresh) = (true, fresh);
        }
        inner.number_next();
        let holder = inner.release_holder();
        let backoff = inner.backoff.take();
        inner.past = backoff.clone().or(inner.past.take());
        drop(inner);
        self.notify();
        Ok(Before { holder, backoff })
    }

    /// Waits until the reservation is the holder, or gone. `permit` gets one when the slot
    /// has none; it must not block. Dropping the future leaves the reservation as it is.
    pub(crate) async fn acquire(&self, ticket: Ticket, permit: impl Fn() -> Option<P>) -> Acquired {
        self.until(|inner| inner.try_acquire(ticket, &permit)).await
    }

    /// The reservation `number` failed, which others see as long as nothing else is there. `backs_off`: it is
    /// made again later. Says whether it is; somebody may have taken it over meanwhile.
    pub(crate) fn fail(&self, ticket: Ticket, backs_off: bool) -> bool {
        let mut inner = self.lock();
        let failed = inner.next.take_if(|next| next.ticket == ticket);
        let is_free = inner.holder.is_none() && inner.backoff.is_none();
        let failed = failed.filter(|_| is_free).map(|failed| failed.entry);
        if let Some(failed) = failed.as_ref().filter(|failed| failed.incarnation().is_none()) {
            // What others see has a number, and nothing else can begin before it.
            failed.assign(inner.count());
        }
        let backs_off = backs_off && failed.is_some();
        match backs_off {
            true => inner.backoff = failed,
            false => inner.past = failed.or(inner.past.take()),
        }
        let permit = inner.free_permit();
        drop(inner);
        drop(permit);
        self.notify();
        backs_off
    }

    /// The backoff of a start that failed, `number`, is over, and it is reserved again, with what it wanted. Waits
    /// for a newer start that is under way: if that fails, this one goes on. `None`: somebody took over.
    pub(crate) async fn reserve_again(
        &self,
        number: Incarnation,
        wanted: RestartIntent,
        make: impl Fn() -> T,
    ) -> Option<(Ticket, T)> {
        let reserved = self.until(|inner| inner.reserve_again(number, wanted, &make)).await;
        self.notify();
        reserved
    }

    /// Gives a reservation up.
    pub(crate) fn withdraw(&self, ticket: Ticket) {
        let mut inner = self.lock();
        inner.next.take_if(|next| next.ticket == ticket);
        let permit = inner.free_permit();
        drop(inner);
        drop(permit);
        self.notify();
    }

    /// Decides whether the holder, which ends, is restarted. What was asked to end is not.
    pub(crate) fn decide(
        &self,
        rules: &RestartRules,
        end: PastEnd,
        lived: Duration,
        dice: f64,
        may_restart: bool,
    ) -> Decision {
        let mut inner = self.lock();
        if !may_restart || !inner.is_wanted(end.incarnation) {
            return Decision::Stay;
        }
        inner.restarts.after(rules, end, lived, dice)
    }

    /// Whether `number` holds the slot and nobody asked for its end.
    pub(crate) fn is_wanted(&self, number: Incarnation) -> bool {
        self.lock().is_wanted(number)
    }

    /// The holder `number` is gone. `backs_off`: a restart is due. Says whether it still is; somebody may
    /// have asked for the end meanwhile.
    pub(crate) fn end(&self, number: Incarnation, backs_off: bool) -> bool {
        let mut inner = self.lock();
        let backs_off = backs_off && inner.is_wanted(number);
        if inner.holds(number) {
            let entry = inner.holder.take().map(|holder| holder.entry);
            match backs_off {
                true => inner.backoff = entry,
                false => inner.past = entry,
            }
        }
        let permit = inner.free_permit();
        drop(inner);
        drop(permit);
        self.notify();
        backs_off
    }

    /// The backoff of `number` is over: the next incarnation, which `make` makes with its number, is the holder at
    /// once. `None`: somebody took the slot or asked for the end.
    pub(crate) fn restart(
        &self,
        number: Incarnation,
        make: impl FnOnce(Incarnation) -> T,
    ) -> Option<T> {
        let mut inner = self.lock();
        inner.backoff.take_if(|backoff| backoff.incarnation() == Some(number))?;
        let entry = make(inner.count());
        inner.holder = Some(Holder { entry: entry.clone(), released: false });
        drop(inner);
        self.notify();
        Some(entry)
    }

    /// The one in backoff, `number`, is not restarted.
    pub(crate) fn give_up_backoff(&self, number: Incarnation) {
        let mut inner = self.lock();
        if inner.is_in_backoff(number) {
            inner.past = inner.backoff.take();
        }
        let permit = inner.free_permit();
        drop(inner);
        drop(permit);
        self.notify();
    }

    /// Resolves when `number` is in backoff no longer.
    pub(crate) async fn left_backoff(&self, number: Incarnation) {
        self.until(|inner| (!inner.is_in_backoff(number)).then_some(())).await;
    }

    /// Asks everything to end that there is. The caller stops what is handed out.
    pub(crate) fn stop(&self) -> Stopped<T> {
        let mut inner = self.lock();
        let holder = inner.release_holder();
        let next = inner.next.take().map(|next| next.entry);
        let backoff = inner.backoff.take();
        inner.past = backoff.clone().or(inner.past.take());
        let (upto, permit) = (inner.last, inner.free_permit());
        drop(inner);
        drop(permit);
        self.notify();
        Stopped { holder, next, backoff, upto }
    }

    /// Resolves when no incarnation up to `upto` is active.
    pub(crate) async fn gone(&self, upto: Incarnation) {
        self.until(|inner| {
            let active = inner.holder.as_ref().and_then(|holder| holder.entry.incarnation());
            active.is_none_or(|number| number > upto).then_some(())
        })
        .await;
    }

    /// The incarnation that others see: the one that will run if it is sure to, else the one that does, else the
    /// one that may. A start that has no number yet is seen when there is nothing else.
    pub(crate) fn shown(&self) -> Option<T> {
        let inner = self.lock();
        let next = inner.next.as_ref();
        let ready = next.filter(|next| next.ready).map(|next| &next.entry);
        let there = ready.or(inner.holder.as_ref().map(|holder| &holder.entry));
        let next = next.map(|next| &next.entry);
        let numbered = next.filter(|next| next.incarnation().is_some());
        let there = there.or(inner.backoff.as_ref()).or(numbered);
        there.or(inner.past.as_ref()).or(next).cloned()
    }

    /// The incarnation that is active, or in backoff.
    pub(crate) fn occupant(&self) -> Option<T> {
        let inner = self.lock();
        let holder = inner.holder.as_ref().map(|holder| &holder.entry);
        holder.or(inner.backoff.as_ref()).cloned()
    }

    /// The holder, and the newest start that waits for its turn.
    pub(crate) fn present(&self) -> impl Iterator<Item = T> + use<T, P> {
        let inner = self.lock();
        let holder = inner.holder.as_ref().map(|holder| holder.entry.clone());
        let next = inner.next.as_ref().map(|next| next.entry.clone());
        [holder, next].into_iter().flatten()
    }

    /// What the restarts have come to.
    pub(crate) fn restarts(&self) -> RestartState {
        self.with_restarts(RestartState::clone)
    }

    /// The same without a copy: their history can be long.
    pub(crate) fn with_restarts<R>(&self, look: impl FnOnce(&RestartState) -> R) -> R {
        look(&self.lock().restarts)
    }

    /// The active one came through a turn: deaths of the host before it do not count against it. Yields what the
    /// restarts have come to when that changed it.
    pub(crate) fn clear_host_deaths(&self) -> Option<RestartState> {
        let mut inner = self.lock();
        inner.restarts.clear_host_deaths().then(|| inner.restarts.clone())
    }

    /// Whether no incarnation is active, waiting or in backoff.
    pub(crate) fn is_vacant(&self) -> bool {
        self.lock().is_vacant()
    }

    /// The last number that was given.
    pub(crate) fn last(&self) -> Incarnation {
        self.lock().last
    }

    async fn until<R>(&self, mut look: impl FnMut(&mut Inner<T, P>) -> Option<R>) -> R {
        // Before the first check: a change after it is not missed.
        let mut changed = self.changed.subscribe();
        loop {
            let seen = look(&mut self.lock());
            if let Some(seen) = seen {
                return seen;
            }
            if changed.changed().await.is_err() {
                // The sender is ours: it cannot be gone while this waits.
                std::future::pending::<()>().await;
            }
        }
    }

    fn notify(&self) {
        self.changed.send_replace(());
    }

    fn lock(&self) -> MutexGuard<'_, Inner<T, P>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: SlotEntry, P> Inner<T, P> {
    /// The table of the start slot, as far as no new reservation comes of it. The newest one counts.
    fn without_a_new_one(&mut self, intent: &StartIntent<'_, T::Spec>) -> Option<Admitted<T>> {
        if let Some(up) = self.up().filter(|_| intent.if_running == IfRunning::Keep) {
            return Some(Admitted::Kept(up.clone()));
        }
        if let Some(next) = self.next.as_mut().filter(|next| next.entry.is_same(intent.spec)) {
            // Both want it begun; one of them may want more than that.
            next.restarts |= intent.if_running == IfRunning::Restart;
            next.force |= intent.force;
            return Some(Admitted::Joined(next.entry.clone()));
        }
        let first = self.anyone().filter(|_| intent.resumes)?;
        Some(Admitted::Kept(first.clone()))
    }

    /// The incarnation that starts or runs, and that nobody asked to end.
    fn up(&self) -> Option<&T> {
        let holder = self.holder.as_ref().filter(|holder| !holder.released)?;
        Some(&holder.entry).filter(|entry| entry.is_up())
    }

    fn join(&mut self, ticket: Ticket) -> Option<T> {
        let next = self.next.as_ref().filter(|next| next.ticket == ticket)?;
        let is_equal = |up: &&T| {
            // What starts is fresh enough for everybody.
            let enough = !next.restarts || up.is_starting();
            let of_component = up.component() == next.entry.component();
            enough && of_component && up.is_same(next.entry.spec())
        };
        let up = self.up().filter(is_equal)?.clone();
        self.next = None;
        Some(up)
    }

    /// Whether `entry` is what the slot's history is about: the same spec, from the same component.
    fn knows(&self, entry: &T) -> bool {
        let Some(known) = self.known().filter(|known| known.is_same(entry.spec())) else {
            return false;
        };
        let of_last_end = || self.restarts.ends.last().and_then(|end| end.code_sha256);
        // Of an end in an earlier run it may not be known: then it counts as the same.
        let component = known.component().or_else(of_last_end);
        component.is_none_or(|component| entry.component() == Some(component))
    }

    /// Whether a start is refused for the history, as far as its spec shows.
    fn is_quarantined(&self, intent: &StartIntent<'_, T::Spec>) -> bool {
        let is_known = || self.known().is_some_and(|known| known.is_same(intent.spec));
        self.restarts.quarantine.is_some() && !intent.force && is_known()
    }

    /// The spec that a start is held against to see whether it is a new one.
    fn known(&self) -> Option<&T> {
        let holder = self.holder.as_ref().map(|holder| &holder.entry);
        holder.or(self.backoff.as_ref()).or(self.past.as_ref())
    }

    /// The current entry, or the last one.
    fn anyone(&self) -> Option<&T> {
        self.next.as_ref().map(|next| &next.entry).or(self.known())
    }

    fn count(&mut self) -> Incarnation {
        self.last = Incarnation(self.last.0 + 1);
        self.last
    }

    fn ticket(&mut self) -> Ticket {
        self.tickets += 1;
        Ticket(self.tickets)
    }

    /// Gives the reservation its number, when no other incarnation can begin before it. A quarantined agent
    /// may not begin at all.
    fn number_next(&mut self) {
        let nothing_else = self.holder.is_none() && self.backoff.is_none();
        let is_first = nothing_else && self.restarts.quarantine.is_none();
        let next = self.next.as_ref().filter(|next| next.ready || is_first);
        let unnumbered = next.map(|next| next.entry.clone());
        if let Some(entry) = unnumbered.filter(|entry| entry.incarnation().is_none()) {
            entry.assign(self.count());
        }
    }

    fn try_acquire(
        &mut self,
        ticket: Ticket,
        permit: impl FnOnce() -> Option<P>,
    ) -> Option<Acquired> {
        if !self.next.as_ref().is_some_and(|next| next.ticket == ticket) {
            return Some(Acquired::Gone);
        }
        if self.holder.is_some() {
            return None;
        }
        self.permit = self.permit.take().or_else(permit);
        if self.permit.is_none() {
            return Some(Acquired::Full);
        }
        let Reservation { entry, fresh, .. } = self.next.take()?;
        if fresh {
            // Now, and not before it begins: a start that fails until here changes nothing.
            self.restarts = RestartState::default();
        }
        self.holder = Some(Holder { entry, released: false });
        Some(Acquired::Holder)
    }

    fn reserve_again(
        &mut self,
        number: Incarnation,
        wanted: RestartIntent,
        make: impl FnOnce() -> T,
    ) -> Option<Option<(Ticket, T)>> {
        if !self.is_in_backoff(number) {
            return Some(None);
        }
        if self.next.is_some() {
            return None;
        }
        self.backoff = None;
        let (entry, ticket) = (make(), self.ticket());
        let RestartIntent { force, resumes } = wanted;
        self.next = Some(Reservation {
            ticket,
            entry: entry.clone(),
            restarts: false,
            force,
            resumes,
            ready: false,
            fresh: false,
        });
        self.number_next();
        Some(Some((ticket, entry)))
    }

    fn release_holder(&mut self) -> Option<T> {
        let holder = self.holder.as_mut()?;
        holder.released = true;
        Some(holder.entry.clone())
    }

    fn holds(&self, number: Incarnation) -> bool {
        self.holder.as_ref().is_some_and(|holder| holder.entry.incarnation() == Some(number))
    }

    /// Whether `number` holds the slot and nobody asked for its end.
    fn is_wanted(&self, number: Incarnation) -> bool {
        self.holds(number) && self.holder.as_ref().is_some_and(|holder| !holder.released)
    }

    fn is_in_backoff(&self, number: Incarnation) -> bool {
        self.backoff.as_ref().is_some_and(|backoff| backoff.incarnation() == Some(number))
    }

    fn is_vacant(&self) -> bool {
        self.holder.is_none() && self.next.is_none() && self.backoff.is_none()
    }

    /// The permit, when nothing has a claim to it any more. To be dropped without the lock.
    fn free_permit(&mut self) -> Option<P> {
        let claimed = self.holder.is_some()
            || self.backoff.is_some()
            || self.next.as_ref().is_some_and(|next| next.ready);
        if claimed { None } else { self.permit.take() }
    }
}

#[cfg(test)]
mod tests;
