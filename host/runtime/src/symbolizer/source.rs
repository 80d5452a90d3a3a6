//! Where code comes from: paths without the build machine, and whose code it is.
//!
//! | path in the debug information | shown as | the agent's own |
//! | --- | --- | --- |
//! | `/rustc/HASH/library/core/src/option.rs` | `library/core/src/option.rs` | no |
//! | `.../rustlib/src/rust/library/core/src/option.rs` | `library/core/src/option.rs` | no |
//! | `.../registry/src/INDEX/serde-1.0.200/src/lib.rs` | `serde-1.0.200/src/lib.rs` | no |
//! | `.../git/checkouts/NAME-HASH/REV/src/lib.rs` | `NAME/src/lib.rs` | no |
//! | a path below the directory in which a unit was compiled | what stands below it, as rustc wrote it | yes, unless it is the SDK's |
//! | anything else | as it is | yes |
//!
//! `rustc` runs in the root of the workspace, so an agent's own file is named the same way in a frame
//! and in a panic message.

use std::borrow::Cow;

/// Crates whose code is nobody's fault: the standard library and below, the SDK, the bindings, and those of interpreters.
const LIBRARIES: [&str; 18] = [
    "__rustc",
    "std",
    "core",
    "alloc",
    "compiler_builtins",
    "panic_abort",
    "panic_unwind",
    "dlmalloc",
    "hashbrown",
    "rustc_demangle",
    "wasip2",
    "wasi",
    "wit_bindgen",
    "wit_bindgen_rt",
    "bulkhead_guest",
    "rquickjs_core",
    "rquickjs_sys",
    "pyo3",
];

/// Core modules that are interpreters and what they are linked with: our runners', and those of `componentize-py`.
const INTERPRETERS: [&str; 3] =
    ["js_runner.wasm", "python_runner.wasm", "componentize_py_runtime.wasm"];

/// How the names of shared libraries begin that `componentize-py` links.
const SHARED_LIBRARIES: [&str; 6] =
    ["libpython", "libc.", "libc++", "libdl.", "libm.", "libwasi-emulated-"];

/// How names of QuickJS begin. Those of CPython and Go follow rules.
const QUICKJS: [&str; 4] = ["JS_", "js_", "lre_", "quickjs_"];

/// Functions of `wasi-libc`, of the linker and of the bindings that have no path.
const GLUE: [&str; 15] = [
    "abort",
    "sbrk",
    "malloc",
    "calloc",
    "realloc",
    "free",
    "dlmalloc",
    "main",
    "_start",
    "_initialize",
    "undefined_stub",
    "cabi_",
    "__",
    "rust_",
    "_export_",
];

/// Where the files of one core module come from.
#[derive(Debug, Default)]
pub(super) struct SourceDirs {
    /// In which directories its units were compiled, the longest first, each with a slash at its end.
    pub compiled_in: Vec<String>,
    /// The directory of the SDK's sources, as it is shown.
    pub sdk: Option<String>,
}

/// Whether a function is not the agent's own, as far as its name shows.
pub(crate) fn is_library(function: &str) -> bool {
    let path = function.trim_start_matches(['<', '&', '*', '(', '[']);
    let path = ["mut ", "const ", "dyn "]
        .iter()
        .fold(path, |path, word| path.strip_prefix(word).unwrap_or(path));
    let end = path.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(path.len());
    let (first, rest) = path.split_at(end);
    if rest.starts_with("::") {
        // Bindings that were generated in the agent's own crate.
        return LIBRARIES.contains(&first) || rest.contains("::_export_");
    }
    // An export by its name in the world: `bulkhead:agent/lifecycle@0.2.0#handle`.
    function.contains('#') && function.contains(':')
        || is_of_interpreter(function)
        || function.contains("rust_panic")
        || GLUE
            .iter()
            .any(|glue| function == *glue || glue.ends_with('_') && function.starts_with(glue))
}

