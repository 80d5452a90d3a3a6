//! Whose code a frame is of.

use bulkhead_types::exception::{Exception, SourceFrame};

/// How files of interpreters and standard libraries begin. `/python/` is where `componentize-py` puts CPython's.
const BEGINNINGS: [&str; 6] =
    ["<frozen ", "node:", "/python/", "/usr/lib/", "/rustc/", "internal/"];

/// What paths of libraries have in them: of `componentize-js`, of CPython, of bundles, of bindings.
const PARTS: [&str; 7] = [
    "/sources/initializer.js",
    "/lib/python3",
    "site-packages/",
    "dist-packages/",
    "node_modules/",
    "/pkg/mod/",
    "wit_world/",
];

/// Packages of Go's standard library, by the first part of their path. No module can be called like that.
const GO_PACKAGES: [&str; 37] = [
    "archive",
    "bufio",
    "bytes",
    "cmp",
    "compress",
    "container",
    "context",
    "crypto",
    "database",
    "embed",
    "encoding",
    "errors",
    "expvar",
    "fmt",
    "hash",
    "html",
    "internal",
    "io",
    "iter",
    "log",
    "maps",
    "math",
    "mime",
    "net",
    "os",
    "path",
    "reflect",
    "regexp",
    "runtime",
    "slices",
    "sort",
    "strconv",
    "strings",
    "sync",
    "syscall",
    "testing",
    "time",
];

/// Drops frames of libraries from each exception that has frames of its author's own.
pub fn keep_own_frames(exceptions: &mut [Exception]) {
    for exception in exceptions {
        if exception.frames.iter().any(|frame| !is_library(frame)) {
            exception.frames.retain(|frame| !is_library(frame));
        }
    }
}

fn is_library(frame: &SourceFrame) -> bool {
    let file = frame.file.as_str();
    BEGINNINGS.iter().any(|beginning| file.starts_with(beginning))
        || PARTS.iter().any(|part| file.contains(part))
        || [".go", ".s"].iter().any(|end| file.ends_with(end))
            && frame.function.as_deref().is_some_and(is_of_go)
}

/// `internal/sync.(*Mutex).Unlock`, and `panic` itself.
fn is_of_go(function: &str) -> bool {
    let package = function.split(['.', '/']).next().unwrap_or_default();
    function == "panic" || package != function && GO_PACKAGES.contains(&package)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(file: &str, function: &str) -> SourceFrame {
        let function = Some(function.to_owned());
        SourceFrame { function, file: file.to_owned(), line: 1, column: None }
    }

    #[test]
    fn frames_of_libraries_are_known() {
        for (file, function, expected) in [
            ("<frozen importlib._bootstrap>", "_find_and_load", true),
            ("/usr/lib/python3.13/json/decoder.py", "decode", true),
            ("/root/.pyenv/versions/3.11.7/lib/python3.11/json/decoder.py", "decode", true),
            ("/python/json/decoder.py", "decode", true),
            ("/0/app.py", "handle", false),
            ("node:internal/modules/cjs/loader", "Module._load", true),
            ("/agent.js", "step", false),
            ("/usr/local/go/src/runtime/panic.go", "panic", true),
            ("/usr/local/go/src/runtime/asm_amd64.s", "runtime.goexit", true),
            ("/usr/local/go/src/sync/mutex.go", "sync.(*Mutex).Unlock", true),
            ("/src/internal.go", "main.main", false),
            ("/src/log.go", "agent/log.Line", false),
        ] {
            assert_eq!(is_library(&frame(file, function)), expected, "{file}");
        }
    }

    #[test]
    fn frames_of_libraries_stay_when_there_are_no_others() {
        let library = frame("/python/json/decoder.py", "decode");
        let mut exceptions = [Exception { frames: vec![library.clone()], ..Exception::default() }];
        keep_own_frames(&mut exceptions);
        assert_eq!(exceptions[0].frames, std::slice::from_ref(&library));
        exceptions[0].frames.push(frame("/0/app.py", "handle"));
        keep_own_frames(&mut exceptions);
        assert_eq!(exceptions[0].frames, [frame("/0/app.py", "handle")]);
    }
}
