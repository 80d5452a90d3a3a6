//! Core dumps of real guests.

use harness::files;
use wasmparser::{KnownCustom, Parser, Payload};

use super::guest::Rig;

#[test]
fn a_panic_leaves_its_stack_and_what_it_had_in_memory() {
    let rig = Rig::new();
    let loaded = rig.load(&files::component("trap"));
    let (exit, remains) = rig.remains(&loaded, "panic");
    let dumps = rig.runtime.core_dumps().expect("core dumps are on");
    let kept = dumps.keep(remains, "019a").wait().expect("a core dump");
    assert_eq!(kept.note, None);
    let bytes = std::fs::read(rig.cores().join(&kept.file)).expect("read the core dump");
    let (mut frames, mut has_message) = (Vec::new(), false);
    for payload in Parser::new(0).parse_all(&bytes) {
        match payload.expect("the dump is WebAssembly") {
            Payload::CustomSection(section) => {
                if let KnownCustom::CoreDumpStack(stack) = section.as_known() {
                    frames = stack.frames.iter().map(|frame| frame.funcidx).collect();
                }
            }
            Payload::DataSection(segments) => {
                let message = b"told to panic by message m-1";
                has_message |= segments.into_iter().any(|segment| {
                    let data = segment.expect("a segment").data;
                    data.windows(message.len()).any(|window| window == message)
                });
            }
            _ => {}
        }
    }
    let expected: Vec<_> = exit.frames.iter().map(|frame| frame.function_index).collect();
    assert_eq!(frames, expected);
    assert!(has_message, "the panic's message was in its memory");
}

#[test]
fn a_fatal_error_leaves_none() {
    let rig = Rig::new();
    let loaded = rig.load(&files::component("trap"));
    assert!(rig.try_remains(&loaded, "fatal-error").is_none(), "it returned by itself");
}
