//! Bundles of esbuild, stacks of the engines that ran them, and maps that mean harm.

#![allow(clippy::unwrap_used, reason = "helpers of tests: a panic is their failure")]

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bulkhead_exception::{SourceMap, SourceMapError, javascript_frames, map_to_sources};
use bulkhead_types::exception::{Exception, SourceFrame};
use proptest::prelude::*;

const CODE: &[u8] = include_bytes!("bundle/agent.js");
const MAP: &[u8] = include_bytes!("bundle/agent.js.map");
const INLINE: &[u8] = include_bytes!("bundle/inline.js");

/// The same failure in the minified code, as two engines print it.
const QUICKJS: &str = "    at e (/agent.js:1:95)\n    at s (/agent.js:1:161)\n";
const V8: &str = "    at e (file:///agent.js:1:97)\n    at Module.s (file:///agent.js:1:159)";

fn bundle(file: &str) -> Option<&'static [u8]> {
    match file {
        "agent.js" => Some(CODE),
        "agent.js.map" => Some(MAP),
        "inline.js" => Some(INLINE),
        _ => None,
    }
}

fn thrown(stack: &str) -> [Exception; 1] {
    [Exception { frames: javascript_frames(stack), ..Exception::default() }]
}

fn places(exception: &Exception) -> Vec<String> {
    let shown = |frame: &SourceFrame| {
        let function = frame.function.as_deref().unwrap_or("-");
        format!("{function} {}:{}:{}", frame.file, frame.line, frame.column.unwrap_or_default())
    };
    exception.frames.iter().map(shown).collect()
}

/// The text of the source from a column on.
fn source_at(frame: &SourceFrame) -> String {
    let map: serde_json::Value = serde_json::from_slice(MAP).unwrap();
    let source = map["sourcesContent"][0].as_str().unwrap();
    let line = source.lines().nth(frame.line as usize - 1).unwrap();
    line[frame.column.unwrap() as usize - 1..].to_owned()
}

#[test]
fn frames_of_a_bundle_become_those_of_its_sources() {
    for stack in [QUICKJS, V8] {
        for stack in [stack.to_owned(), stack.replace("agent.js", "inline.js")] {
            let mut exceptions = thrown(&stack);
            let errors = map_to_sources(&mut exceptions, &bundle);
            assert!(errors.is_empty(), "{errors:?}");
            let frames = &exceptions[0].frames;
            assert_eq!(frames[0].function.as_deref(), Some("describe"), "{stack}");
            assert!(frames.iter().all(|frame| frame.file == "agent.ts"), "{frames:?}");
            assert_eq!(frames[1].line, 12, "{frames:?}");
            assert!(source_at(&frames[1]).contains("words[0]"), "{frames:?}");
        }
    }
    let mut exceptions = thrown(V8);
    map_to_sources(&mut exceptions, &bundle);
    assert_eq!(places(&exceptions[0]), ["describe agent.ts:7:27", "run agent.ts:12:10"]);
}

/// The call is too far away from where the engine names it: the declaration says what the function is called.
#[test]
fn a_function_gets_its_name_from_its_declaration() {
    let code: &[u8] = include_bytes!("../../../tests/runners/bundle/first/agent.js");
    let map: &[u8] = include_bytes!("../../../tests/runners/bundle/first/agent.js.map");
    let bundle = |file: &str| match file {
        "agent.js" => Some(code),
        "agent.js.map" => Some(map),
        _ => None,
    };
    let line = std::str::from_utf8(code).unwrap().lines().next().unwrap();
    let thrown_at = line.find("e.length").unwrap() + 2;
    let called_at = line.find("void 0").unwrap() + 1;
    let stack =
        format!("    at n (agent.js:1:{thrown_at})\n    at message (agent.js:1:{called_at})\n");
    let mut exceptions = thrown(&stack);
    assert!(map_to_sources(&mut exceptions, &bundle).is_empty());
    let frames = &exceptions[0].frames;
    assert_eq!(frames[0].function.as_deref(), Some("measure"), "{frames:?}");
    assert_eq!(frames[1].function.as_deref(), Some("message"), "{frames:?}");
}

#[test]
fn what_a_map_does_not_know_stays() {
    for stack in
        ["    at f (/other.js:1:2)", "    at f (/agent.js:999:1)", "    at f (native.js:3)"]
    {
        let mut exceptions = thrown(stack);
        assert!(map_to_sources(&mut exceptions, &bundle).is_empty());
        assert_eq!(exceptions, thrown(stack));
    }
}

#[test]
fn a_name_is_given_back_only_to_the_function_that_was_called() {
    // A native function stands between: what called it is not what called this.
    let mut exceptions = thrown("    at r (/agent.js:1:39)\n    at s (/agent.js:1:159)");
    map_to_sources(&mut exceptions, &bundle);
    assert_eq!(exceptions[0].frames[0].function.as_deref(), Some("r"));
}

