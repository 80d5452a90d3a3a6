//! Input that is no log, or hardly one: a clear answer, no panic, and no more memory than allowed.

mod support;

use std::io::{self, Cursor, Read, Write};

use bulkhead_diagnose::{Input, Options, Progress, Report, diagnose};
use proptest::prelude::*;
use support::original;

fn read(name: &str, reader: impl Read + Send + 'static) -> Result<Report, String> {
    let inputs = vec![Input::new(name, reader)];
    diagnose(inputs, &Options::default(), |_| {}).map_err(|error| error.to_string())
}

fn log() -> Vec<u8> {
    original::town(3).bytes()
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text).expect("write to memory");
    encoder.finish().expect("write to memory")
}

#[test]
fn an_empty_log_and_one_without_a_line_of_a_log_are_refused() {
    assert!(read("a", io::empty()).unwrap_err().contains("no line"));
    let noise: Vec<u8> =
        (0..200_000u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    assert!(read("a", Cursor::new(noise)).unwrap_err().contains("is one of a log"));
    assert!(read("a", Cursor::new("dear diary\nnothing happened\n")).is_err());
}

#[test]
fn gzip_and_pieces_say_the_same_as_one_plain_file() {
    let text = log();
    let whole = read("a", Cursor::new(text.clone())).expect("a report").restarts;
    let zipped = read("a", Cursor::new(gzip(&text))).expect("a report").restarts;
    let verdicts = |restarts: &[bulkhead_diagnose::Restart]| {
        restarts.iter().map(|one| (one.at.clone(), one.verdict)).collect::<Vec<_>>()
    };
    assert!(whole.len() >= 16);
    assert_eq!(verdicts(&whole), verdicts(&zipped));
    // In two files, the second one first.
    let middle =
        text.len() / 2 + text[text.len() / 2..].iter().position(|b| *b == b'\n').unwrap() + 1;
    let inputs = vec![
        Input::new("b", Cursor::new(text[middle..].to_vec())),
        Input::new("a", Cursor::new(text[..middle].to_vec())),
    ];
    let report = diagnose(inputs, &Options::default(), |_| {}).expect("a report");
    assert_eq!(verdicts(&whole), verdicts(&report.restarts));
}

#[test]
fn a_gzip_that_breaks_off_gives_what_came_before_and_says_so() {
    let mut bytes = gzip(&log());
    bytes.truncate(bytes.len() * 2 / 3);
    let (mut failed, inputs) = (0, vec![Input::new("a.gz", Cursor::new(bytes))]);
    let count =
        |progress: Progress<'_>| failed += i32::from(matches!(progress, Progress::Failed { .. }));
    let report = diagnose(inputs, &Options::default(), count).expect("a report");
    assert_eq!(failed, 1);
    assert!(report.restarts.len() >= 4, "{}", report.restarts.len());
    assert!(
        report.summary.notes.iter().any(|note| note.contains("a.gz could not be read to its end"))
    );
}

#[test]
fn a_reader_that_fails_is_reported_by_its_name() {
    struct Fails;
    impl Read for Fails {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("the disk is gone"))
        }
    }
    let error = read("precious.log", Fails).unwrap_err();
    assert!(error.contains("precious.log") && error.contains("the disk is gone"), "{error}");
}

#[test]
fn the_next_town_is_not_mixed_in() {
    let (one, two) = (original::town(4), original::town(5));
    let mut bytes = one.bytes();
    let all = one.lines.len() + two.lines.len();
    bytes.extend(two.bytes());
    let name = two.town[..two.town.len() - 2].to_owned();
    let only = Options { town: Some(name.clone()), ..Options::default() };
    let report =
        diagnose(vec![Input::new("a", Cursor::new(bytes))], &only, |_| {}).expect("a report");
    assert_eq!(report.summary.input.lines, all as u64);
    assert!(report.restarts.iter().all(|restart| restart.town.as_deref() == Some(&*name)));
    assert_eq!(report.restarts.len(), two.truths.len());
}

#[test]
fn since_and_until_choose_restarts() {
    let log = original::town(4);
    let all = log.report().restarts;
    let at =
        |n: usize| bulkhead_diagnose::parse_time(all[n].at.as_ref().unwrap().as_bytes()).unwrap().0;
    let options = Options { since: Some(at(3)), until: Some(at(5)), ..Options::default() };
    let report = diagnose(vec![Input::new("a", Cursor::new(log.bytes()))], &options, |_| {});
    let some = report.expect("a report").restarts;
    assert_eq!(
        some.iter().map(|one| &one.at).collect::<Vec<_>>(),
        [&all[3].at, &all[4].at, &all[5].at]
    );
    assert_eq!(some[0].verdict, all[3].verdict, "evidence is taken from all lines");
}

