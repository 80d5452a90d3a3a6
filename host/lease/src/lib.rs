//! A lease of a town: at most one process holds it, and each holder has a number that is higher than all before.
//!
//! ```text
//!   keeper ── hold ──▶ Lease ──▶ Protocol (what next?) ──▶ Register: a directory, S3, etcd, Kubernetes, NATS
//!     ▲                  │
//!     └── waiting, held, lost: Status
//! ```
//!
//! The register is any store of one small document that replaces it only where it has a certain version. No clock of a
//! server or of another machine counts: see `docs/decisions/lease.md` for the proof, and `tests/lease-model` for the check.
//!
//! - `protocol`: what a process does next, and what it may believe; pure
//! - `clock`: `CLOCK_BOOTTIME`
//! - `document`: a record as JSON
//! - `fault`: why a call of the store failed
//! - `register`: the store; `file`, `s3`, `etcd`, `kubernetes`, `nats` in it
//! - `settings`: which store, for how long
//! - `hold`: the loop
//! - `fleet`: all towns of a register, for people

mod clock;
mod document;
mod fault;
mod fleet;
mod hold;
mod protocol;
mod register;
mod settings;

pub use bulkhead_bucket::{Name, NameError, S3};
pub use bulkhead_nats::{Login, LoginError, Nats};
pub use clock::{Clock, System};
pub use fault::RegisterError;
pub use fleet::{Fleet, MAX_TOWNS, Seen, State, Town};
pub use hold::{Ended, Holder, Lease, Status, try_register};
pub use protocol::{Boottime, Gate, Identity, Lost, Permit, Record, Version, takeover_after};
pub use register::{Register, Written};
pub use settings::{
    Address, AddressError, Etcd, Kubernetes, ObjectNameError, Settings, Ttl, TtlError,
};

#[cfg(test)]
mod tests;
