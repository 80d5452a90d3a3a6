//! Programs of others do the same on this host and on plain wasmtime-wasi. `just conformance` builds and runs the
//! tests of published crates and of Rust's library, each alone; an ordinary test runs a program of our own.

mod hosted;
mod reference;
mod suites;

use std::collections::BTreeMap;
use std::path::PathBuf;

use harness::files;

use hosted::Hosted;
use reference::Reference;
use suites::SUITES;

/// What every program has in its environment.
const ENVIRONMENT: [(&str, &str); 2] = [("RUST_BACKTRACE", "0"), ("TMPDIR", "/workspace")];

/// Names the suites that `just conformance` runs; all where it is empty.
const CHOSEN: &str = "CONFORMANCE_SUITES";

/// A component that exports `wasi:cli/run`.
struct Program {
    name: String,
    wasm: PathBuf,
}

/// One run of a program.
#[derive(Debug, Clone)]
struct Case {
    program: String,
    args: Vec<String>,
    env: Vec<(String, String)>,
}

/// What came of it.
#[derive(Debug, Clone)]
struct Outcome {
    well: bool,
    /// The end in words. They are this side's own and are not compared.
    how: String,
    stdout: Vec<String>,
    /// Of one that fails, the last line of it.
    stderr: Vec<String>,
}

/// How many cases came to what.
#[derive(Debug, Default, PartialEq)]
struct Tally {
    passed: usize,
    /// With what each said last.
    failed: Vec<String>,
    different: Vec<String>,
}

impl Case {
    fn of(program: &str) -> Self {
        Self { program: program.to_owned(), args: Vec::new(), env: Vec::new() }
    }

    /// One test of a program with the standard harness. A panic ends the program, so it runs alone, and nothing is
    /// captured, so it says why.
    fn test(program: &str, name: &str) -> Self {
        let args = ["--exact", name, "--test-threads=1", "--nocapture"].map(str::to_owned).to_vec();
        Self { args, ..Self::of(program) }
    }

    fn title(&self) -> String {
        let words = self.args.iter().filter(|argument| !argument.starts_with("--"));
        let words: Vec<_> =
            std::iter::once(&self.program).chain(words).map(String::as_str).collect();
        words.join(" ")
    }
}

impl Outcome {
    /// What both sides must have in common: the host logs lines, cuts long ones, and leaves out empty ones. Of a test
    /// with the standard harness it is the result, since some print times. One that fails says why; files, threads
    /// and errors have numbers of their own.
    fn essence(&self) -> (bool, String, String) {
        let is_result = |line: &&String| line.starts_with("test result: ");
        let lines = match self.stdout.iter().rfind(is_result) {
            Some(result) => std::slice::from_ref(result),
            None => &self.stdout,
        };
        let lines = lines.iter().map(|line| line.split("; finished in ").next().unwrap_or(line));
        let why = self.said_last().filter(|_| !self.well).unwrap_or_default();
        (self.well, lines.collect(), why.replace(|it: char| it.is_ascii_digit(), ""))
    }

    fn said_last(&self) -> Option<&str> {
        let mut lines = self.stderr.iter().rev();
        let said = lines.find(|line| !line.is_empty() && !line.starts_with("note: "));
        said.map(String::as_str)
    }

    /// What a program said last that could not go on.
    fn last_words(&self) -> &str {
        self.said_last().unwrap_or(&self.how)
    }

    fn show(&self) -> String {
        let list = |lines: &[String]| lines.join("\n        ");
        let (out, err) = (list(&self.stdout), list(&self.stderr));
        format!("{}\n    stdout:\n        {out}\n    stderr:\n        {err}", self.how)
    }
}

impl Tally {
    fn add(&mut self, case: &Case, reference: &Outcome, host: &Outcome) {
        match (reference.essence() == host.essence(), host.well) {
            (true, true) => self.passed += 1,
            (true, false) => self.failed.push(format!("{}: {}", case.title(), host.last_words())),
            (false, _) => {
                let (reference, host) = (reference.show(), host.show());
                let title = case.title();
                self.different.push(format!("{title}\n  reference: {reference}\n  host: {host}"));
            }
        }
    }
}

/// Runs the cases on both sides, at the same time.
fn compare(programs: &[Program], cases: &[Case], references: &BTreeMap<&str, Reference>) -> Tally {
    let host = Hosted::start(programs, cases);
    let mut tally = Tally::default();
    for (number, case) in cases.iter().enumerate() {
        host.begin(number, case);
        let expected = references[case.program.as_str()].run(case);
        tally.add(case, &expected, &host.end(number, case));
    }
    host.finish();
    tally
}

fn references(programs: &[Program]) -> BTreeMap<&str, Reference> {
    let engine = Reference::engine();
    let load = |program| Reference::load(&engine, program);
    programs.iter().map(|program| (program.name.as_str(), load(program))).collect()
}

