//! What runtimes really print, and what is found in it. `UPDATE_EXPECT=1` writes the expectations.

#![allow(clippy::unwrap_used, reason = "helpers of tests: a panic is their failure")]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use bulkhead_exception::{Cause, Evidence, Scanner, is_out_of_memory};
use bulkhead_types::exception::{Exception, SourceFrame};
use expect_test::expect_file;

fn texts() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/texts");
    let files = folder.read_dir().unwrap().map(|entry| entry.unwrap().path());
    let mut texts: Vec<PathBuf> =
        files.filter(|path| path.extension().is_some_and(|ext| ext == "txt")).collect();
    texts.sort();
    texts
}

fn scanned(text: &str) -> Evidence {
    let mut scanner = Scanner::default();
    text.lines().for_each(|line| scanner.line(line));
    scanner.evidence()
}

fn shown(evidence: &Evidence) -> String {
    let mut shown = String::new();
    match &evidence.cause {
        Some(Cause::Exceptions(chain)) => chain.iter().for_each(|one| show(&mut shown, one)),
        Some(Cause::Panic(panic)) => writeln!(shown, "{panic:#?}").unwrap(),
        None => shown.push_str("no cause\n"),
    }
    if let Some(bytes) = evidence.failed_allocation {
        writeln!(shown, "an allocation of {bytes} bytes failed").unwrap();
    }
    shown
}

fn show(shown: &mut String, exception: &Exception) {
    let memory = if is_out_of_memory(exception) { " [out of memory]" } else { "" };
    writeln!(shown, "{}{memory}", exception.summary()).unwrap();
    for SourceFrame { function, file, line, column } in &exception.frames {
        let function = function.as_deref().unwrap_or("-");
        let column = column.map(|column| format!(":{column}")).unwrap_or_default();
        writeln!(shown, "    {function} {file}:{line}{column}").unwrap();
    }
}

#[test]
fn real_texts_name_their_exceptions() {
    let texts = texts();
    assert!(texts.len() > 40, "{} texts", texts.len());
    for path in texts {
        let text = std::fs::read_to_string(&path).unwrap();
        expect_file![path.with_extension("expected")].assert_eq(&shown(&scanned(&text)));
    }
}