/// Whether a core module has no code of the agent's own.
pub(crate) fn is_interpreter(module: &str) -> bool {
    INTERPRETERS.contains(&module)
        || module.contains(".so") && SHARED_LIBRARIES.iter().any(|name| module.starts_with(name))
}

/// Whether a function in C is of QuickJS or CPython, or one in Go of its runtime.
fn is_of_interpreter(function: &str) -> bool {
    let python = function.strip_prefix("_Py").or_else(|| function.strip_prefix("Py"));
    python.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_uppercase() || c == '_'))
        || QUICKJS.iter().any(|beginning| function.starts_with(beginning))
        || is_of_gos_runtime(function)
}

/// `runtime.gopanic`. Go's linker writes `_` for the slashes of a package: `internal_runtime_maps.__Map_.Get`.
fn is_of_gos_runtime(function: &str) -> bool {
    let Some((package, name)) = function.split_once('.') else {
        return function.starts_with("wasm_pc_f_loop") || function.starts_with("_rt0_wasm_");
    };
    // What a compiler adds to a name in C: `runtime.llvm.123`, `runtime.1`.
    let is_added = name.starts_with("llvm.") || name.starts_with(|c: char| c.is_ascii_digit());
    let is_runtime = package == "runtime"
        || ["runtime_", "internal_"].iter().any(|beginning| package.starts_with(beginning));
    is_runtime && !is_added
}

impl SourceDirs {
    /// How a file is shown, and whether it is the agent's own.
    pub(super) fn show<'a>(&self, file: &'a str) -> (Cow<'a, str>, bool) {
        let file = slashes(file);
        match library(&file) {
            Some(shown) => (Cow::Owned(shown), false),
            None => {
                let shown = self.relative(&file).to_owned();
                let is_sdks = self.sdk.as_ref().is_some_and(|sdk| shown.starts_with(sdk.as_str()));
                (Cow::Owned(shown), !is_sdks)
            }
        }
    }

    fn relative<'a>(&self, file: &'a str) -> &'a str {
        let below = |dir: &String| file.strip_prefix(dir.as_str());
        self.compiled_in.iter().find_map(below).unwrap_or(file)
    }
}

/// A path as it is shown when nothing is known about where it was compiled: those of libraries lose
/// the build machine's part.
pub(crate) fn without_build_machine(file: &str) -> String {
    library(&slashes(file)).unwrap_or_else(|| file.to_owned())
}

/// With slashes, when it is a path of Windows.
fn slashes(file: &str) -> Cow<'_, str> {
    match file.as_bytes() {
        [_, b':', b'\\' | b'/', ..] => Cow::Owned(file.replace('\\', "/")),
        _ => Cow::Borrowed(file),
    }
}

