//! The limiter: linear memories and tables of the whole component, summed into its meter.

use std::sync::Arc;

use wasmtime::{Error, ResourceLimiter, Result};

use crate::meter::{Growth, Meter};
use crate::port::Port;

/// A table element is a pointer in the engine.
const TABLE_ELEMENT_BYTES: usize = size_of::<usize>();

pub(crate) struct Limiter {
    meter: Arc<Meter>,
    port: Arc<dyn Port>,
    /// Granted last, to be given back when the engine then fails to do it.
    pending: u64,
}

impl Limiter {
    pub(crate) fn new(meter: Arc<Meter>, port: Arc<dyn Port>) -> Self {
        Self { meter, port, pending: 0 }
    }

    fn grow(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        let bytes = desired.saturating_sub(current) as u64;
        match self.meter.grow(bytes) {
            Growth::Granted { crossed_soft } => {
                self.pending = bytes;
                if crossed_soft {
                    let usage = self.meter.usage();
                    self.port.memory_soft_limit(usage.memory_bytes, usage.memory_limit_bytes);
                }
                Ok(true)
            }
            Growth::Denied => Ok(false),
            Growth::Ends(cut) => Err(cut.into()),
        }
    }

    fn give_back(&mut self) {
        self.meter.give_back(std::mem::take(&mut self.pending));
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> Result<bool> {
        self.grow(current, desired, maximum)
    }

    fn memory_grow_failed(&mut self, _error: Error) -> Result<()> {
        self.give_back();
        Ok(())
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> Result<bool> {
        let bytes = |elements: usize| elements.saturating_mul(TABLE_ELEMENT_BYTES);
        self.grow(bytes(current), bytes(desired), maximum.map(bytes))
    }

    fn table_grow_failed(&mut self, _error: Error) -> Result<()> {
        self.give_back();
        Ok(())
    }
}
