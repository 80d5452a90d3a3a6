//! Why something could not be shipped or restored.

/// A failure. Texts name the object and no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ShipError {
    /// The store of objects does not answer, or not in time. A write may have happened.
    #[error("{0}")]
    Unavailable(String),
    /// The store does not want it: permissions, no room, no such directory.
    #[error("{0}")]
    Refused(String),
    /// The store is there, and has no such bucket.
    #[error("{0}")]
    NoPlace(String),
    /// An object is not what was written.
    #[error("{object} is damaged: {what}")]
    Damaged {
        /// Which one, with where it is.
        object: String,
        /// What is wrong with it.
        what: String,
    },
    /// An object is not there that has to be.
    #[error("{object} is missing, and {why}")]
    Missing {
        /// Which one, with where it is.
        object: String,
        /// How it is known that it was there.
        why: String,
    },
    /// Somebody else writes the log now.
    #[error("{object} was written by another copy of the town: this one must not write any more")]
    Fenced {
        /// The one with the next number, or the head.
        object: String,
    },
    /// A newer holder of the lease has written.
    #[error("{object} belongs to epoch {found}, and this copy has epoch {own}")]
    Newer {
        /// The head.
        object: String,
        /// Its epoch.
        found: u64,
        /// The epoch of this copy.
        own: u64,
    },
    /// The local disk.
    #[error("{0}")]
    Local(String),
}

impl ShipError {
    pub(crate) fn damaged(object: &str, what: impl Into<String>) -> Self {
        Self::Damaged { object: object.to_owned(), what: what.into() }
    }

    pub(crate) fn local(what: &str, error: &std::io::Error) -> Self {
        Self::Local(format!("{what}: {error}"))
    }

    /// Whether it is worth another try with the same words, for who has something to ship.
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Refused(_) | Self::NoPlace(_) | Self::Local(_))
    }

    /// The same for a boot, which holds the lease meanwhile: nobody makes a bucket in that time.
    pub(crate) fn may_pass_soon(&self) -> bool {
        self.may_pass() && !matches!(self, Self::NoPlace(_))
    }
}
