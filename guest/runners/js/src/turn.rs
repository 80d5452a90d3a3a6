//! One call of the lifecycle.
//!
//! The author's function returns a promise, mostly. Jobs run until it is settled; when none is left, the turn sleeps until
//! the next timer is due or a request has news. At the end of the turn:
//!
//! 1. promises given to `waitUntil` are waited for, until shortly before the host's deadline;
//! 2. timers and requests that are left are dropped, since nothing runs between two turns, and a log line says how many;
//! 3. rejections that nobody handled are reported.

use std::thread;
use std::time::Duration;

use rquickjs::function::IntoArgs;
use rquickjs::{Ctx, Error, FromJs, Function, Module, Object, Value};

use crate::bindings::bulkhead::agent::agent_types::{AgentError, Exception};
use crate::bindings::bulkhead::agent::host::{self, Level};
use crate::exceptions::{self, Thrown};
use crate::http;
use crate::modules::Files;
use crate::rejections::Rejections;

/// A host call has a limit of its own, so a long wait is several.
const SLICE: Duration = Duration::from_secs(10);

/// What is left of the turn's time when it stops waiting for work in the background: the reply is there, and past the
/// deadline it would be lost with the incarnation.
const MARGIN: Duration = Duration::from_millis(500);

/// Why a call has no result.
pub enum Failure<'js> {
    /// This was thrown.
    Thrown(Value<'js>),
    /// A promise stays as it is for ever: nothing runs that could settle it.
    Stuck(&'static str),
}

/// A call under way.
pub struct Turn<'js> {
    ctx: Ctx<'js>,
    /// The object `runtime` of `sdk/runtime.js`.
    sdk: Object<'js>,
    rejections: Rejections,
    files: Files,
}

impl<'js> Turn<'js> {
    pub fn new(ctx: Ctx<'js>, sdk: Object<'js>, rejections: &Rejections, files: &Files) -> Self {
        Self { ctx, sdk, rejections: rejections.clone(), files: files.clone() }
    }