#[test]
fn a_program_of_ours_does_the_same_and_a_difference_is_named() {
    let programs = [Program { name: "command".into(), wasm: files::component("command") }];
    let ends = |how: &str| vec![("COMMAND_EXIT".to_owned(), how.to_owned())];
    let cases = [
        Case { args: vec!["one".into(), "two words".into()], ..Case::of("command") },
        Case { env: ends("fail"), ..Case::of("command") },
        Case { env: ends("panic"), ..Case::of("command") },
    ];
    let references = references(&programs);
    assert!(references["command"].tests().is_empty(), "it has no harness");
    let tally = compare(&programs, &cases, &references);
    let failed =
        vec!["command: command wrote to stderr".to_owned(), "command: told to panic".to_owned()];
    assert_eq!(tally, Tally { passed: 1, failed, different: vec![] });

    let run = |case: &Case| references["command"].run(case);
    let (well, fails) = (run(&cases[0]), run(&cases[1]));
    let silent = Outcome { stdout: vec![], ..well.clone() };
    let mut tally = Tally::default();
    tally.add(&cases[0], &well, &silent);
    tally.add(&cases[1], &fails, &Outcome { well: true, ..fails.clone() });
    assert_eq!((tally.passed, tally.failed.len(), tally.different.len()), (0, 0, 2));
    assert!(tally.different[0].starts_with("command one two words\n"), "{tally:?}");
}

#[test]
fn times_empty_lines_and_cut_lines_make_no_difference() {
    let outcome = |stdout: &[&str]| Outcome {
        well: true,
        how: String::new(),
        stdout: stdout.iter().map(ToString::to_string).collect(),
        stderr: vec![],
    };
    let one = outcome(&["", "running 1 test", "ok; finished in 0.01s"]);
    assert_eq!(one.essence(), outcome(&["running", " 1 test", "ok; finished in 2s"]).essence());
    assert_ne!(one.essence(), outcome(&["running 2 tests", "ok"]).essence());
    let passed = "test result: ok. 1 passed";
    assert_eq!(
        outcome(&["slept 5 ms", passed]).essence(),
        outcome(&["slept 6 ms", passed]).essence()
    );
    assert_ne!(outcome(&[passed]).essence(), outcome(&["test result: ok. 0 passed"]).essence());
}

#[test]
fn programs_that_fail_for_another_reason_are_different() {
    let fails = |words: &str| {
        let stderr = vec!["panicked at src/lib.rs:1:2:".into(), words.into(), "note: run".into()];
        Outcome { well: false, how: "trap".into(), stdout: vec![], stderr }
    };
    let denied = fails("rust-17: permission denied (os error 2)");
    assert_eq!(denied.essence(), fails("rust-4: permission denied (os error 63)").essence());
    assert_ne!(denied.essence(), fails("rust-17: not supported (os error 2)").essence());
    let well = |words| Outcome { well: true, ..fails(words) };
    assert_eq!(well("took 5 ms").essence(), well("was slow").essence());
}

/// Takes crates from their registry, builds for minutes and runs hundreds of programs.
#[test]
#[ignore = "just conformance"]
fn suites_of_others_do_the_same() {
    let chosen = std::env::var(CHOSEN).unwrap_or_default();
    let is_chosen =
        |name: &str| chosen.is_empty() || chosen.split_whitespace().any(|one| one == name);
    let mut rows = Vec::new();
    for suite in SUITES.iter().filter(|suite| is_chosen(suite.name)) {
        let programs = suite.programs();
        let references = references(&programs);
        let tests = |name| references[name].tests();
        let names = programs.iter().map(|program| program.name.as_str());
        let cases: Vec<_> = names
            .flat_map(|program| {
                tests(program).into_iter().map(move |name| Case::test(program, &name))
            })
            .collect();
        assert!(!cases.is_empty(), "{} has no test", suite.name);
        let tally = compare(&programs, &cases, &references);
        println!("{}: {} tests, {} different", suite.name, cases.len(), tally.different.len());
        rows.push((suite.name, cases.len(), tally));
    }
    report(&rows);
}

/// Prints what failed on both sides and what came of the suites; fails when something differs.
fn report(rows: &[(&str, usize, Tally)]) {
    for (name, _, tally) in rows {
        tally.failed.iter().for_each(|failed| println!("{name}: failed by both: {failed}"));
    }
    println!(
        "\n{:12} {:>6} {:>15} {:>15} {:>10}",
        "suite", "tests", "passed by both", "failed by both", "different"
    );
    for (name, tests, tally) in rows {
        let (passed, failed, different) = (tally.passed, tally.failed.len(), tally.different.len());
        println!("{name:12} {tests:>6} {passed:>15} {failed:>15} {different:>10}");
    }
    let different: Vec<_> = rows
        .iter()
        .flat_map(|(name, _, tally)| {
            tally.different.iter().map(move |text| format!("{name}: {text}"))
        })
        .collect();
    assert!(!rows.is_empty(), "no suite has such a name");
    assert!(different.is_empty(), "{} differ:\n{}", different.len(), different.join("\n"));
}
