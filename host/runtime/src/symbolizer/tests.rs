//! The symbolizer with components and debug information made here. Real guests are in `tests/symbols.rs`.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use bulkhead_types::Frame;
use gimli::write::{
    Address, AttributeValue, DwarfUnit, EndianVec, LineProgram, LineString, Sections,
};
use gimli::{Encoding, Format, LineEncoding, LittleEndian};
use proptest::prelude::*;
use sha2::{Digest as _, Sha256};

use super::component::with_debug_info;
use super::*;

type Section = (String, Vec<u8>);

/// A component with a core module, whose one function has 80 bytes, and these sections in it.
fn component(sections: &[Section]) -> Vec<u8> {
    component_of(&[sections])
}

/// The same with a module for each of them, between two that have none.
fn component_of(modules: &[&[Section]]) -> Vec<u8> {
    let custom = |(name, bytes): &Section| {
        let bytes: String = bytes.iter().map(|byte| format!("\\{byte:02x}")).collect();
        format!("(@custom {name:?} \"{bytes}\")")
    };
    let nops = "nop ".repeat(80);
    let module = |sections: &&[Section]| {
        let custom: String = sections.iter().map(custom).collect();
        format!("(core module (func $f {nops}) {custom})")
    };
    let modules: String = modules.iter().map(module).collect();
    wat::parse_str(format!("(component (core module) {modules} (core module (func)))")).unwrap()
}

/// `outer` in `guest/x/src/lib.rs` with a call of `unwrap` in line, at the addresses 10 to 20.
fn lines(version: u16) -> Vec<Section> {
    let encoding = Encoding { format: Format::Dwarf32, version, address_size: 4 };
    let mut dwarf = DwarfUnit::new(encoding);
    let mut text = |text: &str| LineString::new(text, encoding, &mut dwarf.line_strings);
    let mut program = LineProgram::new(
        encoding,
        LineEncoding::default(),
        text("/home/a/town"),
        None,
        text("guest/x/src/lib.rs"),
        None,
    );
    let dir = program.default_directory();
    let own = program.add_file(text("guest/x/src/lib.rs"), dir, None);
    let library = program.add_file(text("/rustc/0abc/library/core/src/option.rs"), dir, None);
    program.begin_sequence(Some(Address::Constant(2)));
    for (address, file, line) in [(0, own, 5), (8, library, 100), (18, own, 8)] {
        let row = program.row();
        (row.address_offset, row.file, row.line, row.column) = (address, file, line, 3);
        program.generate_row();
    }
    program.end_sequence(48);
    dwarf.unit.line_program = program;

    let unit = &mut dwarf.unit;
    let root = unit.root();
    let set = |unit: &mut gimli::write::Unit, at, name, value| unit.get_mut(at).set(name, value);
    let string = |text: &str| AttributeValue::String(text.into());
    let address = |at| AttributeValue::Address(Address::Constant(at));
    set(unit, root, gimli::DW_AT_comp_dir, string("/home/a/town"));
    set(unit, root, gimli::DW_AT_low_pc, address(2));
    set(unit, root, gimli::DW_AT_high_pc, AttributeValue::Udata(48));
    let unwrap = unit.add(root, gimli::DW_TAG_subprogram);
    set(unit, unwrap, gimli::DW_AT_name, string("unwrap<u8>"));
    let outer = unit.add(root, gimli::DW_TAG_subprogram);
    set(unit, outer, gimli::DW_AT_linkage_name, string("_RNvCs9ltgdHTiPiY_5mayor5outer"));
    set(unit, outer, gimli::DW_AT_low_pc, address(2));
    set(unit, outer, gimli::DW_AT_high_pc, AttributeValue::Udata(48));
    let call = unit.add(outer, gimli::DW_TAG_inlined_subroutine);
    set(unit, call, gimli::DW_AT_abstract_origin, AttributeValue::UnitRef(unwrap));
    set(unit, call, gimli::DW_AT_low_pc, address(10));
    set(unit, call, gimli::DW_AT_high_pc, AttributeValue::Udata(10));
    set(unit, call, gimli::DW_AT_call_file, AttributeValue::FileIndex(Some(own)));
    set(unit, call, gimli::DW_AT_call_line, AttributeValue::Udata(7));
    set(unit, call, gimli::DW_AT_call_column, AttributeValue::Udata(9));

    let mut sections = Sections::new(EndianVec::new(LittleEndian));
    dwarf.write(&mut sections).unwrap();
    let mut written = Vec::new();
    sections
        .for_each(|id, data| {
            written.push((id.name().to_owned(), data.slice().to_vec()));
            Ok::<_, gimli::write::Error>(())
        })
        .unwrap();
    written
}