#[test]
fn the_json_keeps_to_its_schema_and_the_page_loads_nothing() {
    let report = original::town(4).report();
    let mut compiler = boon::Compiler::new();
    let schema = serde_json::from_str(&bulkhead_diagnose::schema()).expect("the schema is JSON");
    compiler.add_resource("report", schema).expect("add the schema");
    let mut schemas = boon::Schemas::new();
    let index = compiler.compile("report", &mut schemas).expect("compile the schema");
    let json = serde_json::from_str(&report.json()).expect("the report is JSON");
    schemas.validate(&json, index).expect("the report keeps to the schema");
    let page = report.html().expect("a page");
    for load in ["http:", "https:", "src=", "@import", "<script", "<link"] {
        let found = page.replace("http://www.w3.org/2000/svg", "");
        assert!(!found.contains(load), "{load}");
    }
    assert!(page.contains("<svg") && page.contains("<polyline"));
    let text = report.text(100);
    assert!(text.contains("restarts ") && text.contains('█'), "{text}");
}

#[test]
fn what_a_guest_says_reaches_neither_terminal_nor_page_as_code() {
    let line = |text: &str| {
        format!(
            "{{\"level\":\"error\",\"msg\":\"container.uncaught_exception\",\"message\":{text:?},\"townId\":\"t<i>\",\"uptimeMs\":90000,\"ts\":\"2026-01-15T09:30:00.000Z\"}}\n\
             {{\"level\":\"info\",\"msg\":\"container.cold_start\",\"uptime\":9,\"townId\":\"t<i>\",\"ts\":\"2026-01-15T09:30:09.000Z\"}}\n"
        )
    };
    let report = read("a", Cursor::new(line("<script>alert(1)</script>\u{7}"))).expect("a report");
    assert_eq!(report.restarts[0].verdict.id(), "H1");
    assert!(!report.html().expect("a page").contains("<script"));
    assert!(!report.text(80).contains('\u{7}'));
}

/// Clears a screen, names its window, turns a line around, cannot be seen, breaks lines.
const HIDDEN: &str = "\u{1b}[2J\u{1b}]0;pwned\u{7}\u{9b}1m\u{202e}\u{2066}\u{200b}\u{feff}\u{2028}\u{2029}\u{85}\u{7f}\r\n";

