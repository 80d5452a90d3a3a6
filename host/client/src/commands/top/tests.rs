//! The screen of `top`, and its keys.

use bulkhead_api::{DeltaFrame, DeltaView, EventFrame, StreamFrame};
use bulkhead_types::{AgentId, Timestamp};
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use expect_test::{Expect, expect_file};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use ratatui::style::{Color, Modifier};

use super::app::{App, Order, Over, Poll};
use super::theme::Theme;
use super::view;
use super::*;

const MIB: u64 = 1024 * 1024;

/// An agent as the host shows it, with so much of 64 MiB in use.
fn agent(id: &str, status: &str, mib: u64, more: &str) -> AgentView {
    let used = mib * MIB;
    let json = format!(
        r#"{{"agentId":"{id}","name":"{id}","role":"polecat","component":"c","townId":null,"rigId":"rig",
        "model":null,"status":"{status}","busy":false,"incarnation":3,"startedAt":"2026-01-15T09:00:00.000Z",
        "lastActivityAt":"2026-01-15T09:00:00.000Z","activeTools":[],"messageCount":0,"mailboxDepth":2,
        "nudges":0,"cpuUs":0,"memory":{{"usedBytes":{used},"guestBytes":0,"hostBytes":0,"host":{{"mailbox":0,
        "events":0,"log":0,"http":0,"snapshot":0,"resources":0}},"peakBytes":{used},
        "softBytes":0,"limitBytes":67108864,"deniedGrowths":0,"refused":0}},"restart":{{"policy":"permanent",
        "attemptsInWindow":1,"maxRestarts":5,"windowMs":300000}},
        "exitReason":null{more}}}"#
    );
    serde_json::from_str(&json).unwrap()
}

const EXIT: &str = r#","exit":{"reason":"panic","message":"boom\u001b[2J\nmore","at":"2026-01-15T09:00:57.000Z","crashId":"c1"}"#;

/// The agents of a second: one works harder with each.
fn agents(second: u64) -> AgentList {
    let mut worker = agent("worker", "running", 10 + second, "");
    worker.busy = true;
    worker.cpu_us = second * second * 40_000;
    worker.usage.total.calls = second;
    worker.usage.total.tokens.input = second * second * 1000;
    vec![
        agent("done", "exited", 0, ""),
        worker,
        agent("idle", "running", 1, ""),
        agent("big", "running", 60, ""),
        agent("looper", "backoff", 0, EXIT),
        agent("zombie", "quarantined", 0, EXIT),
    ]
}

fn poll_of(agents: AgentList, second: u64) -> Poll {
    let sample =
        |at: u64| format!(r#"{{"ts":"2026-01-15T09:00:{at:02}.000Z","bytes":{}}}"#, at * 20 * MIB);
    let fine: Vec<_> = (0..20).map(sample).collect();
    let series = format!(r#"{{"fine":[{}],"coarse":[]}}"#, fine.join(","));
    let memory = format!(
        r#"{{"at":"2026-01-15T09:01:00.000Z","limitBytes":536870912,"usedBytes":134217728,"availableBytes":402653184,
        "rssBytes":1,"heap":null,"psi":null,"high":false,"oomKills":null,"groupOomKills":null,"limitHits":null,
        "agents":5,"activeAgents":3,"agentsBytes":75497472,"sources":{{}},"sampleMs":1000,"trend":null,"largest":[],
        "used":{series},"rss":{series},"guests":{series}}}"#
    );
    let usage = r#"{"at":"2026-01-15T09:31:12.000Z","priced":true,
        "total":{"calls":33,"failed":1,"tokens":{"input":1200000,"cached":0,"output":9000,"reasoning":0},"costNano":1480000000},
        "entries":[],"today":[],"budgets":[{"role":null,"budget":"cost_per_day","used":1480000000,"bound":2000000000}],
        "merged":0}"#;
    Poll {
        agents,
        memory: serde_json::from_str(&memory).unwrap(),
        usage: serde_json::from_str(usage).unwrap(),
        now: Timestamp(1_768_467_660_000),
        at: Duration::from_secs(second),
    }
}

