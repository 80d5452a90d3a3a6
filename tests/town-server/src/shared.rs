//! What the server's thread and its handle share.

use std::collections::BTreeMap;
use std::time::Instant;

use parking_lot::{Mutex, MutexGuard};

use crate::fault::Faults;
use crate::kept::Kept;
use crate::log::Record;
use crate::server::Options;
use crate::town::Town;

/// Texts that callers must not send.
const MAX_SECRETS: usize = 1000;

pub(crate) struct Shared {
    pub options: Options,
    pub began: Instant,
    state: Mutex<State>,
}

#[derive(Default)]
pub(crate) struct State {
    pub towns: BTreeMap<String, Town>,
    pub faults: Faults,
    pub log: Kept<Record>,
    secrets: Vec<String>,
    /// Which secret was seen where.
    pub leaks: Kept<String>,
}

impl Shared {
    pub fn new(options: Options) -> Self {
        Self { options, began: Instant::now(), state: Mutex::default() }
    }

    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

impl State {
    pub fn town(&mut self, id: &str) -> &mut Town {
        if !self.towns.contains_key(id) {
            self.towns.insert(id.to_owned(), Town::default());
        }
        self.towns.get_mut(id).expect("it was just put there")
    }

    pub fn add_secret(&mut self, secret: &str) {
        assert!(self.secrets.len() < MAX_SECRETS, "at most {MAX_SECRETS} secrets are watched for");
        self.secrets.push(secret.to_owned());
    }

    /// Looks for secrets in a part of a call.
    pub fn look_for_secrets(&mut self, place: &str, bytes: &[u8]) {
        let text = String::from_utf8_lossy(bytes);
        let found = self.secrets.iter().filter(|secret| text.contains(secret.as_str()));
        for secret in found {
            self.leaks.push(format!("{secret} in {place}"));
        }
    }
}
