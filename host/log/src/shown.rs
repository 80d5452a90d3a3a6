//! What a person is shown of every example, and that programs read the same bytes as ever.

use std::fmt::Write as _;
use std::time::Duration;

use bulkhead_terminal::Look;
use bulkhead_types::Event;
use expect_test::expect_file;

use crate::examples::{self, AT, RUN, TOWN};
use crate::{RunContext, line};

/// The screen with so many details; a crash is a block, as the log shows it when its files and lines are known.
fn screen(look: &Look) -> String {
    let mut screen = String::new();
    for event in examples::all() {
        match &event {
            Event::AgentCrash(record) => screen.push_str(&look.crash(record)),
            event => screen.push_str(&look.line(event, AT, 16 * 1024).unwrap_or_default()),
        }
    }
    screen
}

#[test]
fn every_event_is_a_sentence() {
    let mut text = "Without -v:\n\n".to_owned();
    text.push_str(&screen(&Look::in_utc(false, false)));
    let _ = write!(text, "\nWith -v:\n\n{}", screen(&Look::in_utc(false, true)));
    expect_file!["examples/shown.txt"].assert_eq(&text);
}

#[test]
fn no_event_has_only_its_name() {
    for event in examples::all().iter().filter(|event| !matches!(event, Event::LinePart { .. })) {
        let line = Look::in_utc(false, true).line(event, AT, 16 * 1024).unwrap();
        assert_eq!(line.matches(event.name()).count(), 1, "write a sentence for {line}");
    }
}

#[test]
fn colours_change_no_character() {
    let mut plain = screen(&Look::in_utc(true, true));
    while let Some(start) = plain.find("\x1b[") {
        let end = start + plain[start..].find('m').unwrap();
        plain.replace_range(start..=end, "");
    }
    assert_eq!(plain, screen(&Look::in_utc(false, true)));
}

#[test]
fn json_is_the_same_to_the_byte() {
    let context = RunContext::new(RUN.into(), Some(TOWN.into()));
    let mut lines = String::new();
    for event in examples::all() {
        let drafts =
            line::lines_at(&event, AT, Duration::from_millis(412_345), &context, 16 * 1024);
        drafts.iter().for_each(|draft| draft.write(7, &mut lines));
    }
    expect_file!["examples/lines.jsonl"].assert_eq(&lines);
}