/// A unit with entries of calls in line, each inside the one before.
fn nested(depth: usize) -> Vec<Section> {
    let (unit, call, children) = (0x11, 0x1d, 1);
    let abbreviations = vec![1, unit, children, 0, 0, 2, call, children, 0, 0, 0];
    let mut info = vec![4, 0, 0, 0, 0, 0, 4, 1];
    info.extend(std::iter::repeat_n(2, depth));
    info.extend(std::iter::repeat_n(0, depth + 1));
    let mut bytes = (info.len() as u32).to_le_bytes().to_vec();
    bytes.extend(info);
    vec![(".debug_abbrev".into(), abbreviations), (".debug_info".into(), bytes)]
}

/// A unit whose line program is all rows: one for each byte. `salt` makes it another one.
fn rows(count: usize, salt: u8) -> Vec<Section> {
    let abbreviations = vec![1, 0x11, 0, 0x10, 0x17, 0x11, 0x01, 0x12, 0x06, 0, 0, 0];
    let mut info = vec![4, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0, 0, 0, 0, 0];
    info.extend(0x7fff_ffff_u32.to_le_bytes());
    // One line and one address further each.
    let header =
        [1, 1, 1, 0xfb, 14, 13, 0, 1, 1, 1, 1, 0, 0, 0, 1, 0, 0, 1, 0, b'x', 0, 0, 0, 0, 0];
    let mut lines = vec![4, 0, header.len() as u8, 0, 0, 0];
    lines.extend(header);
    lines.extend([0, 5, 2, 0, 0, 0, 0]);
    lines.extend(std::iter::repeat_n(0x21, count));
    lines.extend([0, 1, 1]);
    let with_length =
        |bytes: Vec<u8>| [(bytes.len() as u32).to_le_bytes().to_vec(), bytes].concat();
    vec![
        (".debug_abbrev".into(), abbreviations),
        (".debug_info".into(), with_length(info)),
        (".debug_line".into(), with_length(lines)),
        (".debug_str".into(), vec![salt]),
    ]
}

/// A directory with components, and a symbolizer.
struct Rig {
    dir: tempfile::TempDir,
    symbolizer: Symbolizer,
}

/// A component in a file.
struct Written {
    digest: Digest,
    path: Arc<Path>,
    /// Where the code of its second module begins, when it has debug information.
    code: u64,
}

impl Rig {
    fn new(config: SymbolizerConfig) -> Self {
        let symbolizer = Symbolizer::start(config).unwrap();
        Self { dir: tempfile::tempdir().unwrap(), symbolizer }
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Written {
        let path: PathBuf = self.dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let modules = with_debug_info(bytes).unwrap_or_default();
        let code = modules.first().map_or(0, |module| module.code.start);
        Written { digest: Digest(Sha256::digest(bytes).into()), path: path.into(), code }
    }

    fn ask(&self, of: &Written, addresses: &[u64]) -> Symbolizing {
        self.symbolizer.symbolize(of.digest, &of.path, &raw(of, addresses))
    }

    fn answer(&self, of: &Written, addresses: &[u64]) -> Arc<Symbolization> {
        self.ask(of, addresses).wait()
    }

    fn reason(&self, of: &Written) -> Option<Unavailable> {
        let answer = self.answer(of, &[12]);
        assert_eq!(answer.frames, raw(of, &[12]), "raw frames stay as they are");
        assert_eq!(answer.status, Symbolized::Unavailable);
        answer.reason
    }
}

fn raw(of: &Written, addresses: &[u64]) -> Frames {
    let frame = |(index, address): (usize, &u64)| Frame {
        index,
        function: Some("mayor::outer".into()),
        module: Some("m".into()),
        function_index: 3,
        module_offset: Some(of.code + address),
        in_app: true,
        ..Frame::default()
    };
    addresses.iter().enumerate().map(frame).collect()
}

/// Index, function, file, line, column, own code.
type Shown<'a> = (usize, &'a str, &'a str, u32, u32, bool);

fn shown(answer: &Symbolization) -> Vec<Shown<'_>> {
    fn show(frame: &Frame) -> Shown<'_> {
        let Frame { index, function, file, line, column, in_app, .. } = frame;
        let (function, file) = (function.as_deref(), file.as_deref());
        let (line, column) = (line.unwrap_or(0), column.unwrap_or(0));
        (*index, function.unwrap_or("?"), file.unwrap_or("?"), line, column, *in_app)
    }
    answer.frames.iter().map(show).collect()
}

