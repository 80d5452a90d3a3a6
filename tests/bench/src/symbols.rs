//! Files and lines for the frames of a crash: the symbolizer alone, in this process.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bulkhead_runtime::{Symbolizer, SymbolizerConfig};
use bulkhead_types::{Digest, Frame, Frames, Symbolized};
use harness::files;
use sha2::{Digest as _, Sha256};
use wasmparser::{Parser, Payload};

use crate::report::{Report, Row};
use crate::samples::Samples;

/// The largest guest, as the host runs it: 1.8 MB.
const GUEST: &str = "polecat";

/// The same guest with all debug information of its code and its dependencies, built for this alone.
const LARGE_PROFILE: &str = "guest-large";

/// What makes it large.
const LARGE_BYTES: usize = 3 * 1024 * 1024;

/// Frames of a question, spread over all of the guest's code.
const FRAMES: u64 = 20;

/// Times that a symbolizer begins with nothing.
const COLD_STARTS: u64 = 50;

/// Questions to each of them, and how often each is repeated.
const QUESTIONS: u64 = 20;

pub fn measure(report: &mut Report) {
    let names = [
        "lines of 20 frames, component unknown",
        "lines of 20 frames, component known",
        "lines of 20 frames seen before",
    ];
    of_component(&files::component(GUEST), names, report);
    let large = files::component_of_profile(LARGE_PROFILE, GUEST);
    let bytes = std::fs::metadata(&large).expect("the large guest").len();
    assert!(bytes >= LARGE_BYTES as u64, "{} has only {bytes} bytes", large.display());
    let names = [
        "the same of 3 MB or more, unknown",
        "the same of 3 MB or more, known",
        "the same of 3 MB or more, seen before",
    ];
    of_component(&large, names, report);
}

fn of_component(path: &Path, names: [&'static str; 3], report: &mut Report) {
    let (mut cold, mut warm, mut seen) = (Samples::new(), Samples::new(), Samples::new());
    let path: Arc<Path> = path.into();
    let bytes = std::fs::read(&path).expect("read the component");
    let digest = Digest(Sha256::digest(&bytes).into());
    for round in 0..COLD_STARTS {
        let symbolizer = Symbolizer::start(SymbolizerConfig::default()).expect("a symbolizer");
        let ask = |number: u64| {
            let frames = frames(&bytes, round * (QUESTIONS + 1) + number);
            let began = Instant::now();
            let answer = symbolizer.symbolize(digest, &path, &frames).wait();
            assert_eq!(answer.status, Symbolized::Done, "{:?}", answer.reason);
            began.elapsed()
        };
        cold.add(ask(0));
        (1..=QUESTIONS).for_each(|number| warm.add(ask(number)));
        (1..=QUESTIONS).for_each(|number| seen.add(ask(number)));
    }
    let budgets = [Duration::from_millis(15), Duration::from_millis(1), Duration::from_micros(20)];
    for ((name, samples), budget) in names.into_iter().zip([cold, warm, seen]).zip(budgets) {
        report.add(Row::alone(name, &samples, budget));
    }
}

/// Frames in the code of the first core module, others for each number.
fn frames(component: &[u8], number: u64) -> Frames {
    let code = Parser::new(0).parse_all(component).find_map(|payload| match payload {
        Ok(Payload::CodeSectionStart { range, .. }) => Some(range),
        _ => None,
    });
    let code = code.expect("a component has code");
    let (begin, bytes) = (code.start as u64, code.len() as u64);
    let at = |index: u64| begin + (bytes * index / FRAMES + number) % bytes;
    let frame = |index| Frame { module_offset: Some(at(index)), ..Frame::default() };
    (0..FRAMES).map(frame).collect()
}
