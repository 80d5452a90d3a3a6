//! What the start slot and its users hand each other.

use bulkhead_types::{Digest, IfRunning, Incarnation, RestartState};

/// What the slot has to know of an incarnation.
pub(crate) trait SlotEntry: Clone {
    /// What a start asks for.
    type Spec: ?Sized;
    /// Its number, once it has one.
    fn incarnation(&self) -> Option<Incarnation>;
    /// Gives it its number. Called once.
    fn assign(&self, number: Incarnation);
    /// What it was asked to be.
    fn spec(&self) -> &Self::Spec;
    /// Whether a start of `spec` asks for the same agent. Must be quick: it is called under the lock.
    fn is_same(&self, spec: &Self::Spec) -> bool;
    /// What it is made from, once that is loaded.
    fn component(&self) -> Option<Digest>;
    /// Whether it starts or runs, and nobody asked it to end.
    fn is_up(&self) -> bool;
    /// Whether it starts and does not run yet.
    fn is_starting(&self) -> bool;
}

/// Names a reservation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ticket(pub u64);

/// What a start wants of the slot.
pub(crate) struct StartIntent<'a, S: ?Sized> {
    pub spec: &'a S,
    /// What becomes of an incarnation that is up.
    pub if_running: IfRunning,
    /// Also out of quarantine.
    pub force: bool,
    /// Goes on where an earlier run of the host was: what happened before counts, and the start that came first in
    /// this run stays.
    pub resumes: bool,
}

/// What of a [`StartIntent`] a start still wants that is made again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RestartIntent {
    pub force: bool,
    pub resumes: bool,
}

/// What became of a start.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Admitted<T> {
    /// A reservation. `superseded` had it before, and the caller has to stop it.
    Reserved { ticket: Ticket, entry: T, superseded: Option<T> },
    /// The same start is under way.
    Joined(T),
    /// The one that is up is what the caller wants, whatever its spec.
    Kept(T),
}

/// Whom a reservation that is ready comes after.
pub(crate) struct Before<T> {
    /// Active, and has to be asked to end.
    pub holder: Option<T>,
    /// Was in backoff. It is not restarted.
    pub backoff: Option<T>,
}

/// Why a reservation cannot go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NotReady<T> {
    /// It is gone, to a newer start or a stop.
    Gone,
    /// It is gone: this one is up, and what it asks for.
    Joined(T),
    /// The agent has crashed too often. The reservation is still there.
    Quarantined(Box<RestartState>),
}

/// What waiting for the turn led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Acquired {
    /// No other incarnation is active: this incarnation is the holder.
    Holder,
    /// The reservation is gone, to a newer start or a stop.
    Gone,
    /// The container has no capacity for one more. The reservation is still there.
    Full,
}

/// Which incarnations a stop has to be sent to.
pub(crate) struct Stopped<T> {
    /// Active.
    pub holder: Option<T>,
    /// Had a reservation.
    pub next: Option<T>,
    /// Was in backoff.
    pub backoff: Option<T>,
    /// Every incarnation up to this one is meant.
    pub upto: Incarnation,
}
