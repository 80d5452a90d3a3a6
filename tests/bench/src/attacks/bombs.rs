//! Components that cost the host more than their bytes.

use std::fmt::Write as _;
use std::path::Path;

use harness::files;

/// A component with one function whose compilation takes tens of seconds. Each seed makes another one.
pub fn slow_to_compile(path: &Path, seed: usize) {
    const LOCALS: usize = 2000;
    const BLOCKS: usize = 20_000;
    let mut body = String::new();
    for block in 0..BLOCKS {
        let local = |factor: usize| (block * factor + seed) % LOCALS;
        let (way, from, to) = (local(7919), local(104_729), local(1_299_709));
        let _ =
            write!(body, "(block (br_if 0 (local.get {way})) (local.set {to} (local.get {from})))");
    }
    let locals = " i32".repeat(LOCALS);
    let module = format!("(module (func (result i32) (local{locals}) {body} (i32.const 0)))");
    let module = wat::parse_str(module).expect("a module");
    std::fs::write(path, files::echo_with(&module)).expect("write a component");
}

/// A program whose functions have a name that explodes when it is demangled. It ends in a trap, 70 frames deep.
pub fn name_that_explodes(path: &Path) {
    let name = exploding_name();
    let text = format!(
        r#"(component
            (core module $m
                (memory (export "memory") 1)
                (func $f (@name "{name}") (param i32)
                    (if (i32.eqz (local.get 0)) (then unreachable)
                        (else (call $f (i32.sub (local.get 0) (i32.const 1))))))
                (func (export "run") (result i32) (call $f (i32.const 70)) (i32.const 0)))
            (core instance $i (instantiate $m))
            (func $run (result (result)) (canon lift (core func $i "run")))
            (instance $exports (export "run" (func $run)))
            (export "wasi:cli/run@0.2.0" (instance $exports)))"#
    );
    std::fs::write(path, wat::parse_str(text).expect("a component")).expect("write a component");
}

/// A name in Rust's mangling whose type is twice the one before it, 24 times over.
fn exploding_name() -> String {
    let mut name = String::from("INvC1a1b");
    let mut before = name.len();
    name.push_str("TaaE");
    for _ in 0..24 {
        let here = name.len();
        let back = base_62(before);
        let _ = write!(name, "TB{back}B{back}E");
        before = here;
    }
    format!("_R{name}E")
}

fn base_62(number: usize) -> String {
    const DIGITS: &[u8; 62] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    let mut text = vec![b'_'];
    let mut left = number.checked_sub(1);
    while let Some(number) = left {
        text.insert(0, DIGITS[number % 62]);
        left = Some(number / 62).filter(|rest| *rest > 0);
    }
    String::from_utf8(text).expect("digits")
}
