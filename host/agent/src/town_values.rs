//! What all agents of a container share: the town's configuration values, and what its dashboard shows.

use std::collections::{BTreeMap, BTreeSet};

use bulkhead_types::Secret;
use bulkhead_types::settings::{MAX_TOWN_VALUE_BYTES, MAX_TOWN_VALUES};
use parking_lot::RwLock;

/// Read by every agent at any time, written by the control API.
#[derive(Default)]
pub struct TownValues(RwLock<Inner>);

#[derive(Default)]
struct Inner {
    revision: u64,
    dashboard_context: Option<String>,
    values: BTreeMap<String, Secret>,
}

/// Why a change of the town's configuration values was not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TownConfigError {
    /// Too many.
    #[error("would set {0} values, at most {MAX_TOWN_VALUES} are held")]
    TooMany(usize),
    /// Too much.
    #[error("would have {0} bytes of keys and values, at most {MAX_TOWN_VALUE_BYTES} are held")]
    TooLarge(usize),
}

impl TownValues {
    /// Replaces what the dashboard shows. Whether that changed anything.
    pub fn set_dashboard_context(&self, context: Option<String>) -> bool {
        self.change(|inner| {
            let changed = inner.dashboard_context != context;
            inner.dashboard_context = context;
            changed
        })
    }

    /// Sets values, and takes away those that are `None`; of a whole set also those that it does not name, but for
    /// the `unread` keys, which were named with something that is no value. All of it or nothing. Returns how many
    /// are another value now.
    pub fn change_values(
        &self,
        changed_values: &BTreeMap<String, Option<Secret>>,
        is_whole: bool,
        unread: &BTreeSet<String>,
    ) -> Result<usize, TownConfigError> {
        let mut result = Ok(0);
        self.change(|inner| {
            let is_gone = |key: &String| {
                is_whole && !changed_values.contains_key(key) && !unread.contains(key)
            };
            let differs = |(key, value): &(&String, &Option<Secret>)| {
                inner.values.get(*key) != value.as_ref()
            };
            let gone = inner.values.keys().filter(|key| is_gone(key)).count();
            let changed = gone + changed_values.iter().filter(differs).count();
            // The usual call brings what is there already: no copy for that.
            if changed == 0 {
                return false;
            }
            let mut values = inner.values.clone();
            values.retain(|key, _| !is_gone(key));
            for (key, value) in changed_values {
                match value {
                    Some(value) => values.insert(key.clone(), value.clone()),
                    None => values.remove(key),
                };
            }
            result = bounded(&values).map(|()| changed);
            if result.is_ok() {
                inner.values = values;
            }
            result.is_ok()
        });
        result
    }

    /// What the dashboard shows, and the number of changes so far.
    pub(crate) fn dashboard_context(&self) -> (u64, Option<String>) {
        let inner = self.0.read();
        (inner.revision, inner.dashboard_context.clone())
    }

    pub(crate) fn value(&self, key: &str) -> Option<Secret> {
        self.0.read().values.get(key).cloned()
    }

    pub(crate) fn values(&self) -> BTreeMap<String, Secret> {
        self.0.read().values.clone()
    }

    fn change(&self, change: impl FnOnce(&mut Inner) -> bool) -> bool {
        let mut inner = self.0.write();
        let changed = change(&mut inner);
        inner.revision += u64::from(changed);
        changed
    }
}

fn bounded(values: &BTreeMap<String, Secret>) -> Result<(), TownConfigError> {
    let bytes = values.iter().map(|(key, value)| key.len() + value.expose().len()).sum();
    if values.len() > MAX_TOWN_VALUES {
        return Err(TownConfigError::TooMany(values.len()));
    }
    if bytes > MAX_TOWN_VALUE_BYTES {
        return Err(TownConfigError::TooLarge(bytes));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Change {
        values: BTreeMap<String, Option<Secret>>,
        is_whole: bool,
        unread: BTreeSet<String>,
    }

    impl TownValues {
        fn apply(&self, change: &Change) -> Result<usize, TownConfigError> {
            self.change_values(&change.values, change.is_whole, &change.unread)
        }
    }

    fn change(key: &str, value: Option<&str>) -> Change {
        let value = value.map(|value| value.to_owned().into());
        let values = BTreeMap::from([(key.to_owned(), value)]);
        Change { values, ..Change::default() }
    }

    fn set(key: &str, value: &str) -> Change {
        change(key, Some(value))
    }

    fn shown(town_values: &TownValues, key: &str) -> Option<String> {
        town_values.value(key).map(|value| value.expose().to_owned())
    }

    #[test]
    fn a_value_is_set_replaced_and_taken_away_and_others_stay() {
        let town = TownValues::default();
        assert_eq!(town.apply(&set("a", "1")), Ok(1));
        assert_eq!(town.apply(&set("b", "2")), Ok(1));
        assert_eq!(town.apply(&set("a", "3")), Ok(1));
        assert_eq!(shown(&town, "a").as_deref(), Some("3"));
        assert_eq!(town.apply(&change("a", None)), Ok(1));
        assert_eq!((shown(&town, "a"), shown(&town, "b").as_deref()), (None, Some("2")));
        assert_eq!(town.values().len(), 1);
    }

    #[test]
    fn what_a_whole_set_does_not_name_is_gone_and_what_it_names_badly_stays() {
        let town = TownValues::default();
        for key in ["a", "b", "c"] {
            town.apply(&set(key, "1")).unwrap();
        }
        let unread = ["b".to_owned()].into();
        let whole = Change { is_whole: true, unread, ..set("a", "2") };
        assert_eq!(town.apply(&whole), Ok(2));
        assert_eq!(town.values().keys().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(town.apply(&whole), Ok(0));
        let nothing = Change { is_whole: true, ..Change::default() };
        assert_eq!(town.apply(&Change::default()), Ok(0), "nothing was said");
        assert_eq!((town.apply(&nothing), town.values().len()), (Ok(2), 0));
    }

    #[test]
    fn the_revision_rises_with_a_change_and_with_nothing_else() {
        let town = TownValues::default();
        let revision = || town.dashboard_context().0;
        town.apply(&set("a", "1")).unwrap();
        assert_eq!(town.apply(&set("a", "1")), Ok(0));
        assert_eq!(town.apply(&change("b", None)), Ok(0));
        assert_eq!(revision(), 1);
        assert!(town.set_dashboard_context(Some("open beads".into())));
        assert!(!town.set_dashboard_context(Some("open beads".into())));
        assert_eq!(revision(), 2);
    }

    #[test]
    fn many_small_changes_meet_the_same_bounds_as_one_large_and_change_nothing_then() {
        let town = TownValues::default();
        for n in 0..MAX_TOWN_VALUES {
            town.apply(&set(&n.to_string(), "")).unwrap();
        }
        let before = town.dashboard_context().0;
        assert_eq!(town.apply(&set("more", "")), Err(TownConfigError::TooMany(257)));
        let large = "x".repeat(MAX_TOWN_VALUE_BYTES);
        let error = town.apply(&set("0", &large)).unwrap_err();
        assert!(matches!(error, TownConfigError::TooLarge(_)));
        assert_eq!((town.dashboard_context().0, shown(&town, "0").as_deref()), (before, Some("")));
    }
}