#[test]
fn calls_in_line_are_frames_of_their_own() {
    for version in [4, 5] {
        let rig = Rig::new(SymbolizerConfig::default());
        let of = rig.write("a.wasm", &component(&lines(version)));
        let answer = rig.answer(&of, &[12, 25, 70]);
        assert_eq!(answer.status, Symbolized::Done, "{:?}", answer.reason);
        assert_eq!(
            shown(&answer),
            [
                (0, "unwrap<u8>", "library/core/src/option.rs", 100, 3, false),
                (1, "mayor::outer", "guest/x/src/lib.rs", 7, 9, true),
                (2, "mayor::outer", "guest/x/src/lib.rs", 8, 3, true),
                (3, "mayor::outer", "?", 0, 0, true),
            ]
        );
        let first = &answer.frames[0];
        assert_eq!(first.module_offset, Some(of.code + 12), "it is still at its offset");
        assert_eq!((first.module.as_deref(), first.function_index), (Some("m"), 3));
    }
}

#[test]
fn a_frame_without_a_name_gets_that_of_the_debug_information() {
    let rig = Rig::new(SymbolizerConfig::default());
    let of = rig.write("a.wasm", &component(&lines(4)));
    let frames = raw(&of, &[25]);
    let frames = Frames::from(vec![Frame { function: None, ..frames[0].clone() }]);
    let answer = rig.symbolizer.symbolize(of.digest, &of.path, &frames).wait();
    assert_eq!(shown(&answer), [(0, "mayor::outer", "guest/x/src/lib.rs", 8, 3, true)]);
}

#[test]
fn what_cannot_be_looked_up_says_why() {
    let rig = Rig::new(SymbolizerConfig::default());
    let none = rig.write("none.wasm", &component(&[]));
    assert_eq!(rig.reason(&none), Some(Unavailable::NoDebugInfo));
    let empty = rig.write("empty.wasm", &component(&[(".debug_info".into(), vec![])]));
    assert_eq!(rig.reason(&empty), Some(Unavailable::NoLines));
    let half = rig.write("half.wasm", &component(&[(".debug_info".into(), vec![9; 20])]));
    assert_eq!(rig.reason(&half), Some(Unavailable::Broken));
    let nonsense = rig.write("nonsense.wasm", b"\0asm\x0d\0\x01\0nonsense");
    assert_eq!(rig.reason(&nonsense), Some(Unavailable::Broken));
    let lost = rig.write("lost.wasm", &component(&lines(4)));
    std::fs::remove_file(&lost.path).unwrap();
    let not_found = Unavailable::Unreadable(io::ErrorKind::NotFound);
    assert_eq!(rig.reason(&lost), Some(not_found));
    assert_eq!(rig.symbolizer.figures().unavailable, 5);
    let nothing = rig.answer(&lost, &[]);
    assert_eq!((nothing.status, nothing.reason), (Symbolized::Done, None));
}

#[test]
fn a_file_that_was_replaced_is_not_believed_but_what_was_read_of_it_counts() {
    let rig = Rig::new(SymbolizerConfig::default());
    let old = rig.write("a.wasm", &component(&lines(4)));
    let later = rig.write("b.wasm", &component(&lines(5)));
    assert_eq!(rig.answer(&old, &[12]).status, Symbolized::Done);
    rig.write("a.wasm", &component(&[]));
    rig.write("b.wasm", &component(&[]));
    assert_eq!(rig.answer(&old, &[25]).status, Symbolized::Done);
    assert_eq!(rig.reason(&later), Some(Unavailable::FileChanged));
}

#[test]
fn nesting_that_would_take_the_readers_stack_is_refused() {
    let rig = Rig::new(SymbolizerConfig::default());
    let fine = rig.write("fine.wasm", &component(&nested(200)));
    assert_eq!(rig.reason(&fine), Some(Unavailable::NoLines));
    for depth in [300, 100_000, 1_000_000] {
        let bomb = rig.write("bomb.wasm", &component(&nested(depth)));
        assert_eq!(rig.reason(&bomb), Some(Unavailable::TooLarge));
    }
}