/// How the file of a library is shown. `None` when it is none.
fn library(file: &str) -> Option<String> {
    if let Some(rest) = file.strip_prefix("/rustc/") {
        return Some(rest.split_once('/')?.1.to_owned());
    }
    if let Some((_, rest)) = file.split_once("/rustlib/src/rust/") {
        return Some(rest.to_owned());
    }
    if let Some((_, rest)) = file.split_once("/registry/src/") {
        return Some(rest.split_once('/')?.1.to_owned());
    }
    let (_, rest) = file.split_once("/git/checkouts/")?;
    let (repository, rest) = rest.split_once('/')?;
    let (_revision, rest) = rest.split_once('/')?;
    let name = repository.rsplit_once('-').map_or(repository, |(name, _hash)| name);
    Some(format!("{name}/{rest}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dirs() -> SourceDirs {
        let compiled_in = vec!["/home/a/town/deep/".to_owned(), "/home/a/town/".to_owned()];
        SourceDirs { compiled_in, sdk: Some("guest/sdk/src/".into()) }
    }

    #[test]
    fn paths_lose_the_build_machine_and_nothing_else() {
        for (file, shown, own) in [
            ("/rustc/59807616e1fa/library/core/src/option.rs", "library/core/src/option.rs", false),
            (
                "/root/.rustup/toolchains/1.95/lib/rustlib/src/rust/library/std/src/panicking.rs",
                "library/std/src/panicking.rs",
                false,
            ),
            (
                "/root/.cargo/registry/src/index-19/serde-1.0.200/src/de/mod.rs",
                "serde-1.0.200/src/de/mod.rs",
                false,
            ),
            (
                "C:\\Users\\a\\.cargo\\registry\\src\\index\\itoa-1.0.0\\src\\lib.rs",
                "itoa-1.0.0/src/lib.rs",
                false,
            ),
            (
                "/x/git/checkouts/some-crate-0123abcd/77aa/src/lib.rs",
                "some-crate/src/lib.rs",
                false,
            ),
            ("/home/a/town/guest/mayor/src/lib.rs", "guest/mayor/src/lib.rs", true),
            ("/home/a/town/deep/src/lib.rs", "src/lib.rs", true),
            ("/home/a/town/guest/sdk/src/host.rs", "guest/sdk/src/host.rs", false),
            ("src/lib.rs", "src/lib.rs", true),
            ("/elsewhere/lib.c", "/elsewhere/lib.c", true),
            ("/rustc/", "/rustc/", true),
            ("/registry/src/x", "/registry/src/x", true),
            ("", "", true),
        ] {
            assert_eq!(dirs().show(file), (Cow::Borrowed(shown), own), "{file}");
        }
    }

    #[test]
    fn names_distinguish_libraries_from_the_agent() {
        for name in [
            "core::option::unwrap_failed",
            "<alloc::string::String as core::fmt::Display>::fmt",
            "<&mut std::io::Stdout as std::io::Write>::write_all",
            "<dyn core::any::Any>::type_id",
            "bulkhead_guest::agent::run::<mayor::Mayor>",
            "mayor::exports::lifecycle::_export_handle_cabi::<mayor::Mayor>",
            "bulkhead:agent/lifecycle@0.2.0#handle",
            "cabi_realloc",
            "__rust_alloc",
            "rust_begin_unwind",
            "__rustc::rust_begin_unwind",
            "abort",
            "sbrk",
            "rquickjs_core::value::function::args::Args::apply",
            "<pyo3::instance::Bound<pyo3::types::tuple::PyTuple> as pyo3::call::PyCallArgs>::call",
            "JS_CallInternal",
            "js_async_function_resume",
            "_PyEval_EvalFrameDefault",
            "_Py_Dealloc",
            "PyObject_Call",
            "runtime.gopanic",
            "runtime_debug.Stack",
            "internal_runtime_maps.__Map_.getWithKey",
            "wasm_pc_f_loop",
        ] {
            assert!(is_library(name), "{name}");
        }
        for name in [
            "mayor::step",
            "<mayor::Mayor as bulkhead_guest::agent::Agent>::handle",
            "mayor::step::{closure#0}",
            "stdlib::x",
            "compute",
            "abortive",
            "",
            "Pyramid",
            "jsonify",
            "main.recurse",
            "main.__agent_.Message",
            "runtime::start",
            "runtime_start",
            "internal_start.llvm.123",
        ] {
            assert!(!is_library(name), "{name}");
        }
    }

    #[test]
    fn interpreters_are_known_by_their_modules() {
        for module in [
            "js_runner.wasm",
            "python_runner.wasm",
            "componentize_py_runtime.wasm",
            "libpython3.14.so",
            "libc.so",
            "libc++abi.so",
            "libwasi-emulated-signal.so",
        ] {
            assert!(is_interpreter(module), "{module}");
        }
        for module in ["mayor.wasm", "libcity.so", "numbers.cpython-314-wasm32-wasi.so", ""] {
            assert!(!is_interpreter(module), "{module}");
        }
    }
}