/// One that has watched for twelve seconds.
fn watching() -> App {
    let mut app = App::new("http://127.0.0.1:8080");
    for second in 0..12 {
        app.polled(Ok(poll_of(agents(second), second)));
    }
    app
}

fn press(app: &mut App, code: KeyCode) -> Option<Order> {
    app.key(KeyEvent::new(code, KeyModifiers::NONE))
}

fn write(app: &mut App, words: &str) {
    for character in words.chars() {
        assert_eq!(press(app, KeyCode::Char(character)), None);
    }
}

fn id(text: &str) -> AgentId {
    AgentId::parse(text).unwrap()
}

fn event(id_of: u64, name: &str, data: &str) -> StreamFrame {
    StreamFrame::Event(EventFrame {
        id: id_of,
        agent_id: Some(id("worker")),
        event: name.into(),
        data: serde_json::value::RawValue::from_string(data.to_owned()).unwrap().into(),
        timestamp: Timestamp(1_768_467_660_000),
    })
}

fn deltas(deltas: Vec<DeltaView>) -> StreamFrame {
    StreamFrame::Delta(DeltaFrame { agent_id: id("worker"), message_id: None, deltas })
}

/// One that reads what the worker does.
fn reading() -> App {
    let mut app = watching();
    app.selected = Some(id("worker"));
    assert_eq!(press(&mut app, KeyCode::Enter), Some(Order::Follow(id("worker"))));
    app.frame(&event(7, "agent.turn", r#"{"messageId":"m\u001b[2J1"}"#));
    app.frame(&deltas(vec![
        DeltaView::Reasoning { text: "a person greets me".into() },
        DeltaView::Text { text: "I look at the file ".into() },
        DeltaView::Text { text: "first.\x1b".into() },
        DeltaView::Text { text: "[31m".into() },
        DeltaView::ToolBegin {
            id: "1".into(),
            name: "read_file".into(),
            arguments: "{\"path\":\"a\"}".into(),
        },
        DeltaView::ToolEnd { id: "1".into() },
        DeltaView::Text {
            text: "It is a very long line that does not fit into eighty columns, ".repeat(2),
        },
    ]));
    app
}

fn drawn(app: &App, width: u16, height: u16, colours: bool) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| view::draw(app, Theme { colours }, frame)).unwrap();
    terminal.backend().buffer().clone()
}

fn text_of(buffer: &Buffer) -> String {
    let width = usize::from(buffer.area.width);
    let rows = buffer.content().chunks(width);
    let row = |cells: &[ratatui::buffer::Cell]| {
        let row: String = cells.iter().map(|cell| cell.symbol()).collect();
        format!("{}\n", row.trim_end())
    };
    rows.map(row).collect()
}

#[test]
fn screens_are_as_they_were() {
    let mut asking = watching();
    press(&mut asking, KeyCode::Char('s'));
    let mut writing = reading();
    press(&mut writing, KeyCode::Char('m'));
    write(&mut writing, "please go on");
    let mut away = watching();
    away.polled(Err("http://127.0.0.1:8080: cannot connect".into()));
    let mut help = watching();
    press(&mut help, KeyCode::Char('?'));
    let mut screens = String::new();
    for (name, app) in [
        ("all agents", watching()),
        ("one agent", reading()),
        ("a question", asking),
        ("a message", writing),
        ("no answer", away),
        ("help", help),
    ] {
        screens += &format!("## {name}, 80x24\n{}\n", text_of(&drawn(&app, 80, 24, false)));
    }
    for (name, app) in [("all agents", watching()), ("one agent", reading())] {
        screens += &format!("## {name}, 200x60\n{}\n", text_of(&drawn(&app, 200, 60, false)));
    }
    expect_file!["screens.txt"].assert_eq(&screens);
}

