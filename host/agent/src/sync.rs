//! The primitives under the start slot. They are named in one place so that the model check in
//! `tests/slot_model` can put a scheduler of its own under the same source.

pub(crate) use std::sync::{Mutex, MutexGuard, PoisonError};

pub(crate) use tokio::sync::watch;
