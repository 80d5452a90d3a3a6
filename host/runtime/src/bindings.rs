//! Bindings of `wit/agent.wit`, generated.
#![allow(missing_docs, reason = "the contract is documented in wit/agent.wit")]

wasmtime::component::bindgen!({
    path: "../../wit",
    world: "agent",
    imports: { default: trappable },
    exports: { default: async },
});
