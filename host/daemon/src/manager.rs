//! Who hears how far this host is: the init process above it, which passes it on, or the service manager itself.

use std::time::Duration;

use crate::init::{Handover, InitMessage};
use crate::notify::{Notifier, Stage};

/// Who hears how far this host is.
pub enum Manager<'a> {
    /// The init process, and the service manager through it.
    Init(&'a Handover),
    /// The service manager, if there is one.
    Service(Notifier),
}

impl<'a> Manager<'a> {
    /// To be called before the process confines itself.
    pub fn of(handover: Option<&'a Handover>) -> Self {
        handover.map_or_else(|| Self::Service(Notifier::from_environment()), Self::Init)
    }

    /// Between two beats. `None`: nobody wants any.
    pub fn beat(&self) -> Option<Duration> {
        match self {
            Self::Init(handover) => handover.beat_ms.map(Duration::from_millis),
            Self::Service(notifier) => notifier.beat(),
        }
    }

    /// The host came to a stage.
    pub fn reached(&self, stage: Stage) {
        match (self, stage) {
            // It has started it.
            (Self::Init(_), Stage::Booting) => {}
            (Self::Init(init), Stage::Ready) => init.send(InitMessage::Ready),
            (Self::Init(init), Stage::Draining) => init.send(InitMessage::Draining),
            (Self::Service(notifier), stage) => notifier.reached(stage),
        }
    }

    /// The host works.
    pub fn alive(&self) {
        match self {
            Self::Init(init) => init.send(InitMessage::Alive),
            Self::Service(notifier) => notifier.alive(),
        }
    }
}