    /// Imports the file that the agent begins with.
    pub fn import(&self, entry: &str) -> Result<(), Failure<'js>> {
        self.sdk_call::<_, ()>("begin", ())?;
        let text = self.thrown(self.files.text(&self.ctx, entry))?;
        let declared = self.thrown(Module::declare(self.ctx.clone(), entry, text))?;
        let (module, promise) = self.thrown(declared.eval())?;
        self.settle(promise.into_value(), "the import of the agent's file")?;
        let exports = self.thrown(module.namespace())?;
        self.sdk_call("live", (exports, entry))
    }

    /// Calls a function of the SDK and waits for its promise.
    pub fn run<A: IntoArgs<'js>, R: FromJs<'js>>(
        &self,
        name: &'static str,
        arguments: A,
    ) -> Result<R, Failure<'js>> {
        let value = self.sdk_call(name, arguments)?;
        let value = self.settle(value, name)?;
        self.thrown(R::from_js(&self.ctx, value))
    }

    /// Ends the call: waits for what is in the background, drops timers, reports rejections.
    pub fn end<R>(&self, result: Result<R, Failure<'js>>) -> Result<R, AgentError> {
        let result = result.map_err(|failure| self.error(failure));
        if !result.as_ref().is_err_and(|error| error.fatal) {
            self.wait_for_background();
        }
        self.drop_timers();
        self.drop_requests();
        for reason in self.rejections.take(&self.ctx) {
            host::unhandled_rejection(&self.chain(reason));
        }
        let more = self.rejections.take_more();
        if more > 0 {
            warn("more promises were rejected than are reported in one turn", "rejections", more);
        }
        result
    }

    fn settle(&self, value: Value<'js>, what: &'static str) -> Result<Value<'js>, Failure<'js>> {
        let Some(promise) = value.as_promise() else { return Ok(value) };
        loop {
            self.run_jobs();
            if let Some(result) = promise.result() {
                self.rejections.forget(&self.ctx, &value);
                return self.thrown(result);
            }
            if !self.wait_for_news(Duration::MAX) {
                return Err(Failure::Stuck(what));
            }
        }
    }

    fn run_jobs(&self) {
        while self.ctx.execute_pending_job() {}
    }

    /// Sleeps until the next timer is due and runs it, or until a request has news, or for the longest time, or for a slice.
    /// False: there is nothing to wait for.
    fn wait_for_news(&self, longest: Duration) -> bool {
        let due = self.until_next();
        let wait = due.unwrap_or(SLICE).min(longest).min(SLICE);
        let is_awaited = http::is_awaited();
        if is_awaited {
            for id in http::arrived(wait) {
                self.report(self.sdk_call("arrived", (id,)));
            }
        } else if due.is_none() {
            return false;
        } else if !wait.is_zero() {
            thread::sleep(wait);
        }
        let is_slept_out = !is_awaited && due == Some(wait);
        if is_slept_out || self.until_next().is_some_and(|left| left.is_zero()) {
            self.report(self.sdk_call("runNext", ()));
        }
        true
    }

    /// How long it is until the next timer is due.
    fn until_next(&self) -> Option<Duration> {
        let ms = self.sdk_call::<_, Option<f64>>("untilNext", ()).ok()??;
        Some(Duration::try_from_secs_f64(ms / 1000.0).unwrap_or(SLICE))
    }

    fn report(&self, result: Result<(), Failure<'js>>) {
        if let Err(Failure::Thrown(thrown)) = result {
            host::unhandled_rejection(&self.chain(thrown));
        }
    }

    fn wait_for_background(&self) {
        self.run_jobs();
        loop {
            let pending = self.sdk_call::<_, u32>("pending", ()).unwrap_or(0);
            if pending == 0 {
                return;
            }
            let left = Duration::from_millis(host::deadline()).saturating_sub(MARGIN);
            if left.is_zero() || !self.wait_for_news(left) {
                let message = "promises of waitUntil were given up: the turn's time is over, or nothing settles them";
                return warn(message, "promises", pending);
            }
            self.run_jobs();
        }
    }

    fn drop_timers(&self) {
        let dropped = self.sdk_call::<_, u32>("drop", ()).unwrap_or(0);
        if dropped > 0 {
            let message =
                "timers were dropped at the end of the turn: await them, or use ctx.waitUntil";
            warn(message, "timers", dropped);
        }
    }

    fn drop_requests(&self) {
        // To call the SDK for nothing would be to write to its memory, which all agents share until then.
        let Some(dropped) = http::drop_all() else { return };
        let _ = self.sdk_call::<_, ()>("forgetRequests", ());
        if dropped > 0 {
            let message =
                "requests were dropped at the end of the turn: await them, or use ctx.waitUntil";
            warn(message, "requests", u32::try_from(dropped).unwrap_or(u32::MAX));
        }
    }

    fn error(&self, failure: Failure<'js>) -> AgentError {
        match failure {
            Failure::Thrown(thrown) => {
                self.chosen(&thrown).unwrap_or_else(|| exceptions::fatal(self.chain(thrown)))
            }
            Failure::Stuck(what) => exceptions::fatal(self.exceptions([Thrown::unsettled(what)])),
        }
    }

    /// An error that the author chose.
    fn chosen(&self, thrown: &Value<'js>) -> Option<AgentError> {
        let json: String = self.sdk_call("chosen", (thrown.clone(),)).ok()?;
        serde_json::from_str(&json).ok()
    }

    /// The exception and what caused it.
    fn chain(&self, thrown: Value<'js>) -> Vec<Exception> {
        let json = self.sdk_call::<_, String>("chain", (thrown,)).unwrap_or_default();
        let chain: Vec<Thrown> = serde_json::from_str(&json).unwrap_or_default();
        let exceptions = self.exceptions(chain);
        if exceptions.is_empty() { vec![unreadable()] } else { exceptions }
    }

    /// The first gets the place of the handler that it left if it has none of its own: what is thrown and is no `Error`
    /// has none, nor has what is wrong with a returned value.
    fn exceptions(&self, chain: impl IntoIterator<Item = Thrown>) -> Vec<Exception> {
        let author = |file: &str| self.files.contains(file);
        let mut exceptions: Vec<_> = chain
            .into_iter()
            .map(|thrown| self.files.placed(thrown.into_exception(author)))
            .collect();
        if let Some(first) = exceptions.first_mut().filter(|first| first.frames.is_empty()) {
            let place = self.sdk_call::<_, String>("place", ()).unwrap_or_default();
            first.frames = exceptions::frames(&place, author);
        }
        exceptions
    }

    fn sdk_call<A: IntoArgs<'js>, R: FromJs<'js>>(
        &self,
        name: &str,
        arguments: A,
    ) -> Result<R, Failure<'js>> {
        let function: Function = self.thrown(self.sdk.get(name))?;
        self.thrown(function.call(arguments))
    }

    /// Takes the exception of a failed call.
    fn thrown<T>(&self, result: rquickjs::Result<T>) -> Result<T, Failure<'js>> {
        result.map_err(|error| {
            Failure::Thrown(match error {
                Error::Exception => self.ctx.catch(),
                error => rquickjs::Exception::from_message(self.ctx.clone(), &error.to_string())
                    .map_or_else(|_| self.ctx.catch(), |error| error.into_value()),
            })
        })
    }
}

/// For what cannot even be described, when memory is out for example.
fn unreadable() -> Exception {
    let message = "the exception cannot be read".to_owned();
    Exception { kind: "unknown".to_owned(), message, frames: Vec::new() }
}

fn warn(message: &str, field: &str, count: u32) {
    host::log(Level::Warn, message, &[(field.to_owned(), count.to_string())]);
}
