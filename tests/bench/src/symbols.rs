//! Files and lines for the frames of a crash: the symbolizer alone, in this process.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bulkhead_model::{Digest, Frame, Symbolized};
use bulkhead_runtime::{Symbolizer, SymbolizerConfig};
use harness::files;
use sha2::{Digest as _, Sha256};
use wasmparser::{Parser, Payload};

use crate::report::{Report, Row};
use crate::samples::Samples;

/// The largest guest.
const GUEST: &str = "polecat";

/// Frames of a question, spread over all of the guest's code.
const FRAMES: u64 = 20;

/// Times that a symbolizer begins with nothing.
const COLD_STARTS: u64 = 50;

/// Questions to each of them, and how often each is repeated.
const QUESTIONS: u64 = 20;

pub fn symbols(report: &mut Report) {
    let (mut cold, mut warm, mut seen) = (Samples::new(), Samples::new(), Samples::new());
    let path: Arc<std::path::Path> = files::component(GUEST).into();
    let bytes = std::fs::read(&path).expect("read the largest guest");
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
    let ms = Duration::from_millis;
    report.add(Row::alone("lines of 20 frames, component unknown", &cold, ms(15)));
    report.add(Row::alone("lines of 20 frames, component known", &warm, ms(1)));
    let budget = Duration::from_micros(20);
    report.add(Row::alone("lines of 20 frames seen before", &seen, budget));
}

/// Frames in the code of the first core module, others for each number.
fn frames(component: &[u8], number: u64) -> Vec<Frame> {
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