#[test]
fn nothing_of_others_reaches_the_screen_as_a_control_character() {
    for app in [watching(), reading()] {
        for (width, height) in [(80, 24), (200, 60), (20, 6), (5, 2)] {
            let text = text_of(&drawn(&app, width, height, true));
            assert!(!text.chars().any(|one| one.is_control() && one != '\n'), "{text}");
        }
    }
}

#[test]
fn without_colours_there_are_none_and_an_alarm_is_still_seen() {
    let mut app = watching();
    app.polled(Err("no route".into()));
    for app in [&app, &reading()] {
        let plain = drawn(app, 80, 24, false);
        let has_colour =
            |cell: &ratatui::buffer::Cell| cell.fg != Color::Reset || cell.bg != Color::Reset;
        assert!(!plain.content().iter().any(has_colour));
        assert!(drawn(app, 80, 24, true).content().iter().any(has_colour));
    }
    let plain = drawn(&app, 80, 24, false);
    let alarm = plain.content().iter().take(80).find(|cell| cell.symbol() == "N").unwrap();
    assert!(alarm.modifier.contains(Modifier::BOLD));
}

#[test]
fn what_needs_a_person_comes_first() {
    let app = watching();
    let order: Vec<_> =
        app.poll.as_ref().unwrap().agents.iter().map(|agent| agent.agent_id.as_str()).collect();
    assert_eq!(order, ["zombie", "looper", "big", "worker", "idle", "done"]);
}

#[test]
fn the_selection_stays_with_its_agent() {
    let mut app = watching();
    assert_eq!(app.selected, Some(id("zombie")));
    press(&mut app, KeyCode::Down);
    press(&mut app, KeyCode::Down);
    press(&mut app, KeyCode::Down);
    assert_eq!(app.selected, Some(id("worker")));
    app.polled(Ok(poll_of(
        vec![agent("a", "failed", 0, ""), agent("worker", "exited", 0, "")],
        12,
    )));
    assert_eq!(app.selected, Some(id("worker")));
    app.polled(Ok(poll_of(vec![agent("a", "failed", 0, "")], 13)));
    assert_eq!(app.selected, Some(id("a")));
    for code in [KeyCode::End, KeyCode::PageDown, KeyCode::Home, KeyCode::PageUp] {
        press(&mut app, code);
        assert_eq!(app.selected, Some(id("a")));
    }
    app.polled(Ok(poll_of(Vec::new(), 14)));
    for code in
        [KeyCode::Down, KeyCode::Enter, KeyCode::Char('m'), KeyCode::Char('s'), KeyCode::Char('c')]
    {
        assert_eq!(press(&mut app, code), None, "{code:?}");
        assert_eq!((&app.over, &app.selected), (&Over::Nothing, &None));
    }
}

#[test]
fn a_message_is_written_and_sent() {
    let mut app = watching();
    press(&mut app, KeyCode::Char('m'));
    write(&mut app, "hello q?");
    press(&mut app, KeyCode::Backspace);
    app.paste("\r\nsecond line");
    let sent = Order::Send { agent: id("zombie"), text: "hello q\nsecond line".into() };
    assert_eq!(press(&mut app, KeyCode::Enter), Some(sent));
    assert_eq!(app.over, Over::Nothing);
    press(&mut app, KeyCode::Char('m'));
    write(&mut app, "never mind");
    assert_eq!(press(&mut app, KeyCode::Esc), None);
    press(&mut app, KeyCode::Char('m'));
    assert_eq!(press(&mut app, KeyCode::Enter), None, "nothing was written");
}

