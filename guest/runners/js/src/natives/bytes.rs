//! Functions with bytes.

use std::cell::Cell;

use rquickjs::prelude::Func;
use rquickjs::{Array, Ctx, Exception, IntoJs, Object, Result, TypedArray, Value};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::json::{read, write};
use crate::clock;

/// JSON text with bytes beside it: `[text, bytes, …]` in JavaScript.
pub struct Reply {
    json: String,
    bytes: Vec<Vec<u8>>,
}

impl Reply {
    pub fn new<T: Serialize, const N: usize>(value: T, bytes: [Vec<u8>; N]) -> Self {
        Self { json: write(&value), bytes: bytes.into() }
    }

    pub fn plain(value: impl Serialize) -> Self {
        Self::new(value, [])
    }
}

impl<'js> IntoJs<'js> for Reply {
    fn into_js(self, ctx: &Ctx<'js>) -> Result<Value<'js>> {
        let array = Array::new(ctx.clone())?;
        array.set(0, self.json)?;
        for (index, bytes) in self.bytes.into_iter().enumerate() {
            array.set(index + 1, TypedArray::new(ctx.clone(), bytes)?)?;
        }
        Ok(array.into_value())
    }
}

/// Adds one.
pub fn bytes<A: DeserializeOwned>(
    object: &Object<'_>,
    name: &'static str,
    run: impl Fn(A, &[u8]) -> Reply + 'static,
) -> Result<()> {
    object.set(
        name,
        Func::from(move |ctx: Ctx<'_>, text: String, input: Value<'_>| -> Result<Reply> {
            Ok(run(read(&ctx, name, &text)?, &octets(&ctx, name, &input)?))
        }),
    )
}

#[expect(unsafe_code, reason = "the one way to the bytes of an array")]
fn octets(ctx: &Ctx<'_>, name: &str, value: &Value<'_>) -> Result<Vec<u8>> {
    let array = value.as_object().and_then(|object| object.as_typed_array::<u8>());
    // SAFETY: nothing of JavaScript runs while the slice is copied.
    let bytes = array.and_then(|array| unsafe { array.as_bytes() }.map(<[u8]>::to_vec));
    bytes.ok_or_else(|| Exception::throw_type(ctx, &format!("{name} takes text or a Uint8Array")))
}

/// Adds what `globals.js` is made of.
pub fn add_text_and_random(object: &Object<'_>) -> Result<()> {
    object
        .set("encode", Func::from(|ctx, text: String| TypedArray::new(ctx, text.into_bytes())))?;
    object.set("decode", Func::from(decode))?;
    object.set("randomBytes", Func::from(random_bytes))?;
    object.set("random", Func::from(random))?;
    object.set("monotonicMs", Func::from(clock::monotonic_ms))
}

fn decode<'js>(ctx: Ctx<'js>, input: Value<'js>, fatal: bool) -> Result<String> {
    let bytes = octets(&ctx, "decode", &input)?;
    match String::from_utf8(bytes) {
        Ok(text) => Ok(text),
        Err(_) if fatal => Err(Exception::throw_type(&ctx, "the bytes are not UTF-8")),
        Err(error) => Ok(String::from_utf8_lossy(error.as_bytes()).into_owned()),
    }
}

/// The limit of `crypto.getRandomValues`.
const MAX_RANDOM_BYTES: usize = 65_536;

fn random_bytes<'js>(ctx: Ctx<'js>, count: usize) -> Result<TypedArray<'js, u8>> {
    if count > MAX_RANDOM_BYTES {
        let message = format!("at most {MAX_RANDOM_BYTES} random bytes at a time");
        return Err(Exception::throw_range(&ctx, &message));
    }
    let mut bytes = vec![0; count];
    getrandom::fill(&mut bytes).expect("the host has random numbers");
    TypedArray::new(ctx, bytes)
}

thread_local! {
    /// Of `random`. 0: not seeded in this incarnation.
    static RANDOM: Cell<u64> = const { Cell::new(0) };
}

/// A number from 0 up to 1, by xorshift64*.
fn random() -> f64 {
    let mut state = RANDOM.get();
    if state == 0 {
        state = getrandom::u64().expect("the host has random numbers") | 1;
    }
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    RANDOM.set(state);
    let bits = state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11;
    bits as f64 / (1_u64 << 53) as f64
}
