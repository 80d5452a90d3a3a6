//! Whether a value is what most states are. JavaScript would take as long to see that as JSON takes to be written.

use rquickjs::prelude::Func;
use rquickjs::{Array, Object, Result, Value};

/// Of what is nested deeper JavaScript finds the place.
const MAX_DEPTH: usize = 100;

/// Adds `isPlain`: whether a value has texts, numbers, truths and nothings in arrays and in objects of no class, and is not
/// nested deep. JSON keeps all of it. Of others it may.
pub fn add_is_plain(object: &Object<'_>) -> Result<()> {
    object.set("isPlain", Func::from(is_plain))
}

fn is_plain(value: Value<'_>) -> Result<bool> {
    let ctx = value.ctx();
    let object = Object::new(ctx.clone())?.get_prototype();
    let array = Array::new(ctx.clone())?.as_object().get_prototype();
    is_made_of(&value, &[None, object, array], MAX_DEPTH)
}

fn is_made_of<'js>(
    value: &Value<'js>,
    prototypes: &[Option<Object<'js>>],
    depth: usize,
) -> Result<bool> {
    let Some(object) = value.as_object() else {
        return Ok(!(value.is_symbol() || value.is_big_int()));
    };
    if depth == 0 || !prototypes.contains(&object.get_prototype()) {
        return Ok(false);
    }
    for inner in object.values::<Value<'_>>() {
        if !is_made_of(&inner?, prototypes, depth - 1)? {
            return Ok(false);
        }
    }
    Ok(true)
}
