//! How an exception looks: what it is, where, and the code around.

use std::path::Path;

use bulkhead_printable as text;
use bulkhead_terminal::Colour;
use bulkhead_types::{Exception, SourceFrame};

use super::excerpt;
use super::fact::{Thrown, frame_of};
use crate::screen::Screen;

/// Frames of one exception.
const FRAMES: usize = 8;

/// What was thrown: its causes as well. `what` happened to the agent, `base` is what its files are relative to. Each line has
/// its end, and is safe to print.
pub(crate) fn page(thrown: &Thrown, what: &str, base: Option<&Path>, screen: Screen) -> String {
    let head = format!("{} {what}", thrown.agent_id);
    let mut page = String::new();
    match &*thrown.exceptions {
        [] => {
            let code = thrown.code.iter().map(|code| format!("{code}: ")).collect::<String>();
            page += &headline(&format!("{head}: {code}{}", thrown.message), screen);
            if let Some(location) = &thrown.location {
                page += &frames(&[frame_of(location)], base);
            }
        }
        [first, causes @ ..] => {
            page += &headline(&format!("{head}: {}", first.summary()), screen);
            page += &frames(&first.frames, base);
            for cause in causes {
                page += &caused_by(cause, base, screen);
            }
        }
    }
    page
}

/// What happened to an agent that ended, for [`page`].
pub(crate) fn what(thrown: &Thrown) -> String {
    match thrown.phase.as_deref() {
        Some("handle") | None => "crashed".to_owned(),
        Some(phase) => format!("crashed in {phase}"),
    }
}

/// What happened to one that did not.
pub(crate) const REJECTED: &str = "has a rejection that nobody handles";

fn caused_by(cause: &Exception, base: Option<&Path>, screen: Screen) -> String {
    headline(&format!("caused by {}", cause.summary()), screen) + &frames(&cause.frames, base)
}

fn headline(words: &str, screen: Screen) -> String {
    let words = text::lines(words);
    words.lines().map(|line| screen.paint(line, Colour::Red) + "\n").collect()
}

/// The first with its code, the others with their places.
fn frames(frames: &[SourceFrame], base: Option<&Path>) -> String {
    let mut shown = String::new();
    for (index, frame) in frames.iter().take(FRAMES).enumerate() {
        let file = base.and_then(|base| excerpt::file_of(frame, base));
        let function =
            frame.function.as_ref().map_or_else(String::new, |name| format!(" in {name}"));
        let lead = if index == 0 { "at" } else { "called from" };
        let line = format!("  {lead} {}{function}", place(frame, file.as_deref()));
        shown += &text::line(&line);
        shown.push('\n');
        if let (0, Some(file)) = (index, file) {
            shown += &excerpt::of_file(&file, frame.line, frame.column);
        }
    }
    let folded = frames.len().saturating_sub(FRAMES);
    if folded > 0 {
        shown += &format!("  … {}\n", bulkhead_terminal::words::counted(folded, "more frame"));
    }
    shown
}

/// As editors and terminals take it: from the directory that the command runs in, where the file is there.
fn place(frame: &SourceFrame, file: Option<&Path>) -> String {
    let file = file.filter(|file| file.is_file());
    let shown = file.map(|file| file.strip_prefix("./").unwrap_or(file).display().to_string());
    let file = shown.unwrap_or_else(|| frame.file.clone());
    SourceFrame { file, function: None, ..*frame }.place()
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    const PLAIN: Screen = Screen { is_terminal: false, colours: false };

    fn thrown(json: &str) -> Thrown {
        let all = json.replacen('{', r#"{"agentId":"toast","role":"toast","message":"m","#, 1);
        serde_json::from_str(&all).unwrap()
    }

    #[test]
    fn an_exception_is_shown_with_its_code_its_callers_and_its_causes() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("agent.js"), "let x;\nx.y.z;\n").unwrap();
        let thrown = thrown(
            r#"{"exceptions":[
            {"kind":"TypeError","message":"x is\nundefined","frames":[
              {"function":"inner","file":"agent.js","line":2,"column":3},
              {"file":"agent.js","line":9},
              {"function":"f\u001b[2J","file":"../up.js","line":1}]},
            {"kind":"KeyError","message":"","frames":[]}]}"#,
        );
        let page = page(&thrown, "threw an exception", Some(dir.path()), PLAIN);
        let page = page.replace(&dir.path().display().to_string(), "DIR");
        expect![[r#"
            toast threw an exception: TypeError: x is
            undefined
              at DIR/agent.js:2:3 in inner
                1 | let x;
              > 2 | x.y.z;
                  |   ^
              called from DIR/agent.js:9
              called from ../up.js:1 in f\u{1b}[2J
            caused by KeyError
        "#]]
        .assert_eq(&page);
    }

    #[test]
    fn an_error_that_the_agent_chose_has_its_code() {
        let page = page(&thrown(r#"{"code":"bad-config"}"#), "crashed", None, PLAIN);
        assert_eq!(page, "toast crashed: bad-config: m\n");
    }

    #[test]
    fn a_record_that_was_shortened_has_its_message_and_place() {
        let thrown = thrown(
            r#"{"exceptions":"[{\"kind\":…","location":{"file":"src/lib.rs","line":4,"column":1}}"#,
        );
        let page = page(&thrown, "crashed", None, PLAIN);
        assert_eq!(page, "toast crashed: m\n  at src/lib.rs:4:1\n");
    }
}