#[test]
fn lists_that_are_pointed_at_again_and_again_count_each_time() {
    // 1: unit. 2: call in line with ranges, no children.
    let abbreviations = vec![1, 0x11, 1, 0, 0, 2, 0x1d, 0, 0x55, 0x17, 0, 0, 0];
    let mut info = vec![4, 0, 0, 0, 0, 0, 4, 1];
    for _ in 0..10_000 {
        info.extend([2, 0, 0, 0, 0]);
    }
    info.push(0);
    let mut bytes = (info.len() as u32).to_le_bytes().to_vec();
    bytes.extend(info);
    let mut ranges: Vec<u8> = (0..1000u32).flat_map(|_| [1, 0, 0, 0, 2, 0, 0, 0]).collect();
    ranges.extend([0; 8]);
    let sections = [
        (".debug_abbrev".into(), abbreviations),
        (".debug_info".into(), bytes),
        (".debug_ranges".into(), ranges),
    ];
    let rig = Rig::new(SymbolizerConfig::default());
    let bomb = rig.write("bomb.wasm", &component(&sections));
    let began = Instant::now();
    assert_eq!(rig.reason(&bomb), Some(Unavailable::TooLarge));
    assert!(began.elapsed() < Duration::from_secs(20));
}

#[test]
fn rows_count_as_what_they_become_and_all_of_a_component_together() {
    const MIB: u64 = 1024 * 1024;
    let rig = Rig::new(SymbolizerConfig::default());
    let bomb = rig.write("bomb.wasm", &component(&rows(3 << 20, 0)));
    assert_eq!(rig.reason(&bomb), Some(Unavailable::TooLarge));
    assert_eq!(rig.symbolizer.figures().kept_bytes, 0, "nothing of it");
    // Each of its modules would fit.
    let (one, two) = (rows(3 << 19, 1), rows(3 << 19, 2));
    let halves = rig.write("halves.wasm", &component_of(&[&one, &two]));
    let second = with_debug_info(&std::fs::read(&halves.path).unwrap()).unwrap()[1].code.start;
    assert_eq!(rig.answer(&halves, &[12]).status, Symbolized::Done);
    let reason = rig.answer(&halves, &[second - halves.code + 12]).reason;
    assert_eq!(reason, Some(Unavailable::TooLarge));
    for salt in 3..8 {
        let of = rig.write("rows.wasm", &component(&rows(1 << 20, salt)));
        assert_eq!(rig.answer(&of, &[12]).status, Symbolized::Done);
        let kept = rig.symbolizer.figures().kept_bytes;
        assert!((24 * MIB..=64 * MIB).contains(&kept), "{kept}");
    }
}

#[test]
fn what_is_known_about_locations_is_bounded_by_its_bytes() {
    let rig = Rig::new(SymbolizerConfig::default());
    let of = rig.write("a.wasm", &component(&lines(4)));
    let long = "x".repeat(900 * 1024);
    for address in 10..30 {
        let frames = raw(&of, &[address]);
        let frames = Frames::from(vec![Frame { module: Some(long.clone()), ..frames[0].clone() }]);
        assert!(rig.symbolizer.symbolize(of.digest, &of.path, &frames).wait().reason.is_none());
    }
    let answers = rig.symbolizer.shared.answers.lock();
    assert!(answers.bytes <= MAX_ANSWER_BYTES && answers.known.len() < 10, "{}", answers.bytes);
}

#[test]
fn a_component_above_the_bounds_is_refused() {
    let bytes = component(&lines(4));
    let small = SymbolizerConfig { max_bytes: 10, ..SymbolizerConfig::default() };
    let rig = Rig::new(small);
    assert_eq!(rig.reason(&rig.write("a.wasm", &bytes)), Some(Unavailable::TooLarge));
    assert_eq!(rig.symbolizer.figures().kept_bytes, 0);
}

#[test]
fn equal_crashes_cost_one_look_up() {
    let rig = Rig::new(SymbolizerConfig::default());
    let of = rig.write("a.wasm", &component(&lines(4)));
    let all: Vec<_> = (0..1000).map(|_| rig.ask(&of, &[12, 25])).collect();
    for one in all {
        assert_eq!(one.wait().frames.len(), 3);
    }
    let figures = rig.symbolizer.figures();
    assert_eq!((figures.looked_up, figures.repeated, figures.dropped), (1, 999, 0));
    assert!(figures.kept_bytes > 0);
}

