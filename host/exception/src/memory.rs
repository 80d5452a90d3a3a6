//! Which exceptions stand for want of memory.

use bulkhead_types::exception::Exception;

/// Kinds that mean nothing else.
const KINDS: [&str; 2] = ["MemoryError", "std::bad_alloc"];

/// Kinds whose message says it: JavaScript engines, in some of which a text is thrown, and Go.
const KINDS_WITH_A_MESSAGE: [&str; 7] =
    ["Error", "InternalError", "RangeError", "string", "panic", "runtime error", "fatal error"];

/// What such messages begin with.
const MESSAGES: [&str; 4] = [
    "out of memory",
    "runtime: out of memory",
    "runtime: cannot allocate memory",
    "Array buffer allocation failed",
];

/// Whether an exception says that there was no memory. Anybody can throw one that says so: ask whether a growth was
/// denied, too.
pub fn is_out_of_memory(exception: &Exception) -> bool {
    let class = exception.kind.rsplit('.').next().unwrap_or_default();
    let says_so = MESSAGES.iter().any(|text| exception.message.starts_with(text));
    KINDS.contains(&class) || KINDS_WITH_A_MESSAGE.contains(&class) && says_so
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn want_of_memory_has_many_names() {
        for (kind, message, expected) in [
            ("MemoryError", "", true),
            ("numpy.MemoryError", "Unable to allocate 8 GiB", true),
            ("InternalError", "out of memory", true),
            ("Error", "out of memory", true),
            ("RangeError", "Array buffer allocation failed", true),
            ("fatal error", "runtime: out of memory", true),
            ("std::bad_alloc", "std::bad_alloc", true),
            ("RangeError", "Maximum call stack size exceeded", false),
            ("ValueError", "out of memory", false),
            ("NoMemoryError", "", false),
        ] {
            let exception =
                Exception { kind: kind.into(), message: message.into(), frames: Vec::new() };
            assert_eq!(is_out_of_memory(&exception), expected, "{kind}: {message}");
        }
    }
}
