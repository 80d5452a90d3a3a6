//! Bindings of `wit/agent.wit`, generated.
#![allow(missing_docs, reason = "the contract is documented in wit/agent.wit")]

wasmtime::component::bindgen!({
    path: "../../wit",
    world: "agent",
    // Without tracing: it would write what goes in and out, values of `host.config` among it.
    imports: { default: trappable },
    exports: { default: async },
    // What goes into a guest is lowered from where it is: a call holds no copy of its message.
    ownership: Borrowing { duplicate_if_necessary: false },
});