#[test]
fn what_does_not_fit_into_the_queue_is_refused_and_counted() {
    let rig = Rig::new(SymbolizerConfig { queue: 1, ..SymbolizerConfig::default() });
    let of = rig.write("a.wasm", &component(&lines(4)));
    let all: Vec<_> = (0..2000).map(|address| rig.ask(&of, &[address])).collect();
    let mut refused = 0;
    for one in all {
        let answer = one.wait();
        assert_eq!(answer.frames.last().map(|frame| frame.function_index), Some(3));
        refused += u64::from(answer.reason == Some(Unavailable::QueueFull));
    }
    let figures = rig.symbolizer.figures();
    assert_eq!((figures.dropped, figures.looked_up), (refused, 2000 - refused));
    assert!(refused > 0, "a thread does not keep up with asking");
}

#[test]
fn no_more_is_kept_than_is_allowed() {
    let config = SymbolizerConfig { max_components: 3, ..SymbolizerConfig::default() };
    let rig = Rig::new(config);
    let of = |n: u8| {
        let mut sections = lines(4);
        sections.push((".debug_str_offsets".into(), vec![n]));
        rig.write(&format!("{n}.wasm"), &component(&sections))
    };
    let all: Vec<Written> = (0..10).map(of).collect();
    let mut kept = 0;
    for of in &all {
        assert_eq!(rig.answer(of, &[12]).status, Symbolized::Done);
        kept = kept.max(rig.symbolizer.figures().kept_bytes);
    }
    let alone = Rig::new(SymbolizerConfig::default());
    alone.answer(&all[0], &[12]);
    assert_eq!(kept, 3 * alone.symbolizer.figures().kept_bytes);
    // Those that went are read again, from a file that must still be there.
    for of in &all {
        std::fs::remove_file(&of.path).unwrap();
    }
    assert_eq!(rig.answer(&all[9], &[25]).status, Symbolized::Done);
    assert_eq!(rig.answer(&all[0], &[25]).status, Symbolized::Unavailable);
    for address in 0..2000 {
        rig.answer(&all[9], &[address]);
    }
    assert!(rig.symbolizer.shared.answers.lock().known.len() <= MAX_ANSWERS);
}

#[test]
fn the_thread_ends_with_the_last_who_can_ask() {
    let rig = Rig::new(SymbolizerConfig::default());
    let shared = Arc::downgrade(&rig.symbolizer.shared);
    drop(rig);
    let until = Instant::now() + Duration::from_secs(30);
    while shared.strong_count() > 0 {
        assert!(Instant::now() < until, "it still runs");
        std::thread::yield_now();
    }
}

/// A bounded part of what the fuzz target does without end.
#[test]
fn noise_in_debug_information_is_survived() {
    let seeds = [lines(4), lines(5), nested(20), rows(50, 0)];
    let texts = ["a.1.1", "_RNvC1a1b", "_ZN1a1bE"].map(|text| text.as_bytes().to_vec());
    let mut random = fastrand::Rng::with_seed(11);
    for round in 0..4000 {
        let whole = component(&seeds[round % seeds.len()]);
        let flat = |(_, bytes): &Section| [&(bytes.len() as u16).to_le_bytes()[..], bytes].concat();
        let mut bytes = match random.bool() {
            true => whole,
            false => seeds[round % seeds.len()].iter().flat_map(flat).collect(),
        };
        for _ in 0..=random.usize(..6) {
            let at = random.usize(..bytes.len());
            match random.u8(..4) {
                0 => bytes[at] = random.u8(..),
                1 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][random.usize(..5)],
                2 => bytes.truncate(at.max(1)),
                _ => _ = bytes.splice(at..at, texts[random.usize(..texts.len())].iter().copied()),
            }
        }
        noise::read_any(&bytes);
    }
}

proptest! {
    /// Whatever is in the sections: an answer, and no panic (one would answer `Broken`, and say so on
    /// stderr).
    #[test]
    fn spoiled_debug_information_is_read_without_a_panic(
        version in 4u16..=5,
        spoiled in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>()), 1..20),
    ) {
        let mut sections = lines(version);
        sections.retain(|(_, bytes)| !bytes.is_empty());
        for (section, at, byte) in spoiled {
            let section = section.index(sections.len());
            let (_, bytes) = &mut sections[section];
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let bytes = component(&sections);
        let modules = with_debug_info(&bytes).unwrap();
        if let Ok(debug) = dwarf::Debug::new(&modules[0], &mut vet::Budget::new(usize::MAX)) {
            for address in 0..90 {
                let _ = debug.locate(address);
            }
        }
    }
}
