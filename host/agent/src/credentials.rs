//! The credentials that an agent works with. They are no part of what it is: an equal start that joins it brings
//! its own, which are swapped in place, for the incarnation that goes on and for a later run of the host.
//!
//! A start brings all of them or none: those that it brings replace all that were there, so nothing
//! grows, and a start that brings none takes none away. All incarnations of a start share them.

use std::collections::BTreeMap;
use std::sync::Arc;

use bulkhead_store::database::Private;
use bulkhead_types::{AgentSpec, Incarnation, Secret};
use parking_lot::Mutex;

/// The credentials of one start.
pub(crate) struct Credentials(Mutex<Inner>);

struct Inner {
    secrets: Arc<BTreeMap<String, Secret>>,
    /// The start with these credentials, as it is written down.
    record: Private,
    /// How often they were swapped.
    swaps: u64,
    /// The last incarnation of the start that was written down.
    noted: Option<Incarnation>,
}

impl Credentials {
    pub(crate) fn new(spec: &AgentSpec, record: Private) -> Self {
        let secrets = Arc::new(spec.secrets.clone());
        Self(Mutex::new(Inner { secrets, record, swaps: 0, noted: None }))
    }

    pub(crate) fn get(&self, name: &str) -> Option<Secret> {
        self.0.lock().secrets.get(name).cloned()
    }

    pub(crate) fn all(&self) -> BTreeMap<String, Secret> {
        BTreeMap::clone(&self.0.lock().secrets)
    }

    pub(crate) fn swaps(&self) -> u64 {
        self.0.lock().swaps
    }

    /// Has an incarnation written down, with the record that holds now. A swap comes before or after it.
    pub(crate) fn note<R>(&self, number: Incarnation, note: impl FnOnce(&Private) -> R) -> R {
        let mut inner = self.0.lock();
        inner.noted = Some(number);
        note(&inner.record)
    }

    /// Says whether they were others. `note` writes the new record down, when the start was.
    pub(crate) fn swap(
        &self,
        secrets: Arc<BTreeMap<String, Secret>>,
        record: Private,
        note: impl FnOnce(Incarnation, Private),
    ) -> bool {
        let mut inner = self.0.lock();
        if secrets.is_empty() || inner.secrets == secrets {
            return false;
        }
        (inner.secrets, inner.record) = (secrets, record.clone());
        inner.swaps += 1;
        if let Some(number) = inner.noted {
            note(number, record);
        }
        true
    }

    pub(crate) fn now(&self) -> (Arc<BTreeMap<String, Secret>>, Private) {
        let inner = self.0.lock();
        (Arc::clone(&inner.secrets), inner.record.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets(value: &str) -> Arc<BTreeMap<String, Secret>> {
        Arc::new(BTreeMap::from([("TOKEN".to_owned(), Secret::from(value.to_owned()))]))
    }

    fn credentials() -> Credentials {
        let inner =
            Inner { secrets: secrets("old"), record: Private::default(), swaps: 0, noted: None };
        Credentials(Mutex::new(inner))
    }

    fn shown(credentials: &Credentials) -> String {
        credentials.get("TOKEN").map(|value| value.expose().to_owned()).unwrap_or_default()
    }

    #[test]
    fn new_ones_take_the_place_of_the_old_and_none_take_none_away() {
        let credentials = credentials();
        let swap = |secrets| credentials.swap(secrets, Private::default(), |_, _| ());
        assert!(!swap(secrets("old")) && !swap(Arc::default()));
        assert_eq!((credentials.swaps(), shown(&credentials).as_str()), (0, "old"));
        assert!(swap(secrets("new")));
        assert_eq!((credentials.swaps(), shown(&credentials).as_str()), (1, "new"));
        let other = BTreeMap::from([("OTHER_TOKEN".to_owned(), "x".to_owned().into())]);
        assert!(swap(Arc::new(other)));
        assert_eq!(credentials.all().into_keys().collect::<Vec<_>>(), ["OTHER_TOKEN"]);
    }

    #[test]
    fn what_is_written_down_is_what_holds() {
        let credentials = credentials();
        let record = |text: &str| Private::from(text.to_owned());
        // Before the start is written down a swap writes nothing: the start will be written with it.
        credentials.swap(secrets("a"), record("a"), |_, _| panic!("it is not there"));
        assert!(credentials.note(Incarnation(7), |now| *now == record("a")));
        let mut noted = None;
        credentials.swap(secrets("b"), record("b"), |number, now| noted = Some((number, now)));
        assert_eq!(noted, Some((Incarnation(7), record("b"))));
        // A restart has another number, and what comes for the one before would come too late.
        assert!(credentials.note(Incarnation(8), |now| *now == record("b")));
        credentials.swap(secrets("c"), record("c"), |number, now| noted = Some((number, now)));
        assert_eq!(noted, Some((Incarnation(8), record("c"))));
    }
}
