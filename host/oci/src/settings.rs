//! Where components come from, where they are kept, and how long anything may take.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use bulkhead_net::{Connector, Destination};

use crate::place;
use crate::{Login, PublicKey, Reference};

/// Everything about components in registries.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where components are kept: for this user alone, and made if it is not there.
    pub dir: PathBuf,
    /// The way out.
    pub connector: Connector,
    /// By the name of a registry as references have it, in lower case: `ghcr.io`, `localhost:5000`.
    pub registries: BTreeMap<String, Access>,
    /// To all other registries.
    pub others: Access,
    /// Bounds of what is kept.
    pub bounds: Bounds,
    /// Bounds of time.
    pub times: Times,
}

/// How a registry is spoken to.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// Who asks.
    pub login: Login,
    /// Whether HTTP is spoken without TLS. Unless it is said, only with this machine.
    pub plain_http: Option<bool>,
    /// What its components have to be signed by. Of a listed registry without one, what those of all others are.
    pub public_key: Option<PublicKey>,
}

/// Bounds of what is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Largest component, in bytes.
    pub max_component_bytes: u64,
    /// All components together, in bytes, those that are being fetched aside. Past it those go first that were not used
    /// for longest.
    pub max_bytes: u64,
    /// Most components.
    pub max_entries: usize,
}

/// Bounds of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// A component as a whole, with all tries.
    pub fetch: Duration,
    /// A connection.
    pub connect: Duration,
    /// The next piece of an answer.
    pub stall: Duration,
}

impl Settings {
    /// Components in `dir`, from any registry that wants no credentials.
    pub fn new(dir: PathBuf, connector: Connector) -> Self {
        let (registries, others) = (BTreeMap::new(), Access::default());
        let (bounds, times) = (Bounds::default(), Times::default());
        Self { dir, connector, registries, others, bounds, times }
    }

    /// Where a component is when it is kept. Known before anything is fetched, so that a path can stand for a reference.
    pub fn place(&self, reference: &Reference) -> PathBuf {
        place::entry(&self.dir, reference.digest()).join(place::COMPONENT)
    }

    pub(crate) fn access(&self, reference: &Reference) -> &Access {
        self.registries.get(reference.registry()).unwrap_or(&self.others)
    }

    /// What a component has to be signed by, when its role says nothing.
    pub(crate) fn public_key(&self, reference: &Reference) -> Option<&PublicKey> {
        self.access(reference).public_key.as_ref().or(self.others.public_key.as_ref())
    }
}

impl Access {
    /// Whether HTTP without TLS may be spoken with it.
    pub(crate) fn may_be_plain(&self, to: &Destination) -> bool {
        self.plain_http.unwrap_or_else(|| to.is_loopback())
    }
}

impl Default for Bounds {
    fn default() -> Self {
        let mib = 1024 * 1024;
        Self { max_component_bytes: 64 * mib, max_bytes: 1024 * mib, max_entries: 256 }
    }
}

impl Default for Times {
    fn default() -> Self {
        let [fetch, connect, stall] = [120, 10, 20].map(Duration::from_secs);
        Self { fetch, connect, stall }
    }
}
