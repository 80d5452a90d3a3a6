//! Bindings of `wit/agent.wit`, generated.
#![allow(missing_docs, reason = "the contract is documented in wit/agent.wit")]

wasmtime::component::bindgen!({
    path: "../../wit",
    world: "agent",
    // The spans name the host call of a crash. The events beside them have what goes in and out, values of
    // `host.config` among it: no log may take them.
    imports: {
        "bulkhead:agent/model.complete": async | tracing | trappable,
        "bulkhead:agent/model.[method]chat-stream.next": async | tracing | trappable,
        default: tracing | trappable,
    },
    exports: { default: async },
    // What goes into a guest is lowered from where it is: a call holds no copy of its message.
    with: { "bulkhead:agent/model.chat-stream": crate::interfaces::model::Answer },
    ownership: Borrowing { duplicate_if_necessary: false },
});