#[test]
fn a_long_message_is_sent_whole_or_refused_in_its_box() {
    let mut app = watching();
    press(&mut app, KeyCode::Char('m'));
    let long = "x".repeat(300 * 1024);
    app.paste(&long);
    app.paste(&"y".repeat(1 << 20));
    let text = text_of(&drawn(&app, 80, 24, false));
    assert!(text.contains("not taken: 1 MiB; a message has at most 1 MiB"), "{text}");
    press(&mut app, KeyCode::Home);
    write(&mut app, "begin");
    let text = text_of(&drawn(&app, 80, 24, false));
    assert!(text.contains("begin▏xxx") && !text.contains("not taken"), "{text}");
    let sent = Order::Send { agent: id("zombie"), text: format!("begin{long}") };
    assert_eq!(press(&mut app, KeyCode::Enter), Some(sent));
}

#[test]
fn the_help_is_read_on_a_small_screen() {
    let mut app = watching();
    (app.columns, app.rows) = (40, 10);
    press(&mut app, KeyCode::Char('?'));
    let seen = |app: &App| text_of(&drawn(app, 40, 10, false));
    assert!(seen(&app).contains("scroll") && !seen(&app).contains("in a second."));
    press(&mut app, KeyCode::End);
    assert!(seen(&app).contains("in a second."), "{}", seen(&app));
    press(&mut app, KeyCode::Up);
    assert!(!seen(&app).contains("in a second."), "one row up: {}", seen(&app));
    press(&mut app, KeyCode::Esc);
    assert_eq!(app.over, Over::Nothing);
}

#[test]
fn starts_and_stops_are_asked_for_first() {
    let mut app = watching();
    app.selected = Some(id("worker"));
    press(&mut app, KeyCode::Char('s'));
    assert_eq!(press(&mut app, KeyCode::Char('n')), None);
    press(&mut app, KeyCode::Char('s'));
    assert_eq!(press(&mut app, KeyCode::Enter), None, "any other key is no");
    press(&mut app, KeyCode::Char('s'));
    assert_eq!(press(&mut app, KeyCode::Char('y')), Some(Order::Stop(id("worker"))));
    app.selected = Some(id("zombie"));
    press(&mut app, KeyCode::Char('s'));
    let Some(Order::Start(start)) = press(&mut app, KeyCode::Char('y')) else { panic!("no start") };
    assert_eq!((start.agent.as_str(), &*start.role, start.force), ("zombie", "polecat", true));
    let request: serde_json::Value = serde_json::from_slice(&request(start)).unwrap();
    let expected = serde_json::json!({"agentId": "zombie", "name": "zombie", "role": "polecat", "force": true,
        "ifRunning": "keep", "rigId": "rig"});
    assert_eq!(request, expected);
}

#[test]
fn a_crash_is_fetched_and_read() {
    let mut app = watching();
    assert_eq!(press(&mut app, KeyCode::Char('c')), Some(Order::Crash("c1".into())));
    app.crash(&"line\x1b\n".repeat(100));
    press(&mut app, KeyCode::PageDown);
    let Over::Crash { lines, first } = &app.over else { panic!("no crash") };
    assert_eq!((lines.len(), *first, &*lines[0]), (100, 10, "line\\u{1b}"));
    assert!(text_of(&drawn(&app, 80, 24, false)).contains("line\\u{1b}"));
    press(&mut app, KeyCode::Esc);
    assert_eq!(app.over, Over::Nothing);
    app.selected = Some(id("idle"));
    assert_eq!(press(&mut app, KeyCode::Char('c')), None);
    assert!(app.notice.as_ref().unwrap().is_bad);
    for second in 12..30 {
        app.polled(Ok(poll_of(agents(second), second)));
    }
    assert!(app.notice.is_none(), "it goes by itself");
}

#[test]
fn a_crash_that_comes_late_takes_nothing_away() {
    let mut app = watching();
    press(&mut app, KeyCode::Char('c'));
    press(&mut app, KeyCode::Char('m'));
    write(&mut app, "half a wo");
    app.crash("boom");
    write(&mut app, "rd");
    assert!(matches!(&app.over, Over::Message { draft, .. } if draft.parts().0 == "half a word"));
    assert!(app.notice.as_ref().unwrap().text.contains("press c again"));
}

