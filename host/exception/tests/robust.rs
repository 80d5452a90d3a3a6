//! Whatever is printed: no panic, no report without a bound, in a time that grows with the text alone.

use std::iter::repeat_n;
use std::time::{Duration, Instant};

use bulkhead_exception::{Cause, Evidence, Scanner};
use bulkhead_types::exception::{
    MAX_EXCEPTIONS, MAX_FRAMES, MAX_MESSAGE_BYTES, MAX_NAME_BYTES, SourceFrame,
};
use proptest::prelude::*;

/// Parts of reports, to be put together in any order.
const PARTS: [&str; 37] = [
    "Traceback (most recent call last):",
    "  + Exception Group Traceback (most recent call last):",
    "  |   File \"agent.py\", line 26, in handle",
    "  +-+---------------- 1 ----------------",
    "  File \"agent.py\", line 12, in handle",
    "  File \"agent.py\", line 0, in handle",
    "    return s.get(\"docs\")",
    "KeyError: 'docs'",
    "During handling of the above exception, another exception occurred:",
    "Exception ignored in: <function f>",
    "",
    "thread '<unnamed>' (1) panicked at runtime/src/lib.rs:1280:25:",
    "Python function threw an unexpected exception",
    "PyErr { type: <class 'TypeError'>, value: TypeError(\"x\"), traceback: None }",
    "Failed to call 'run': Exception(Exception { message: Some(\"a\\n\"), stack: Some(\"    at f (a.js:1:2)\\n\") })",
    "Failed to call 'run': Value(String(Ok(\"text\")))",
    "expected string: FromJs { from: \"int\", to: \"string\", message: None }",
    "memory allocation of 4096 bytes failed",
    "panic: first [recovered]",
    "\tpanic: second",
    "fatal error: all goroutines are asleep - deadlock!",
    "goroutine 1 [running]:",
    "main.(*T).step(0x2ac7137de068?, {0x7fff9e42aaf8?, 0x56b598?})",
    "\t/src/agent.go:6 +0x5b",
    "Assertion failed: n > 0 (agent.c: step: 28)",
    "a: a.cc:4: int main(int): Assertion `x' failed.",
    "terminate called after throwing an instance of 'int'",
    "  what():  no rig",
    "libc++abi: terminating due to uncaught exception of type X: y",
    "Uncaught exception: TypeError: x",
    "Stack:",
    "    at step (agent.js:4:33)",
    "Redirecting call to abort() to mozalloc_abort",
    "  f@agent.js:1:2",
    "  [cause]: SyntaxError: x",
    "[errors]: [",
    "abort: no rig in agent.ts(12:5)",
];

fn scanned<'a>(lines: impl IntoIterator<Item = &'a str>) -> Evidence {
    let mut scanner = Scanner::default();
    lines.into_iter().for_each(|line| scanner.line(line));
    scanner.evidence()
}

fn is_bounded(evidence: &Evidence) -> bool {
    match &evidence.cause {
        Some(Cause::Exceptions(chain)) => {
            (1..=MAX_EXCEPTIONS).contains(&chain.len())
                && chain.iter().all(|one| {
                    one.kind.len() <= MAX_NAME_BYTES
                        && one.message.len() <= MAX_MESSAGE_BYTES
                        && one.frames.len() <= MAX_FRAMES
                        && one.frames.iter().all(is_frame)
                })
        }
        Some(Cause::Panic(panic)) => panic.message.len() <= 65 * 1024,
        None => true,
    }
}

fn is_frame(frame: &SourceFrame) -> bool {
    frame.line > 0 && frame.column != Some(0) && !frame.file.is_empty()
}

/// A part, a part that is cut at some character, or anything.
fn line() -> impl Strategy<Value = String> {
    let part = || prop::sample::select(PARTS.to_vec());
    prop_oneof![
        4 => part().prop_map(str::to_owned),
        2 => (part(), any::<prop::sample::Index>()).prop_map(|(part, at)| {
            let count = part.chars().count() + 1;
            part.chars().take(at.index(count)).collect()
        }),
        2 => (part(), part()).prop_map(|(one, other)| format!("{one}{other}")),
        1 => any::<String>(),
    ]
}