#[test]
fn paths_of_bundlers_are_shown_as_their_author_knows_them() {
    for (root, source, shown) in [
        ("", "../src/agent.ts", "src/agent.ts"),
        ("", "webpack://town/./src/agent.ts", "src/agent.ts"),
        ("src/", "agent.ts", "src/agent.ts"),
        ("src", "/abs/agent.ts", "/abs/agent.ts"),
    ] {
        let map = serde_json::json!({
            "version": 3, "sourceRoot": root, "sources": [source], "names": [], "mappings": "AAAA",
        });
        let map = SourceMap::parse(map.to_string().as_bytes()).unwrap();
        let [mut exception] = thrown("    at f (x.js:1:1)");
        map.map("x.js", b"", &mut exception);
        assert_eq!(places(&exception), [format!("f {shown}:1:1")]);
    }
}

fn refused(map: &str) -> SourceMapError {
    let begun = Instant::now();
    let error = SourceMap::parse(map.as_bytes()).expect_err("it is refused");
    assert!(begun.elapsed() < Duration::from_secs(20), "{error} took {:?}", begun.elapsed());
    error
}

fn with_mappings(mappings: &str) -> String {
    format!(r#"{{"version":3,"sources":["a.ts"],"names":["n"],"mappings":"{mappings}"}}"#)
}

#[test]
fn hostile_maps_are_refused() {
    use SourceMapError::{Json, Mappings, Sections, TooLarge};
    let nulls = vec!["null"; 5000].join(",");
    let empty = vec![r#""""#; 100_001].join(",");
    assert!(matches!(refused(&" ".repeat(9 << 20)), TooLarge(_)));
    assert!(matches!(refused(&with_mappings(&";".repeat(600_000))), TooLarge(_)));
    assert!(matches!(refused(&with_mappings(&"A".repeat(3 << 20))), TooLarge(_)));
    let sections = r#"{"version":3,"sections":[{"offset":{"line":0,"column":0},"map":{}}]}"#;
    assert!(matches!(refused(sections), Sections));
    for list in [format!(r#""sources":[{nulls}]"#), format!(r#""sources":[],"names":[{empty}]"#)] {
        let map = format!(r#"{{"version":3,"mappings":"",{list}}}"#);
        assert!(matches!(refused(&map), Json(_)), "{}", &list[..20]);
    }
    let deep = format!(r#"{{"version":3,"mappings":"","x":{}"#, "[".repeat(1 << 20));
    for map in [deep.as_str(), "", "{}", "[]", "{\"version\":3", "\u{0}"] {
        assert!(matches!(refused(map), Json(_)), "{}", &map[..map.len().min(20)]);
    }
    // Negative columns, sources, lines and names; segments of a wrong size; numbers without an end.
    for mappings in
        ["D", "ADAA", "AADA", "AAAD", "AAAAD", "AA", "AAAAAA", "g", "gggggggggggggggggA", "ACAA"]
    {
        assert!(matches!(refused(&with_mappings(mappings)), Mappings(_)), "{mappings}");
    }
    assert!(matches!(refused(r#"{"version":2,"mappings":"","sources":[]}"#), Mappings(_)));
}

#[test]
fn the_sources_text_is_skipped_and_numbers_at_their_limits_are_mapped() {
    let text = "x".repeat(7 << 20);
    let map = format!(
        r#"{{"version":3,"sources":["a.ts"],"sourcesContent":["{text}"],"names":[],"mappings":"AA+/////HA"}}"#
    );
    let map = SourceMap::parse(map.as_bytes()).unwrap();
    let [mut exception] = thrown("    at f (x.js:1:1)");
    map.map("x.js", b"", &mut exception);
    assert!(exception.frames[0].line > 1);
}

#[test]
fn a_map_of_no_use_is_named_and_frames_stay() {
    let comment = b"f();\n//# sourceMappingURL=data:application/json;base64,?".as_slice();
    let sections = BASE64_STANDARD.encode(r#"{"version":3,"sections":[]}"#);
    let sections =
        format!("//# sourceMappingURL=data:application/json;charset=utf-8;base64,{sections}");
    for code in [comment, sections.as_bytes()] {
        let mut exceptions = thrown("    at f (x.js:1:1)");
        let errors = map_to_sources(&mut exceptions, &|file| (file == "x.js").then_some(code));
        assert_eq!((errors.len(), errors[0].0.as_str()), (1, "x.js"));
        assert_eq!(exceptions, thrown("    at f (x.js:1:1)"));
    }
}

#[test]
fn few_maps_are_read_for_one_end() {
    let read = std::cell::Cell::new(0);
    let stack: String = (0..60).map(|n| format!("    at f (f{n}.js:1:1)\n")).collect();
    map_to_sources(&mut thrown(&stack), &|_| {
        read.set(read.get() + 1);
        None
    });
    assert!((4..=12).contains(&read.get()), "{} files", read.get());
}

proptest! {
    #[test]
    fn any_map_is_read_or_refused(
        mappings in "[A-Za-z0-9+/,;]{0,80}",
        code in any::<String>(),
        line in 1..5u32,
        column in 0..200u32,
    ) {
        if let Ok(map) = SourceMap::parse(with_mappings(&mappings).as_bytes()) {
            let stack = format!("at f (x.js:{line}:{column})\nat g (x.js:{line}:{column})");
            let [mut exception] = thrown(&stack);
            map.map("x.js", code.as_bytes(), &mut exception);
            prop_assert!(exception.frames.iter().all(|frame| frame.line > 0));
        }
    }

    #[test]
    fn any_bytes_are_no_map(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(SourceMap::parse(&bytes).is_err());
    }
}
