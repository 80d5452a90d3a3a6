//! QuickJS with the SDK loaded.

use std::cell::OnceCell;

use rquickjs::context::intrinsic;
use rquickjs::{Context, Ctx, Module, Object, Persistent, Runtime};

use crate::bindings::bulkhead::agent::agent_types::AgentError;
use crate::bindings::bulkhead::agent::runner;
use crate::heap;
use crate::modules::{Bundle, Files, REHEARSAL, SDK_ENTRY};
use crate::natives;
use crate::rejections::Rejections;
use crate::turn::{Failure, Turn};

/// Of the part of the stack that is in linear memory. Past it QuickJS throws `InternalError: stack overflow`. The
/// engine's own stack, 1 MiB, must hold out longer: an agent that uses it up traps, with no place in its source.
const STACK_BYTES: usize = 192 * 1024;

/// Reference counts free most of what an agent makes; what they do not, takes so much until a collection for cycles.
const COLLECTION_BYTES: usize = 2 * 1024 * 1024;

/// What the rehearsal's agent is told, in the form of the contract's records.
const REHEARSED_START: &str = r#"{"agent_id":"a","role":"r","name":"n","town_id":null,"rig_id":null,"incarnation":1,
    "prompt":"","system_prompt":null,"model":null,"small_model":null,"restored":false}"#;
const REHEARSED_MESSAGE: &str =
    r#"{"id":"m","sender":"Operator","body":"a rehearsal","attempt":1}"#;

/// All but `performance`, which `sdk/globals.js` has: the original's time begins when the component is built.
type Intrinsics = (
    intrinsic::Date,
    intrinsic::Eval,
    intrinsic::RegExpCompiler,
    intrinsic::RegExp,
    intrinsic::Json,
    intrinsic::Proxy,
    intrinsic::MapSet,
    intrinsic::TypedArrays,
    intrinsic::Promise,
    intrinsic::WeakRef,
    intrinsic::DOMException,
);

thread_local! {
    static INTERPRETER: OnceCell<Interpreter> = const { OnceCell::new() };
}

/// Runs something with the one interpreter of this instance, and makes it before if nobody did.
pub fn with<R>(run: impl FnOnce(&Interpreter) -> R) -> R {
    INTERPRETER.with(|interpreter| run(interpreter.get_or_init(Interpreter::new)))
}

/// An interpreter, and what the author's modules come from.
pub struct Interpreter {
    context: Context,
    sdk: Persistent<Object<'static>>,
    files: Files,
    rejections: Rejections,
    loaded: OnceCell<()>,
}

impl Interpreter {
    fn new() -> Self {
        let runtime = Runtime::new().expect("memory for an interpreter");
        runtime.set_max_stack_size(STACK_BYTES);
        runtime.set_gc_threshold(COLLECTION_BYTES);
        let (files, rejections) = (Files::default(), Rejections::default());
        runtime.set_loader(files.clone(), files.clone());
        runtime.set_host_promise_rejection_tracker(Some(rejections.tracker()));
        let context = Context::builder()
            .with::<Intrinsics>()
            .build(&runtime)
            .expect("memory for the language's objects");
        let sdk = context.with(|ctx| load_sdk(&ctx).expect("the SDK loads"));
        Self { context, sdk, files, rejections, loaded: OnceCell::new() }
    }

    /// Makes the memory ready to be that of many agents.
    pub fn settle(&self) {
        self.rehearse().expect("the rehearsal is right");
        self.context.with(|ctx| {
            ctx.run_gc();
            heap::seal(&ctx);
        });
    }

    /// Lives the life of an agent that does nothing.
    fn rehearse(&self) -> Result<(), AgentError> {
        self.files.fill(Bundle::rehearsal());
        self.call(|turn| turn.import(REHEARSAL.0))?;
        self.call(|turn| turn.run::<_, ()>("start", (REHEARSED_START,)))?;
        self.call(|turn| turn.run::<_, String>("handle", (REHEARSED_MESSAGE,)))?;
        self.call(|turn| turn.run::<_, String>("snapshot", ()))?;
        self.files.fill(Bundle::default());
        self.call(|turn| turn.run("forget", ()))
    }

    /// Imports the agent's source, once.
    pub fn load(&self) -> Result<(), AgentError> {
        if self.loaded.set(()).is_err() {
            return Ok(());
        }
        let source = runner::source();
        let entry = source.entry.clone();
        self.files.fill(Bundle::from(source));
        self.call(|turn| turn.import(&entry))
    }

    /// Runs one call of the lifecycle, with what belongs to its end.
    pub fn call<R>(
        &self,
        run: impl for<'js> FnOnce(&Turn<'js>) -> Result<R, Failure<'js>>,
    ) -> Result<R, AgentError> {
        self.context.with(|ctx| {
            let sdk = self.sdk.clone().restore(&ctx).expect("the SDK is of this runtime");
            let turn = Turn::new(ctx, sdk, &self.rejections, &self.files);
            turn.end(run(&turn))
        })
    }
}

#[cfg(test)]
impl Interpreter {
    /// The agent of these files, as the rehearsal has one.
    fn begin(&self, entry: &str, files: &[(&str, &str)]) -> Result<(), AgentError> {
        self.files.fill(Bundle::of(files.iter().copied()));
        self.call(|turn| turn.import(entry))?;
        self.call(|turn| turn.run("start", (REHEARSED_START,)))
    }

    /// What it answers, as the SDK writes it.
    fn ask(&self) -> Result<String, AgentError> {
        self.call(|turn| turn.run("handle", (REHEARSED_MESSAGE,)))
    }

    fn snapshot(&self) -> Result<String, AgentError> {
        self.call(|turn| turn.run("snapshot", ()))
    }
}

#[cfg(test)]
mod tests;

/// Evaluates the SDK and returns its object `runtime`.
fn load_sdk(ctx: &Ctx<'_>) -> rquickjs::Result<Persistent<Object<'static>>> {
    ctx.globals().set("native", natives::object(ctx)?)?;
    let (module, promise) = Module::declare(ctx.clone(), SDK_ENTRY.0, SDK_ENTRY.1)?.eval()?;
    promise.finish::<()>()?;
    let runtime: Object = module.get("runtime")?;
    Ok(Persistent::save(ctx, runtime))
}
