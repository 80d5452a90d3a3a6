//! What every call needs.

use std::sync::Arc;

use crate::ticker::Ticker;

/// What every call needs. Cheap to clone.
#[derive(Clone)]
pub struct Executor {
    pub(crate) ticker: Arc<Ticker>,
}

impl Executor {
    pub(crate) fn ticker(&self) -> &Ticker {
        &self.ticker
    }
}
