//! Promises that were rejected while nobody waited for them.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use rquickjs::runtime::RejectionTracker;
use rquickjs::{Ctx, Persistent, Value};

/// More in one turn are counted and not reported one by one.
const MAX: usize = 100;

/// A promise and its reason.
type Rejected = (Persistent<Value<'static>>, Persistent<Value<'static>>);

/// Those of the turn under way that nobody handles so far.
#[derive(Clone, Default)]
pub struct Rejections(Rc<RefCell<Vec<Rejected>>>, Rc<Cell<u32>>);

impl Rejections {
    /// What QuickJS calls when a promise is rejected, and when somebody handles it after all.
    pub fn tracker(&self) -> RejectionTracker {
        let rejections = self.clone();
        Box::new(move |ctx, promise, reason, handled| {
            if handled {
                rejections.forget(&ctx, &promise);
            } else if rejections.0.borrow().len() < MAX {
                let rejected = (Persistent::save(&ctx, promise), Persistent::save(&ctx, reason));
                rejections.0.borrow_mut().push(rejected);
            } else {
                rejections.1.set(rejections.1.get().saturating_add(1));
            }
        })
    }

    /// Takes a promise out: it is handled.
    pub fn forget<'js>(&self, ctx: &Ctx<'js>, promise: &Value<'js>) {
        self.0
            .borrow_mut()
            .retain(|(other, _)| other.clone().restore(ctx).is_ok_and(|other| other != *promise));
    }

    /// How many there were beyond those that are kept, handled ones among them.
    pub fn take_more(&self) -> u32 {
        self.1.take()
    }

    /// Takes the reasons of all.
    pub fn take<'js>(&self, ctx: &Ctx<'js>) -> Vec<Value<'js>> {
        let rejected = std::mem::take(&mut *self.0.borrow_mut());
        rejected.into_iter().filter_map(|(_, reason)| reason.restore(ctx).ok()).collect()
    }
}