#[test]
fn all_of_a_long_line_of_a_crash_can_be_read() {
    let mut app = watching();
    app.crash(&format!("{}the end", "x".repeat(4000)));
    assert!(!text_of(&drawn(&app, 80, 24, false)).contains("the end"));
    for _ in 0..4 {
        press(&mut app, KeyCode::PageDown);
    }
    assert!(text_of(&drawn(&app, 80, 24, false)).contains("the end"));
    press(&mut app, KeyCode::End);
    assert!(text_of(&drawn(&app, 80, 24, false)).contains("the end"));
}

#[test]
fn a_narrow_screen_still_says_which_agent_it_is() {
    for width in 20..160 {
        let text = text_of(&drawn(&watching(), width, 24, false));
        assert!(text.contains("AGENT") && text.contains("zombie"), "{width}: {text}");
        assert!(text.contains("quarantined"), "{width}: {text}");
    }
}

#[test]
fn what_is_read_stays_where_it_is_while_the_log_is_full() {
    let mut app = reading();
    let place =
        |app: &App| text_of(&drawn(app, 80, 24, false)).lines().rev().nth(1).unwrap().to_owned();
    for at in 0..3000 {
        app.frame(&event(at, "tick", &at.to_string()));
    }
    press(&mut app, KeyCode::Up);
    assert!(place(&app).ends_with("tick 2998"), "{}", place(&app));
    app.frame(&event(3000, "tick", "3000"));
    app.remark("the host went away");
    assert!(place(&app).ends_with("tick 2998"), "{}", place(&app));
}

#[test]
fn what_is_read_stays_where_it_is_while_more_comes() {
    let mut app = reading();
    for at in 0..50 {
        app.frame(&event(at, "tick", &at.to_string()));
    }
    let last =
        |app: &App| text_of(&drawn(app, 80, 24, false)).lines().rev().nth(1).unwrap().to_owned();
    assert!(last(&app).ends_with("tick 49"), "{}", last(&app));
    press(&mut app, KeyCode::Up);
    assert!(last(&app).ends_with("tick 48"));
    app.frame(&event(50, "tick", "50"));
    assert!(last(&app).ends_with("tick 48"));
    press(&mut app, KeyCode::End);
    assert!(last(&app).ends_with("tick 50"));
    assert_eq!(press(&mut app, KeyCode::Esc), Some(Order::Unfollow));
    assert_eq!(press(&mut app, KeyCode::Esc), None, "it is no end");
    assert_eq!(press(&mut app, KeyCode::Char('q')), Some(Order::Quit));
}

#[test]
fn a_poll_that_fails_keeps_what_was_known() {
    let mut app = watching();
    app.polled(Err("cannot connect\nmore".into()));
    let text = text_of(&drawn(&app, 80, 24, false));
    assert!(text.contains("NO ANSWER, trying again: cannot connect"), "{text}");
    assert!(text.contains("worker"), "{text}");
    app.polled(Ok(poll_of(agents(13), 13)));
    assert!(!text_of(&drawn(&app, 80, 24, false)).contains("NO ANSWER"));
}

#[test]
fn without_a_terminal_it_is_a_table() {
    let table = snapshot(poll_of(agents(3), 0), None, false);
    let expected: Expect = expect_test::expect![[r#"
        AGENT   ROLE     STATUS         MEMORY  OF LIMIT  CPU TIME  TOKENS  RESTARTS  MAIL  LAST EXIT
        zombie  polecat  quarantined         -         -       0 s       -       1/5     2  panic 3s ago: boom\u{1b}[2J
        looper  polecat  backoff             -         -       0 s       -       1/5     2  panic 3s ago: boom\u{1b}[2J
        big     polecat  running           60M      94 %       0 s       -       1/5     2  -
        worker  polecat  running, busy     13M      20 %    360 ms      9k       1/5     2  -
        idle    polecat  running            1M       2 %       0 s       -       1/5     2  -
        done    polecat  exited              -         -       0 s       -       1/5     2  -
    "#]];
    expected.assert_eq(&table);
}
