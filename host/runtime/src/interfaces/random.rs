//! `wasi:random/random.get-random-bytes` and its like, before those of `wasmtime-wasi`.
//!
//! Those make all bytes at once, as many as the guest likes. Here they are made in parts, between which others have
//! their turn, and charged to the agent while the host has them.

use bulkhead_types::HostKind;
use wasmtime::StoreContextMut;
use wasmtime::component::Linker;
use wasmtime_wasi::p2::bindings::random::{insecure::Host as Insecure, random::Host as Secure};
use wasmtime_wasi::random::{WasiRandomCtx, WasiRandomView};

use crate::host_call;
use crate::resources::RANDOM_PART_BYTES;
use crate::state::State;

const SECURE: &str = "wasi:random/random.get-random-bytes";
const INSECURE: &str = "wasi:random/insecure.get-insecure-random-bytes";

/// How bytes are made, so many.
type Make = fn(&mut WasiRandomCtx, u64) -> wasmtime::Result<Vec<u8>>;

/// Replaces the linked functions with these.
pub(crate) fn replace(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    linker.instance("wasi:random/random@0.2.12")?.func_wrap_async(
        "get-random-bytes",
        |store, (length,): (u64,)| {
            host_call::name(SECURE);
            Box::new(async move { Ok((bytes(store, Secure::get_random_bytes, length).await?,)) })
        },
    )?;
    linker.instance("wasi:random/insecure@0.2.12")?.func_wrap_async(
        "get-insecure-random-bytes",
        |store, (length,): (u64,)| {
            host_call::name(INSECURE);
            let make = Insecure::get_insecure_random_bytes;
            Box::new(async move { Ok((bytes(store, make, length).await?,)) })
        },
    )?;
    linker.allow_shadowing(false);
    Ok(())
}

async fn bytes(
    mut store: StoreContextMut<'_, State>,
    make: Make,
    length: u64,
) -> wasmtime::Result<Vec<u8>> {
    if length <= RANDOM_PART_BYTES {
        return make(store.data_mut().random(), length);
    }
    let meter = std::sync::Arc::clone(&store.data().meter);
    let held = meter.memory().account().charge(HostKind::Resources, length);
    let _held = held.map_err(|over| meter.memory().host_interrupt(HostKind::Resources, &over))?;
    let mut bytes = Vec::with_capacity(usize::try_from(length)?);
    while (bytes.len() as u64) < length {
        let part = RANDOM_PART_BYTES.min(length - bytes.len() as u64);
        bytes.extend(make(store.data_mut().random(), part)?);
        tokio::task::yield_now().await;
    }
    Ok(bytes)
}
