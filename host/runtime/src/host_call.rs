//! Which host function a guest is in.
//!
//! The generated bindings of every interface, ours and WASI's, open a `tracing` span for each call of a host
//! function. [`HostCallNames`] takes these spans out of the program's subscriber and writes their name into the
//! meter of the guest that the thread polls: `wasi:http/outgoing-handler.handle`, without a version. That costs
//! some tens of nanoseconds a call, and no table of names has to be kept in step with WASI. Without the
//! subscriber, host calls have no names.
//!
//! A function that we link ourselves has no span, and calls [`name`].

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use parking_lot::Mutex;
use tracing::callsite::Identifier;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Dispatch, Event, Metadata, Subscriber};

/// The name of the spans that the bindings open.
const SPAN: &str = "wit-bindgen import";

/// All these spans are one to the subscriber: nobody asks for them again.
const SPAN_ID: u64 = u64::MAX;

/// All names, by number from 1. One for each host function that was ever called.
static NAMES: Mutex<Vec<&'static str>> = Mutex::new(Vec::new());

thread_local! {
    static POLLED: RefCell<Option<Arc<Current>>> = const { RefCell::new(None) };
    static KNOWN: RefCell<HashMap<Identifier, u32>> = RefCell::default();
}

/// The host function that one guest called last, until it enters another or the host forgets it.
#[derive(Default)]
pub(crate) struct Current(AtomicU32);

impl Current {
    pub(crate) fn forget(&self) {
        self.0.store(0, Relaxed);
    }

    pub(crate) fn name(&self) -> Option<&'static str> {
        let number = self.0.load(Relaxed).checked_sub(1)?;
        let names = NAMES.lock();
        names.get(number as usize).copied()
    }

    /// What is called on this thread from now on is called by this guest.
    pub(crate) fn enter(self: &Arc<Self>) {
        POLLED.set(Some(Arc::clone(self)));
    }

    /// No guest is polled on this thread.
    pub(crate) fn leave() {
        POLLED.set(None);
    }
}

/// Names the host function that the guest of this thread is in.
pub(crate) fn name(name: &'static str) {
    set(number_of(name, || name));
}

fn set(number: u32) {
    POLLED.with_borrow(|polled| {
        if let Some(current) = polled {
            current.0.store(number, Relaxed);
        }
    });
}

/// The number of a name, which is given one when it has none.
fn number_of(name: &str, keep: impl FnOnce() -> &'static str) -> u32 {
    let mut names = NAMES.lock();
    let known = names.iter().position(|known| *known == name);
    let place = known.unwrap_or_else(|| {
        names.push(keep());
        names.len() - 1
    });
    u32::try_from(place + 1).unwrap_or(0)
}

/// A subscriber that hears the names of host calls and leaves everything else to another one.
pub struct HostCallNames<S>(S);

impl<S> HostCallNames<S> {
    /// Over `inner`, which never sees the spans of host calls.
    pub fn over(inner: S) -> Self {
        Self(inner)
    }
}

fn is_host_call(metadata: &Metadata<'_>) -> bool {
    metadata.is_span() && metadata.name() == SPAN
}

fn is_ours(id: &Id) -> bool {
    id.into_u64() == SPAN_ID
}

impl<S: Subscriber> Subscriber for HostCallNames<S> {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        match is_host_call(metadata) {
            true => Interest::always(),
            false => self.0.register_callsite(metadata),
        }
    }

    fn max_level_hint(&self) -> Option<tracing::level_filters::LevelFilter> {
        // The spans have the lowest level.
        None
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        is_host_call(metadata) || self.0.enabled(metadata)
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        if !is_host_call(span.metadata()) {
            return self.0.new_span(span);
        }
        let callsite = span.metadata().callsite();
        let known = KNOWN.with_borrow(|known| known.get(&callsite).copied());
        set(known.unwrap_or_else(|| {
            let name = full_name(span);
            let number = number_of(&name, || Box::leak(name.clone().into_boxed_str()));
            KNOWN.with_borrow_mut(|known| known.insert(callsite, number));
            number
        }));
        Id::from_u64(SPAN_ID)
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        if !is_ours(span) {
            self.0.record(span, values);
        }
    }

    fn record_follows_from(&self, span: &Id, follows: &Id) {
        if !is_ours(span) && !is_ours(follows) {
            self.0.record_follows_from(span, follows);
        }
    }

    fn event_enabled(&self, event: &Event<'_>) -> bool {
        self.0.event_enabled(event)
    }

    fn event(&self, event: &Event<'_>) {
        self.0.event(event);
    }

    fn enter(&self, span: &Id) {
        if !is_ours(span) {
            self.0.enter(span);
        }
    }

    fn exit(&self, span: &Id) {
        if !is_ours(span) {
            self.0.exit(span);
        }
    }

    fn clone_span(&self, span: &Id) -> Id {
        if is_ours(span) { span.clone() } else { self.0.clone_span(span) }
    }

    fn try_close(&self, span: Id) -> bool {
        !is_ours(&span) && self.0.try_close(span)
    }

    fn on_register_dispatch(&self, dispatch: &Dispatch) {
        self.0.on_register_dispatch(dispatch);
    }
}

/// `PACKAGE/INTERFACE.FUNCTION`: the module of the bindings says the first two, the span the third.
fn full_name(span: &Attributes<'_>) -> String {
    let module = span.metadata().module_path().unwrap_or_default().replace('_', "-");
    let mut parts = module.rsplit("::");
    let interface = parts.next().unwrap_or_default();
    let (package, namespace) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let mut function = Function::default();
    span.record(&mut function);
    format!("{namespace}:{package}/{interface}.{}", function.0)
}

/// The field `function` of a span.
#[derive(Default)]
struct Function(String);

impl Visit for Function {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "function" {
            value.clone_into(&mut self.0);
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn Debug) {}
}

#[cfg(test)]
mod tests;
