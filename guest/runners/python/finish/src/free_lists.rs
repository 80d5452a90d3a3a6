//! Has the runner free the bytes that it passes to the host.
//!
//! The runtime of componentize-py copies each `bytes` that leaves Python (arguments of imports, results of exports) and frees
//! that copy never: `wit_dylib_pop_list` returns it, and nobody takes it back. `wit_dylib_dealloc_bytes` frees a list at the
//! end of the call that it belongs to. So those who call the first one call a function instead that calls both:
//!
//! ```text
//! len = pop_list(call, type, &pointer)
//! if pointer != 0: dealloc_bytes(call, pointer, len, align = 1, defer = 1)
//! return len
//! ```
//!
//! The pointer is 0 for lists of anything but bytes: those are lowered one element after the other, and freed.

use anyhow::{Result, bail, ensure};
use wasm_encoder::{BlockType, Function, MemArg, MemArgTarget, ValType};
use wasmparser::ValType::I32;

use crate::module::Kind;
use crate::program::{Added, Program};

const POP: &str = "wit_dylib_pop_list";
const FREE: &str = "wit_dylib_dealloc_bytes";

pub fn change(program: &mut Program<'_>) -> Result<()> {
    let modules = (0..program.modules.len()).filter(|module| program.modules[*module].exports(POP));
    let [module] = modules.collect::<Vec<_>>()[..] else {
        bail!("not one module exports {POP}");
    };
    let pop = program.exported(module, Kind::Function, POP)?;
    let free = program.exported(module, Kind::Function, FREE)?;
    let of_type = program.type_of(pop)?.clone();
    ensure!(of_type.params() == [I32; 3] && of_type.results() == [I32], "{POP} has another type");
    ensure!(program.type_of(free)?.params() == [I32; 5], "{FREE} has another type");
    let added = Added { of_type, calls: vec![pop, free], body };
    ensure!(program.replace(pop, added) > 0, "no module imports {POP}");
    Ok(())
}

/// The function above.
fn body(calls: &[u32]) -> Function {
    let (pop, free) = (calls[0], calls[1]);
    let (call, of_type, pointer, len) = (0, 1, 2, 3);
    let word = MemArg { offset: 0, align: 2, target: MemArgTarget::Memory(0), ordering: None };
    let mut function = Function::new([(1, ValType::I32)]);
    function
        .instructions()
        .local_get(call)
        .local_get(of_type)
        .local_get(pointer)
        .call(pop)
        .local_set(len)
        .local_get(pointer)
        .i32_load(word)
        .if_(BlockType::Empty)
        .local_get(call)
        .local_get(pointer)
        .i32_load(word)
        .local_get(len)
        .i32_const(1)
        .i32_const(1)
        .call(free)
        .end()
        .local_get(len)
        .end();
    function
}
