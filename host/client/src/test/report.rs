//! What is printed: a line for each script, and for one that failed why.

use std::path::Path;
use std::time::Duration;

use bulkhead_printable as text;
use bulkhead_terminal::Colour;
use bulkhead_terminal::words::{duration, quoted};
use bulkhead_types::time::millis;
use serde_json::{Value, json};

use super::play::{Doing, Failed};
use super::verdict::Problem;
use crate::author::crash;
use crate::screen::Screen;

/// Before each line about a problem.
const INDENT: &str = "    ";

/// Scripts that were played.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) passed: usize,
    pub(super) failed: usize,
}

/// A script as a person reads of it. `base` is what files of the agent's code are relative to. Each line has its end.
pub(super) fn of_script(
    path: &Path,
    took: Duration,
    failed: Option<&Failed>,
    base: Option<&Path>,
    screen: Screen,
) -> String {
    let (word, colour) = match failed {
        None => ("ok    ", Colour::Green),
        Some(_) => ("FAILED", Colour::Red),
    };
    let shown = path.display().to_string();
    let shown = text::line(&shown);
    let mut page = format!("{} {shown} ({})\n", screen.paint(word, colour), duration(took));
    let Some(Failed { step, line, doing, problems }) = failed else { return page };
    let doing = doing_words(doing);
    page += &text::line(&format!("  step {step}, line {line}: {doing}"));
    page.push('\n');
    for problem in problems {
        page += &of_problem(problem, base, screen);
    }
    page
}

fn doing_words(doing: &Doing) -> String {
    match doing {
        Doing::Send(text) => format!("send {}", quoted(text::first_line(text).as_ref())),
        Doing::Restart => "restart".to_owned(),
        Doing::Stop => "the stop after it".to_owned(),
    }
}

fn of_problem(problem: &Problem, base: Option<&Path>, screen: Screen) -> String {
    let Problem { expected, came, write, thrown } = problem;
    let mut page = entry("expected", expected, None, screen);
    page += &entry("came", came, Some(Colour::Red), screen);
    if let Some((thrown, what)) = thrown {
        let crash = crash::page(thrown, what, base, screen);
        page.extend(crash.lines().map(|line| format!("{INDENT}{line}\n")));
    }
    if let Some(write) = write {
        let write = format!("if it is meant to be so, write {write}");
        page += &format!("{INDENT}{}\n", screen.paint(&text::line(&write), Colour::Grey));
    }
    page
}

/// A name and what it is about, which may have several lines.
fn entry(name: &str, what: &str, colour: Option<Colour>, screen: Screen) -> String {
    let what = text::lines(what);
    let mut shown = String::new();
    for (index, line) in what.lines().enumerate() {
        let name = if index == 0 { name } else { "" };
        let line = colour.map_or_else(|| line.to_owned(), |colour| screen.paint(line, colour));
        shown += &format!("{INDENT}{name:<9} {line}\n");
    }
    shown
}

/// The last line.
pub(super) fn of_all(tally: &Tally, took: Duration, screen: Screen) -> String {
    let Tally { passed, failed } = tally;
    let words = format!("{passed} passed, {failed} failed");
    let colour = if *failed == 0 { Colour::Green } else { Colour::Red };
    format!("\n{} ({})\n", screen.paint(&words, colour), duration(took))
}

/// A script for a program: one line.
pub(super) fn json_of_script(path: &Path, took: Duration, failed: Option<&Failed>) -> String {
    let mut object = json!({
        "script": path.display().to_string(), "passed": failed.is_none(), "durationMs": millis(took),
    });
    if let Some(Failed { step, line, problems, .. }) = failed {
        let problem = |it: &Problem| -> Value {
            let exceptions = it.thrown.as_ref().map(|(thrown, _)| &thrown.exceptions);
            json!({"expected": it.expected, "came": it.came, "exceptions": exceptions})
        };
        object["step"] = (*step).into();
        object["line"] = (*line).into();
        object["problems"] = problems.iter().map(problem).collect();
    }
    format!("{}\n", text::json(&object.to_string()))
}

/// The last line for a program.
pub(super) fn json_of_all(tally: &Tally, took: Duration) -> String {
    let Tally { passed, failed } = tally;
    format!("{}\n", json!({"passed": passed, "failed": failed, "durationMs": millis(took)}))
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::author::fact::Thrown;

    const PLAIN: Screen = Screen { is_terminal: false, colours: false };

    fn failed() -> Failed {
        let thrown: Thrown = serde_json::from_str(
            r#"{"agentId":"a","role":"r","message":"no","exceptions":[
            {"kind":"TypeError","message":"no","frames":[{"function":"message","file":"agent.js","line":2,"column":3}]}]}"#,
        )
        .unwrap();
        let first = Problem {
            expected: "the reply \"x\"".into(),
            came: "a crash: exception: no \u{1b}[2J".into(),
            write: Some("crash = \"TypeError\"".into()),
            thrown: Some((Box::new(thrown), "crashed".into())),
        };
        let second = Problem {
            expected: "the event a".into(),
            came: "b {}\nc {}".into(),
            write: None,
            thrown: None,
        };
        let doing = Doing::Send("boom\nand more".into());
        Failed { step: 2, line: 9, doing, problems: vec![first, second] }
    }

    #[test]
    fn a_script_is_a_line_and_a_failure_says_why() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("agent.js"), "one\ntwo\n").unwrap();
        let (path, took) = (Path::new("tests/a.toml"), Duration::from_millis(14));
        let page = of_script(path, took, None, None, PLAIN)
            + &of_script(path, took, Some(&failed()), Some(dir.path()), PLAIN)
            + &of_all(&Tally { passed: 1, failed: 1 }, took, PLAIN);
        let page = page.replace(&dir.path().display().to_string(), "DIR");
        expect![[r#"
            ok     tests/a.toml (14 ms)
            FAILED tests/a.toml (14 ms)
              step 2, line 9: send "boom"
                expected  the reply "x"
                came      a crash: exception: no \u{1b}[2J
                a crashed: TypeError: no
                  at DIR/agent.js:2:3 in message
                    1 | one
                  > 2 | two
                      |   ^
                if it is meant to be so, write crash = "TypeError"
                expected  the event a
                came      b {}
                          c {}

            1 passed, 1 failed (14 ms)
        "#]]
        .assert_eq(&page);
    }

    #[test]
    fn a_program_reads_a_line_for_each_script() {
        let (path, took) = (Path::new("tests/a.toml"), Duration::from_millis(14));
        let line = json_of_script(path, took, Some(&failed()));
        let value: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(
            (&value["step"], &value["line"], &value["passed"]),
            (&json!(2), &json!(9), &json!(false))
        );
        assert_eq!(value["problems"][0]["exceptions"][0]["kind"], "TypeError");
        assert_eq!(line.lines().count(), 1);
        let all = json_of_all(&Tally { passed: 1, failed: 0 }, took);
        assert_eq!(all, "{\"durationMs\":14,\"failed\":0,\"passed\":1}\n");
    }
}
