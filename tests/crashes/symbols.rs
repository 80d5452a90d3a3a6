//! Files and lines of real guests' crashes.

use std::sync::Arc;
use std::time::Instant;

use bulkhead_runtime::{Symbolizer, SymbolizerConfig, Unavailable};
use bulkhead_types::{Digest, Exit, Frame, Symbolized};
use harness::files;
use sha2::{Digest as _, Sha256};

use super::components;
use super::guest::Rig;

/// File, line and column of a frame.
fn place(frame: &Frame) -> (&str, u32, u32) {
    let number = |number: Option<u32>| number.unwrap_or(0);
    (frame.file.as_deref().unwrap_or("?"), number(frame.line), number(frame.column))
}

fn names(frames: &[Frame]) -> Vec<&str> {
    frames.iter().map(|frame| frame.function.as_deref().unwrap_or("?")).collect()
}

/// The line of the guest's source with this text in it.
#[track_caller]
fn line_of(text: &str) -> u32 {
    let source = std::fs::read_to_string(files::root().join("tests/programs/examples/trap.rs"));
    let source = source.expect("read the guest's source");
    let at = source.lines().position(|line| line.contains(text));
    at.map_or(0, |index| index as u32 + 1)
}

#[test]
fn the_first_frame_of_a_panic_that_is_the_agents_is_where_it_says_it_panicked() {
    let rig = Rig::new();
    let loaded = rig.load(&files::component("trap"));
    for body in ["panic", "unwrap"] {
        let exit = rig.ends_by(&loaded, body);
        let location = exit.location.as_ref().expect("a panic has its location");
        let found = rig.symbolize(&loaded, &exit);
        assert_eq!((found.status, found.reason), (Symbolized::Done, None));
        let own = found.frames.iter().find(|frame| frame.in_app).expect("a frame of the agent");
        assert_eq!(
            place(own),
            (location.file.as_str(), location.line, location.column),
            "{found:#?}"
        );
        assert_eq!(location.file, "tests/programs/examples/trap.rs");
    }
}

#[test]
fn a_trap_without_a_message_has_its_line_all_the_same() {
    let rig = Rig::new();
    let loaded = rig.load(&files::component("trap"));
    for (body, function, text) in [
        ("divide", "trap::divide_unchecked", "black_box(dividend / divisor)"),
        ("wild-pointer", "trap::read_wild_pointer", ""),
    ] {
        let exit = rig.ends_by(&loaded, body);
        let found = rig.symbolize(&loaded, &exit);
        let first = &found.frames[0];
        assert_eq!(first.function.as_deref(), Some(function));
        assert_eq!(place(first).0, "tests/programs/examples/trap.rs");
        assert!(first.in_app);
        assert!(text.is_empty() || place(first).1 == line_of(text), "{first:?}");
    }
}

#[test]
fn calls_in_line_are_there_and_know_whose_they_are() {
    let rig = Rig::new();
    let loaded = rig.load(&files::component("trap"));
    let exit = rig.ends_by(&loaded, "unwrap");
    let found = rig.symbolize(&loaded, &exit);
    assert!(found.frames.len() > exit.frames.len(), "{found:#?}");
    assert!(found.frames.iter().enumerate().all(|(index, frame)| frame.index == index));
    let unwrap = found.frames.iter().position(|frame| {
        frame.function.as_deref().is_some_and(|name| name.starts_with("unwrap<"))
    });
    let unwrap = &found.frames[unwrap.expect("Option::unwrap is in line")..];
    assert_eq!(place(&unwrap[0]).0, "library/core/src/option.rs");
    assert_eq!(unwrap[0].module_offset, unwrap[1].module_offset, "both are one place in the code");
    assert_eq!((unwrap[0].in_app, unwrap[1].in_app), (false, true));
    for frame in &found.frames {
        let file = frame.file.as_deref().unwrap_or("library");
        let is_own = file.starts_with("tests/programs/")
            && !names(std::slice::from_ref(frame))[0].contains('#');
        assert_eq!(frame.in_app, is_own, "{frame:?}");
        assert!(!file.starts_with('/'), "a path of the build machine: {file}");
    }
}

#[test]
fn deep_recursion_is_not_made_longer_than_it_is_worth() {
    let rig = Rig::new();
    let loaded = rig.load(&files::component("stack"));
    let exit = rig.ends_by(&loaded, "recurse");
    let found = rig.symbolize(&loaded, &exit);
    assert_eq!(found.status, Symbolized::Done);
    assert!(found.frames.len() <= 256 + exit.frames.len());
    let recursing = found.frames.iter().filter(|frame| frame.in_app).map(place);
    let lines: std::collections::BTreeSet<_> = recursing.collect();
    assert!(lines.len() <= 3, "one function, a few lines of it: {lines:?}");
}

