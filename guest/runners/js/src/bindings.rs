//! Generated from `wit/agent.wit` of the repository and `wit/runner.wit` beside.
#![allow(missing_docs, clippy::all, reason = "generated code follows its generator's rules")]

wit_bindgen::generate!({
    world: "bulkhead:js-runner/js-runner",
    path: ["../../../wit", "wit"],
    additional_derives: [PartialEq, serde::Serialize, serde::Deserialize],
    generate_all,
    generate_unused_types: true,
    with: {
        "wasi:io/error@0.2.0": wasip2::io::error,
        "wasi:io/poll@0.2.0": wasip2::io::poll,
        "wasi:io/streams@0.2.0": wasip2::io::streams,
    },
});

use crate::component::Component;
export!(Component with_types_in self);