proptest! {
    #[test]
    fn any_lines_are_read_within_bounds(lines in prop::collection::vec(line(), 0..100)) {
        let evidence = scanned(lines.iter().map(String::as_str));
        prop_assert!(is_bounded(&evidence), "{evidence:?}");
    }

    #[test]
    fn an_exception_at_the_end_is_found_whatever_was_printed_before(
        lines in prop::collection::vec(line(), 0..100)
    ) {
        let last = [
            "",
            "panic: boom",
            "",
            "goroutine 1 [running]:",
            "main.step(0x1)",
            "\t/src/agent.go:6 +0x5b",
        ];
        let evidence = scanned(lines.iter().map(String::as_str).chain(last));
        let Some(Cause::Exceptions(chain)) = evidence.cause else { panic!("nothing was found") };
        prop_assert_eq!(chain[0].summary(), "panic: boom");
        prop_assert_eq!(chain[0].frames[0].line, 6);
        prop_assert_eq!(evidence.failed_allocation, None);
    }
}

#[test]
fn floods_and_long_lines_take_no_time() {
    let begun = Instant::now();
    for part in PARTS {
        let long = part.repeat(1 << 16);
        let evidence = scanned(repeat_n(part, 20_000).chain(repeat_n(long.as_str(), 100)));
        assert!(is_bounded(&evidence), "{part}");
    }
    // Seconds on a busy machine without optimization; a quadratic reader takes hours.
    assert!(begun.elapsed() < Duration::from_secs(120), "{:?}", begun.elapsed());
}

#[test]
fn a_call_begins_with_nothing_said() {
    let mut scanner = Scanner::default();
    scanner.line("panic: boom");
    assert!(scanner.evidence().cause.is_some());
    scanner.clear();
    assert_eq!(scanner.evidence(), Evidence::default());
}

#[test]
fn only_the_last_report_counts() {
    let failed = scanned(["panicked at a.rs:1:1:", "memory allocation of 7 bytes failed"]);
    assert_eq!(failed.failed_allocation, Some(7));
    for head in ["panicked at a.rs:1:1:", "panic: boom", "abort: x in a.ts(1:1)"] {
        let evidence = scanned(["memory allocation of 7 bytes failed", head]);
        assert_eq!(evidence.failed_allocation, None, "{head}");
    }
    let survived = scanned(["panic: boom", "", "panicked at a.rs:1:1:", "no rig"]);
    assert!(matches!(survived.cause, Some(Cause::Panic(panic)) if panic.message == "no rig"));
    let over_nothing = "Python function threw an unexpected exception";
    let unrelated = scanned(["panic: boom", "", "panicked at a.rs:1:1:", over_nothing]);
    assert!(
        matches!(unrelated.cause, Some(Cause::Panic(_))),
        "no traceback of Python's stands above"
    );
}

#[test]
fn the_exception_of_a_deep_recursion_is_kept_and_the_head_of_a_long_panic() {
    let frames = (0..1000).map(|n| format!("  File \"agent.py\", line {}, in f{n}", n + 1));
    let head = ["Traceback (most recent call last):".to_owned()];
    let lines: Vec<String> =
        head.into_iter().chain(frames).chain(["RecursionError: too deep".to_owned()]).collect();
    let evidence = scanned(lines.iter().map(String::as_str));
    let Some(Cause::Exceptions(chain)) = evidence.cause else { panic!("nothing was found") };
    assert_eq!((chain[0].kind.as_str(), chain[0].frames[0].line), ("RecursionError", 1000));

    let lines: Vec<String> = (0..1000).map(|n| n.to_string()).collect();
    let head = ["thread panicked at a.rs:1:2:"];
    let evidence = scanned(head.into_iter().chain(lines.iter().map(String::as_str)));
    let Some(Cause::Panic(panic)) = evidence.cause else { panic!("nothing was found") };
    assert!(panic.message.starts_with("0\n1\n2") && panic.message.ends_with("\n62"));
    assert_eq!(panic.place.unwrap().column, 2);
}