#[test]
fn without_debug_information_the_names_stay() {
    let rig = Rig::new();
    let whole = std::fs::read(files::component("trap")).expect("read the component");
    let names_only = components::without(&whole, |section| section.starts_with(".debug_"));
    let loaded = rig.load(&rig.write("names.wasm", &names_only));
    let exit = rig.ends_by(&loaded, "divide");
    let found = rig.symbolize(&loaded, &exit);
    assert_eq!(found.reason, Some(Unavailable::NoDebugInfo));
    assert_eq!(found.frames, exit.frames);
    assert_eq!(names(&found.frames)[0], "trap::divide_unchecked");
    assert!(found.frames[0].in_app, "the name shows it");

    let stripped = components::without(&whole, |_| true);
    let loaded = rig.load(&rig.write("stripped.wasm", &stripped));
    let exit = rig.ends_by(&loaded, "divide");
    let found = rig.symbolize(&loaded, &exit);
    assert_eq!(
        (found.status, found.reason),
        (Symbolized::Unavailable, Some(Unavailable::NoDebugInfo))
    );
    assert_eq!(names(&found.frames)[0], "?");
    assert!(found.frames[0].module_offset > Some(0), "its offset is still known");
}

#[test]
fn lines_without_names_name_their_functions_themselves() {
    let rig = Rig::new();
    let whole = std::fs::read(files::component("trap")).expect("read the component");
    let unnamed = components::without(&whole, |section| section == "name");
    let loaded = rig.load(&rig.write("unnamed.wasm", &unnamed));
    let exit = rig.ends_by(&loaded, "divide");
    assert_eq!(names(&exit.frames)[0], "?");
    let found = rig.symbolize(&loaded, &exit);
    assert_eq!(names(&found.frames)[0], "divide_unchecked");
    assert!(found.frames[0].in_app);
}

#[test]
fn a_file_that_was_rebuilt_meanwhile_is_not_believed() {
    let rig = Rig::new();
    let whole = std::fs::read(files::component("trap")).expect("read the component");
    let path = rig.write("a.wasm", &whole);
    let loaded = rig.load(&path);
    let exit = rig.ends_by(&loaded, "divide");
    rig.write("a.wasm", &components::without(&whole, |section| section == "producers"));
    let found = rig.symbolize(&loaded, &exit);
    assert_eq!(found.reason, Some(Unavailable::FileChanged));
    assert_eq!(found.frames, exit.frames);
}

/// Asks for these frames of a component with these bytes.
fn symbolize(symbolizer: &Symbolizer, rig: &Rig, bytes: &[u8], exit: &Exit) -> Symbolized {
    let path = rig.write("spoiled.wasm", bytes);
    let digest = Digest(Sha256::digest(bytes).into());
    symbolizer.symbolize(digest, &Arc::from(path), &exit.frames).wait().status
}

#[test]
fn spoiled_debug_information_of_a_real_guest_is_answered() {
    let rig = Rig::new();
    let whole = std::fs::read(files::component("trap")).expect("read the component");
    let loaded = rig.load(&files::component("trap"));
    let exit = rig.ends_by(&loaded, "panic");
    let symbolizer = Symbolizer::start(SymbolizerConfig::default()).expect("start the symbolizer");
    let debug = components::sections(&whole, |section| section.starts_with(".debug_"));
    assert!(debug.len() > 3);
    let mut random = fastrand::Rng::with_seed(7);
    let mut done = 0;
    for round in 0..200 {
        let mut bytes = whole.clone();
        for _ in 0..random.usize(1..30) {
            let section = &debug[random.usize(..debug.len())];
            bytes[random.usize(section.clone())] = random.u8(..);
        }
        if round % 4 == 0 {
            let section = &debug[random.usize(..debug.len())];
            bytes[section.clone()].fill(random.u8(..));
        }
        done += usize::from(symbolize(&symbolizer, &rig, &bytes, &exit) == Symbolized::Done);
    }
    assert!((1..200).contains(&done), "some damage hits what is needed, some does not: {done}");
    assert_eq!(symbolize(&symbolizer, &rig, &whole, &exit), Symbolized::Done, "it is still well");
}

#[test]
fn frames_that_were_seen_before_cost_next_to_nothing() {
    let rig = Rig::new();
    let loaded = rig.load(&files::component("trap"));
    let exit = rig.ends_by(&loaded, "panic");
    rig.symbolize(&loaded, &exit);
    let mut times: Vec<_> = (0..1000)
        .map(|_| {
            let began = Instant::now();
            rig.symbolize(&loaded, &exit);
            began.elapsed()
        })
        .collect();
    times.sort_unstable();
    assert_eq!(rig.runtime.symbolizer().figures().looked_up, 1);
    // The budget is 20 µs; a shared machine and an unoptimized build get ten times as much.
    assert!(times[500].as_micros() < 200, "{:?}", times[500]);
}
