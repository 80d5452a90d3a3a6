//! Bindings of `wit/agent.wit`, generated.
#![allow(missing_docs, reason = "the contract is documented in wit/agent.wit")]

wasmtime::component::bindgen!({
    path: "../../wit",
    world: "runner-agent",
    // The spans name the host call of a crash. The events beside them have what goes in and out, values of
    // `host.config` among it: no log may take them.
    imports: {
        "bulkhead:agent/host.unhandled-rejection": async | tracing | trappable,
        "bulkhead:agent/model.complete": async | tracing | trappable,
        "bulkhead:agent/model.[method]chat-stream.next": async | tracing | trappable,
        "bulkhead:agent/workspace.status": async | tracing | trappable,
        "bulkhead:agent/workspace.diff": async | tracing | trappable,
        "bulkhead:agent/workspace.commit": async | tracing | trappable,
        "bulkhead:agent/workspace.log": async | tracing | trappable,
        "bulkhead:agent/workspace.fetch": async | tracing | trappable,
        "bulkhead:agent/workspace.rebase": async | tracing | trappable,
        "bulkhead:agent/workspace.push": async | tracing | trappable,
        "bulkhead:agent/workspace.checkpoint": async | tracing | trappable,
        "bulkhead:agent/workspace.restore": async | tracing | trappable,
        "bulkhead:agent/tools.run": async | tracing | trappable,
        "bulkhead:agent/tools.spawn": async | tracing | trappable,
        "bulkhead:agent/tools.[method]child.wait": async | tracing | trappable,
        default: tracing | trappable,
    },
    exports: { default: async },
    // What goes into a guest is lowered from where it is: a call holds no copy of its message.
    with: {
        "bulkhead:agent/model.chat-stream": crate::interfaces::model::Answer,
        "bulkhead:agent/tools.child": crate::interfaces::tools::Running,
        "wasi:io/error": wasmtime_wasi::p2::bindings::io::error,
        "wasi:io/poll": wasmtime_wasi::p2::bindings::io::poll,
        "wasi:io/streams": wasmtime_wasi::p2::bindings::io::streams,
    },
    ownership: Borrowing { duplicate_if_necessary: false },
});
