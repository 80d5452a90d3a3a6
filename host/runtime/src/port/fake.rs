//! A port of the unit tests. Tests outside this crate have `Nobody` of `tests/engine-fixture`.

use std::collections::BTreeMap;

use bulkhead_types::{Level, Secret, Settings};
use parking_lot::Mutex;

use super::Port;

/// Keeps the lines that reach it, each with the number of those dropped before it.
#[derive(Default)]
pub(crate) struct FakePort {
    pub lines: Mutex<Vec<(String, u64)>>,
    pub settings: Settings,
    pub town: BTreeMap<String, Secret>,
}

impl Port for FakePort {
    crate::empty_port!();
    fn log_line(
        &self,
        _level: Level,
        _stream: &'static str,
        message: String,
        _fields: BTreeMap<String, String>,
        dropped: u64,
    ) {
        self.lines.lock().push((message, dropped));
    }
    fn settings(&self) -> Settings {
        self.settings.clone()
    }
    fn live_value(&self, key: &str) -> Option<Secret> {
        self.town.get(key).cloned()
    }
    fn live_values(&self) -> BTreeMap<String, Secret> {
        self.town.clone()
    }
}