#[test]
fn no_field_of_a_log_reaches_a_reader_with_what_cannot_be_seen() {
    let line = |run: u32, second: u32, event: &str, fields: &str| {
        let names = format!(
            r#""townId":"T{HIDDEN}","runId":"R{run}{HIDDEN}","schema":1,"level":"error","ts":"2026-01-15T09:3{run}:0{second}.000Z""#
        );
        let line = format!(r#"{{"event":"{event}",{names},"seq":{second},{fields}}}"#);
        let escaped = |found: char| match found.is_control() {
            true => format!("\\u{:04x}", u32::from(found)),
            false => found.to_string(),
        };
        line.chars().map(escaped).collect::<String>() + "\n"
    };
    let what = format!(
        r#""agentId":"A{HIDDEN}","uptimeMs":90000,"incarnation":1,"exitReason":"trap","message":"M{HIDDEN}","task":"K{HIDDEN}""#
    );
    let mut log = String::new();
    for run in 0..2 {
        log += &line(run, 0, "container.cold_start", r#""uptimeMs":1"#);
        for second in 1..9 {
            let event = if second < 5 { "agent.crash" } else { "container.uncaught_exception" };
            log += &line(run, second, event, &what);
        }
    }
    let report = read(&format!("F{HIDDEN}.log"), Cursor::new(log)).expect("a report");
    assert_eq!(report.restarts.len(), 1);
    let (text, page, json) = (report.text(120), report.html().expect("a page"), report.json());
    // As `bulkhead diagnose --json` prints it.
    let json = bulkhead_printable::json(&json);
    for (of, shown) in [("text", &*text), ("page", &*page), ("json", &*json)] {
        let is_hidden = |found: &char| !found.is_ascii_graphic() && *found != '\n';
        let left = HIDDEN.chars().filter(|found| is_hidden(found) && shown.contains(*found));
        assert_eq!(left.collect::<String>().escape_unicode().to_string(), "", "{of}");
        // The names are there, with what stands for it. The page names no runs.
        for name in
            ["T", "R0", "A", "M", "F"].into_iter().filter(|name| of != "page" || *name != "R0")
        {
            let shown_as = [" [2J", "\\u{1b}[2J", "\\u001b[2J"];
            let is_there =
                shown_as.iter().any(|shown_as| shown.contains(&format!("{name}{shown_as}")));
            assert!(is_there, "{name} in the {of}: {shown}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..4000)) {
        let _ = read("a", Cursor::new(bytes));
    }

    /// A log with bytes changed, taken out and put in, anywhere.
    #[test]
    fn a_log_with_anything_in_it_is_survived(
        from in 0usize..400_000,
        changes in proptest::collection::vec((0usize..20_000, any::<u8>(), 0u8..4), 0..200),
        zip in any::<bool>(),
    ) {
        let text = log();
        let from = from % text.len();
        let mut text = text[from..(from + 20_000).min(text.len())].to_vec();
        if zip {
            text = gzip(&text);
        }
        for (at, byte, what) in changes {
            let at = at % (text.len() + 1);
            match what {
                0 if at < text.len() => text[at] = byte,
                1 if at < text.len() => { text.remove(at); }
                2 => text.insert(at, byte),
                _ => text.insert(at, b'"'),
            }
        }
        if let Ok(report) = read("a", Cursor::new(text)) {
            let _ = (report.json(), report.text(usize::from(from as u8)), report.html());
        }
    }

    /// Pieces of words that mean something, in any order.
    #[test]
    fn a_line_of_any_words_is_survived(words in proptest::collection::vec(0usize..16, 0..60)) {
        const WORDS: [&str; 16] = [
            "{\"ts\":\"2026-01-15T09:30:00.000Z\",\"level\":\"info\",\"event\":\"", "container.cold_start\"",
            ",\"previousRun\":{\"cause\":\"oom_kill\"", "}", "{", "\"", ",\"uptimeMs\":99999999999", "\n",
            ",\"seq\":18446744073709551615", ",\"runId\":\"r\"", "{\"level\":\"info\",\"msg\":\"container.memory_usage\"",
            ",\"rssMB\":1e308", ",\"ts\":\"9999-12-31T23:59:59.999Z\"", "[boot-hydration] Failed to resume agent ",
            ",\"ts\":1e300", "/agents/start: role= agentId=",
        ];
        let text: String = words.into_iter().map(|word| WORDS[word]).collect();
        if let Ok(report) = read("a", Cursor::new(text.into_bytes())) {
            let _ = (report.json(), report.text(80), report.html());
        }
    }
}

#[test]
fn a_town_that_no_line_names_is_refused_with_what_there_is() {
    let refused = |text: &[u8]| {
        let only = Options { town: Some("nope".into()), ..Options::default() };
        let input = Input::new("a", Cursor::new(text.to_vec()));
        diagnose(vec![input], &only, |_| {}).unwrap_err().to_string()
    };
    let town = original::town(4);
    assert_eq!(
        refused(&town.bytes()),
        format!("no line is of town nope; there are: {}", &town.town[..town.town.len() - 2])
    );
    let nameless =
        br#"{"ts":"2026-01-15T09:30:00.000Z","level":"info","event":"container.cold_start"}"#;
    assert_eq!(refused(nameless), "no line is of town nope; no line names its town");
}

#[test]
fn a_log_that_something_unknown_is_around_is_no_log_without_restarts() {
    let record = r#"{"ts":"2026-01-15T09:30:00.000Z","level":"info","event":"container.cold_start","schema":1,"townId":null,"runId":"r","uptimeMs":1,"seq":0}"#;
    let value: serde_json::Value = serde_json::from_str(record).expect("a record is JSON");
    for text in [
        serde_json::to_string_pretty(&value).expect("it is JSON"),
        format!("2026-01-15T09:30:00Z,\"{}\"\n", record.replace('"', "\"\"")),
        record.replace('"', "&quot;"),
        format!("{{\"streams\":[{{\"x\":{value}}}]}}\n"),
    ] {
        let error = read("a", Cursor::new(text.clone())).unwrap_err();
        assert!(
            error.contains("hold words of records") && error.contains("jq -c"),
            "{error} {text}"
        );
    }
    let zstd = read("a", Cursor::new(b"\x28\xb5\x2f\xfd....".to_vec())).unwrap_err();
    assert!(zstd.contains("zstd -dc"), "{zstd}");
    let labels = format!("2026-01-15T09:30:00Z {{app=\"b\"}} {record}\n");
    let string = format!("{}\n", serde_json::to_string(record).expect("a text is JSON"));
    let source = format!("{}\n", serde_json::json!({ "source": { "message": record } }));
    for text in [labels, string, source] {
        assert_eq!(read("a", Cursor::new(text.clone())).expect(&text).summary.runs, 1, "{text}");
    }
}

/// Lines of two containers that write to one log. `of` says what each run says of the one before it.
fn beside(of: &str) -> Report {
    let line = |run: &str, second: u32, event: &str, fields: &str| {
        format!(
            r#"{{"ts":"2026-01-15T09:30:{second:02}.000Z","level":"info","event":"{event}","schema":1,"townId":null,"runId":"{run}","uptimeMs":{},"seq":{second}{fields}}}"#,
            second * 1000
        ) + "\n"
    };
    let starts = format!(r#","previousRun":{of}"#);
    let late = r#"{"ts":"2026-01-15T09:30:05.000Z","level":"info","event":"container.cold_start","schema":1,"townId":null,"runId":"b","uptimeMs":1,"seq":0"#;
    let text = [
        line("a", 0, "container.cold_start", r#","previousRun":{"cause":"none"}"#),
        format!("{late}{starts}}}\n"),
        line("b", 6, "container.previous_run", r#","cause":"none","confidence":"low""#),
        line("a", 9, "agent.log", ""),
    ];
    read("a", Cursor::new(text.concat())).expect("a report")
}

#[test]
fn two_containers_at_once_are_no_restart() {
    let parallel = beside(r#"{"cause":"none"}"#);
    assert_eq!((parallel.restarts.len(), parallel.summary.runs), (0, 2));
    assert!(parallel.summary.notes.iter().any(|note| note.contains("two containers at once")));
    let followed = beside(r#"{"cause":"unknown","runId":"a"}"#);
    assert_eq!(followed.restarts.len(), 1);
}

/// A run, what was seen in it, and what the next one reports of it.
fn ended(seen: &str, previous: &str) -> Report {
    let line = |run: u32, event: &str, fields: &str| {
        format!(
            r#"{{"ts":"2026-01-15T09:3{run}:00.000Z","level":"info","event":"{event}","schema":1,"townId":null,"runId":"r{run}","uptimeMs":1,{fields}}}"#
        ) + "\n"
    };
    let text = line(0, "container.cold_start", r#""seq":0"#)
        + seen
        + &line(1, "container.cold_start", &format!(r#""seq":0,"previousRun":{previous}"#));
    read("a", Cursor::new(text)).expect("a report")
}

#[test]
fn no_verdict_is_surer_than_the_host_that_reports_it() {
    use bulkhead_diagnose::Confidence::{High, Low, Medium};
    for (said, expected) in [("low", Low), ("medium", Medium), ("high", High)] {
        let previous = format!(r#"{{"runId":"r0","cause":"oom_kill","confidence":"{said}"}}"#);
        let restart = &ended("", &previous).restarts[0];
        assert_eq!((restart.verdict.id(), restart.confidence), ("H3", expected), "{said}");
    }
}

#[test]
fn a_crash_counts_once_and_a_full_disk_is_named() {
    let line = |n: u32, event: &str, fields: &str| {
        format!(
            r#"{{"ts":"2026-01-15T09:30:0{n}.000Z","level":"info","event":"{event}","schema":1,"townId":null,"runId":"r0","uptimeMs":1,"seq":{n},{fields}}}"#
        ) + "\n"
    };
    let crash = |n: u32| {
        line(n, "agent.crash", r#""agentId":"a""#)
            + &line(n + 1, "agent.restart_scheduled", r#""agentId":"a""#)
    };
    let unknown = r#"{"runId":"r0","cause":"unknown","confidence":"low"}"#;
    let crashes: String = [1, 3, 5].into_iter().map(crash).collect();
    let restart = &ended(&crashes, unknown).restarts[0];
    assert_eq!(restart.verdict.id(), "undecided", "three are no loop");
    let full = line(
        1,
        "container.log",
        r#""message":"this run has no black box","fields":{"cause":"No space left on device (os error 28)"}"#,
    );
    let restart = &ended(&full, unknown).restarts[0];
    assert!(restart.next.contains("make room"), "{}", restart.next);
}
