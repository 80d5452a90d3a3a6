//! Functions from JSON to JSON.

use rquickjs::prelude::Func;
use rquickjs::{Ctx, Exception, Object, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The empty list of arguments.
pub type Nothing = [(); 0];

/// Adds one. What does not fit its arguments is a `TypeError`.
pub fn json<A: DeserializeOwned, R: Serialize>(
    object: &Object<'_>,
    name: &'static str,
    run: impl Fn(A) -> R + 'static,
) -> Result<()> {
    object.set(
        name,
        Func::from(move |ctx: Ctx<'_>, text: String| -> Result<String> {
            Ok(write(&run(read(&ctx, name, &text)?)))
        }),
    )
}

pub fn read<A: DeserializeOwned>(ctx: &Ctx<'_>, name: &str, text: &str) -> Result<A> {
    serde_json::from_str(text).map_err(|error| {
        let message = error.to_string();
        // The place is one in our JSON, which the author never sees.
        let message = message.split(" at line ").next().unwrap_or_default();
        Exception::throw_type(ctx, &format!("wrong argument of {name}: {message}"))
    })
}

pub fn write(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("records of the contract are JSON")
}
