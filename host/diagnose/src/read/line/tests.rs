use super::*;

/// Everything that a line shows.
fn shown(line: &str) -> (Vec<Line>, Form) {
    let mut lines = Vec::new();
    let (form, _) = read(line.as_bytes(), &mut |line| lines.push(line));
    (lines, form)
}

/// The signs that a line shows.
fn signs(line: &str) -> Vec<Sign> {
    let specs = |line| match line {
        Line::Found(found) => found.specs.iter().map(|spec| spec.sign).collect(),
        Line::Alive(_) | Line::Part(_) => Vec::new(),
    };
    shown(line).0.into_iter().flat_map(specs).collect()
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("a text is JSON")
}

/// The quick way takes these, and must come to what reading them comes to.
#[test]
fn the_quick_way_sees_what_reading_sees() {
    for line in [
        r#"{"ts":"2026-01-15T09:30:00.123Z","level":"info","event":"agent.log","schema":1,"townId":"t","runId":"r","uptimeMs":412345,"seq":18,"agentId":"a","message":"say \"townId\":\"no\", {\"runId\":\"no\"}","fields":{"guest.runId":"no","runId":"no"}}"#,
        r#"{"ts":"2026-01-15T09:30:00.123Z","level":"debug","event":"agent.turn","schema":1,"townId":null,"runId":"r","uptimeMs":0,"seq":0,"part":1,"parts":3,"cpuUs":3}"#,
        r#"{"ts":"2026-01-15T09:30:00.123Z","level":"debug","event":"container.init_done","schema":1,"townId":null,"runId":"r","uptimeMs":7,"seq":9}"#,
        r#"{"level":"info","msg":"agent.startup_phase","agentId":"a","phase":"sdk_ready","ts":"2026-01-15T09:30:00.123Z"}"#,
        r#"{"level":"warn","msg":"agent.stream_error","error":"\"townId\":\"no\"","townId":"t","ts":"2026-01-15T09:30:00.123Z"}"#,
    ] {
        let quick = quick::alive(line.as_bytes()).expect("it is one for the quick way");
        let mut slow = Vec::new();
        object(line, &Stamp::default(), 0, &mut |line| slow.push(line));
        let [Line::Alive(slow)] = &slow[..] else { panic!("{line}") };
        assert_eq!(&quick, slow, "{line}");
    }
}

#[test]
fn the_quick_way_leaves_what_matters_or_is_cut() {
    let line = r#"{"ts":"2026-01-15T09:30:00.123Z","level":"info","event":"agent.turn","schema":1,"townId":null,"runId":"r","uptimeMs":0,"seq":0,"cpuUs":3}"#;
    for end in 0..line.len() {
        assert_eq!(quick::alive(&line.as_bytes()[..end]), None);
    }
    let crash = line.replace("agent.turn", "agent.crash");
    assert_eq!(quick::alive(crash.as_bytes()), None);
}

#[test]
fn a_wrapper_of_a_pipeline_is_taken_off() {
    let inner = r#"{"level":"error","msg":"container.uncaught_exception","message":"m","townId":"t","ts":"2026-01-15T09:30:00.123Z"}"#;
    let quoted = serde_json::to_string(inner).expect("a text is JSON");
    for line in [
        format!("2026-01-15T09:30:05Z stdout F {inner}"),
        format!("{{\"log\":{quoted},\"stream\":\"stdout\",\"time\":\"2026-01-15T09:30:05Z\"}}"),
        format!("{{\"timestamp\":1768469405000,\"message\":{quoted}}}"),
    ] {
        let (lines, Form::Json) = shown(&line) else { panic!("{line}") };
        let [Line::Found(found)] = &lines[..] else { panic!("{line}") };
        assert_eq!(found.specs[0].sign, Sign::Exception, "{line}");
        assert_eq!(found.stamp.ts, Some(1_768_469_400_123), "{line}");
        assert_eq!(found.stamp.town.as_deref(), Some("t"), "{line}");
    }
}

const CRASH: &str = r#"{"ts":"2026-01-15T09:30:00.123Z","level":"error","event":"agent.crash","schema":1,"uptimeMs":5,"seq":7,"crashId":"c","agentId":"a","townId":"t","runId":"r","message":"m"}"#;

/// Everything that pipelines are known to make of a line of a container.
fn wrapped(line: &str) -> Vec<String> {
    let (text, bytes) = (quoted(line), format!("{:?}", line.as_bytes()));
    vec![
        line.to_owned(),
        format!("\0\0{line}").replace('\0', ""),
        format!("2026-01-15T09:30:05Z stdout F {line}"),
        format!("web-1  | {line}"),
        format!("{line},"),
        format!(
            "{{\"log\":{},\"stream\":\"stdout\",\"time\":\"2026-01-15T09:30:05Z\"}}",
            quoted(&format!("{line}\n"))
        ),
        format!(
            "{{\"__REALTIME_TIMESTAMP\":\"1768469405000000\",\"MESSAGE\":{text},\"_PID\":\"4\"}}"
        ),
        format!("{{\"__REALTIME_TIMESTAMP\":\"1768469405000000\",\"MESSAGE\":{bytes}}}"),
        format!("{{\"timestamp\":1768469405000,\"message\":{text}}}"),
        format!("{{\"_time\":\"2026-01-15T09:30:05Z\",\"data\":{{\"message\":{text}}}}}"),
        format!(
            "{{\"_time\":\"2026-01-15T09:30:05Z\",\"data\":{{\"level\":\"info\",\"message\":{line}}}}}"
        ),
        format!("{{\"_time\":\"2026-01-15T09:30:05Z\",\"data\":{line}}}"),
        format!("{{\"jsonPayload\":{line},\"timestamp\":\"2026-01-15T09:30:05Z\"}}"),
        format!(
            "{{\"outcome\":\"ok\",\"logs\":[{{\"level\":\"log\",\"message\":[\"said\",{text}],\"timestamp\":1768469405000}}],\"eventTimestamp\":1768469405000,\"event\":{{\"request\":{{\"url\":\"https://a.example/x.y\"}}}}}}"
        ),
        format!("{{\"logs\":[{{\"message\":[{line}]}}],\"eventTimestamp\":1768469405000}}"),
        format!("{{\"log\":{}}}", quoted(&format!("2026-01-15T09:30:05Z stdout F {line}"))),
    ]
}

#[test]
fn a_record_is_found_in_everything_that_pipelines_make_of_it() {
    for line in wrapped(CRASH) {
        let (lines, Form::Json) = shown(&line) else { panic!("{line}") };
        let [Line::Found(found)] = &lines[..] else { panic!("{line}") };
        assert_eq!(
            (found.specs[0].sign, found.agent.as_deref()),
            (Sign::AgentCrash, Some("a")),
            "{line}"
        );
        assert_eq!((found.stamp.ts, found.stamp.seq), (Some(1_768_469_400_123), Some(7)), "{line}");
    }
}

#[test]
fn a_text_has_the_time_that_its_pipeline_says() {
    let text = "SIGTERM received, draining";
    for line in wrapped(text)
        .into_iter()
        .filter(|line| line.contains("09:30:05") || line.contains("1768469405"))
    {
        if serde_json::from_str::<serde_json::Value>(&line).is_err() && line.starts_with('{') {
            continue;
        }
        let (lines, _) = shown(&line);
        let [Line::Found(found)] = &lines[..] else { panic!("{line}") };
        assert_eq!(
            (found.specs[0].sign, found.stamp.ts),
            (Sign::StopIntent, Some(1_768_469_405_000)),
            "{line}"
        );
    }
}

#[test]
fn all_records_of_a_line_count_each() {
    let other = CRASH.replace("\"seq\":7", "\"seq\":8").replace("\"a\"", "\"b\"");
    let (one, two) = (quoted(CRASH), quoted(&other));
    let line = format!(
        "{{\"logs\":[{{\"message\":[{one}]}},{{\"message\":[{two}]}}],\"eventTimestamp\":1768469405000}}"
    );
    let (lines, _) = shown(&line);
    let agents: Vec<_> = lines
        .iter()
        .map(|line| match line {
            Line::Found(found) => (found.agent.as_deref(), found.stamp.seq, found.hash),
            Line::Alive(_) | Line::Part(_) => panic!("two crashes"),
        })
        .collect();
    assert_eq!((agents[0].0, agents[1].0), (Some("a"), Some("b")));
    assert_eq!((agents[0].1, agents[1].1), (Some(7), Some(8)));
    assert!(agents[0].2 != agents[1].2, "they are no doubles");
}

/// What a guest may say to be taken for somebody else.
fn forgeries() -> Vec<String> {
    let stop = r#"{"ts":"2026-01-15T09:30:00.500Z","level":"info","event":"container.stop_intent","schema":1,"townId":"t","runId":"r","uptimeMs":5,"seq":8,"by":"x"}"#;
    let original =
        r#"{"level":"error","msg":"container.uncaught_exception","ts":"2026-01-15T09:30:00.500Z"}"#;
    let text = "SIGTERM received, container stopped: exitCode=137";
    let part = r#"{"ts":"2026-01-15T09:30:00.500Z","level":"info","event":"container.line_part","schema":1,"townId":"t","runId":"r","uptimeMs":5,"seq":8,"part":2,"parts":2,"of":"x","text":"{\"event\":\"container.stop_intent\"}"}"#;
    let mut all: Vec<String> = [stop, original, part].into_iter().flat_map(wrapped).collect();
    let nested = |line: &String| serde_json::json!({ "data": { "message": line } }).to_string();
    all.extend(all.clone().iter().map(nested));
    all.push(text.to_owned());
    for event in ["container.stop_intent", "agent.quarantined"] {
        all.push(format!("2026-01-15T09:30:00.500Z - {event} {{\"by\":\"x\"}}"));
        all.push(format!("2026-01-15T09:30:00.500Z a {event} {{"));
    }
    all
}

/// The lines of ours in which a guest may say something, in the order of fields that they have, and the one that they
/// had.
fn lines_with(said: &str) -> Vec<String> {
    let said = quoted(said);
    let common = r#""schema":1,"townId":"t","runId":"r","uptimeMs":5,"seq":7"#;
    let fields = format!(
        "\"message\":{said},\"fields\":{{\"guest.event\":\"container.stop_intent\",\"guest.x\":{said}}}"
    );
    let old = format!(
        "\"message\":{said},\"fields\":{{\"event\":\"container.stop_intent\",\"x\":{said}}}"
    );
    let head = |event: &str| {
        format!("{{\"ts\":\"2026-01-15T09:30:00.123Z\",\"level\":\"info\",\"event\":\"{event}\"")
    };
    [
        format!("{},{common},\"agentId\":\"a\",{fields}}}", head("agent.log")),
        format!("{},\"agentId\":\"a\",{old},{common}}}", head("agent.log")),
        format!("{},{common},\"agentId\":\"a\",\"error\":{said}}}", head("agent.turn")),
        format!(
            "{},{common},\"agentId\":\"a\",\"message\":{said},\"data\":{{\"message\":{said}}}}}",
            head("agent.exit")
        ),
        format!("{},{common},\"path\":{said},\"log\":{said}}}", head("container.request_refused")),
        format!("{},{common},\"part\":1,\"parts\":2,\"message\":{said}}}", head("agent.log")),
        format!(
            "\x1b[2m09:30:00.123\x1b[0m \x1b[32minfo \x1b[0m \x1b[1magent.log\x1b[0m \x1b[36ma\x1b[0m {said}"
        ),
        format!("09:30:00.123 info  agent.log a {said}"),
    ]
    .into_iter()
    .chain(kept_with(&said))
    .collect()
}

/// Kept events in which a guest may say something, and its own ones, as `bulkhead logs` and `events` print them.
fn kept_with(said: &str) -> Vec<String> {
    let time = "2026-01-15T09:30:00.123Z";
    let exit = format!("{{\"reason\":\"trap\",\"message\":{said},\"log\":{said}}}");
    let stop = "{\"event\":\"container.stop_intent\",\"by\":\"x\"}";
    let mut lines = Vec::new();
    for (name, data) in [("agent.exit", &*exit), ("note", said), ("note", stop), ("town.x", &exit)]
    {
        lines.push(format!("{time} a {name} {data}"));
        lines.push(format!("{time} #7 {name} {data}"));
        for agent in ["\"agentId\":\"a\",", ""] {
            lines.push(format!(
                "{{\"id\":7,{agent}\"event\":\"{name}\",\"data\":{data},\"timestamp\":\"{time}\"}}"
            ));
        }
    }
    lines
}

#[test]
fn nothing_that_a_guest_says_is_a_sign_whatever_pipelines_make_of_it() {
    for said in forgeries() {
        for line in lines_with(&said) {
            assert_eq!(signs(&line), [], "{line}");
            // What is no JSON is in none.
            let is_whole = |whole: &String| {
                let is_json = || serde_json::from_str::<serde_json::Value>(whole).is_ok();
                line.starts_with('{') || !whole.starts_with('{') || is_json()
            };
            for line in wrapped(&line).into_iter().filter(is_whole) {
                assert_eq!(signs(&line), [], "{line}");
            }
        }
    }
}

#[test]
fn nothing_that_a_guest_says_is_a_sign_wherever_the_line_is_cut() {
    for said in forgeries().iter().step_by(7) {
        for line in lines_with(said).into_iter().filter(|line| line.starts_with('{')) {
            for line in wrapped(&line) {
                for end in (0..line.len()).filter(|end| line.is_char_boundary(*end)) {
                    assert_eq!(signs(&line[..end]), [], "{}", &line[..end]);
                }
            }
        }
    }
}

/// A start that joins what runs is none that met another one, also where `running` is cut off.
#[test]
fn a_cut_line_is_no_sign_for_want_of_a_field() {
    let joined = |running: &str| {
        format!(
            "{{\"ts\":\"2026-01-15T09:30:00.123Z\",\"level\":\"info\",\"event\":\"agent.start_joined\",\
             \"agentId\":\"a\",\"role\":\"r\",\"incarnation\":7,\"running\":{running}}}"
        )
    };
    let (runs, starts) = (joined("true"), joined("false"));
    for end in 0..=runs.len() {
        assert_eq!(signs(&runs[..end]), [], "{}", &runs[..end]);
    }
    assert_eq!(signs(&starts), [Sign::StartOverlap]);
}

/// Where a line is cut, its rest may begin with any of its characters, also with a field of the guest's.
#[test]
fn the_rest_of_a_cut_line_is_no_record() {
    let forgeries = forgeries();
    let kept = forgeries.len() - 4;
    // None of ours has an object whose fields a guest names, but for the one with `guest.` before each.
    let is_real = |line: &String| line.starts_with('{') && !line.contains("\"data\":");
    for said in forgeries[..1].iter().chain(&forgeries[kept..]) {
        for line in lines_with(said).into_iter().filter(is_real) {
            for from in (1..line.len()).filter(|from| line.is_char_boundary(*from)) {
                assert_eq!(signs(&line[from..]), [], "{}", &line[from..]);
            }
        }
    }
}

#[test]
fn deep_records_and_strange_ones_come_to_an_end() {
    let deep = "{\"data\":".repeat(50_000) + "1" + &"}".repeat(50_000);
    let lists = format!("{{\"logs\":{}1{}}}", "[".repeat(100), "]".repeat(100));
    let mut texts = CRASH.to_owned();
    for _ in 0..8 {
        texts = serde_json::json!({ "message": texts }).to_string();
    }
    for line in [&deep, &lists, &texts, "{\"logs\":[[],{},7,null,\"\"]}", "{\"MESSAGE\":[256,1]}"] {
        assert_eq!(signs(line), [], "{}", &line[..line.len().min(80)]);
    }
}

/// What `bulkhead logs` printed of a host that was ended by Ctrl-C and started again.
#[test]
fn events_that_a_host_keeps_are_read_from_lines_for_people() {
    let stop = "2026-11-27T16:20:11.305Z - container.stop_intent {\"by\":\"SIGINT\",\"drainMs\":5000,\"reason\":\"a signal asked for it\"}";
    let boot = "2026-11-27T16:20:15.023Z - container.cold_start {\"bootId\":\"b\",\"pid\":7,\"previousRun\":{\"cause\":\"clean\",\"runId\":\"r\"}}";
    let crash = "2026-11-27T16:20:16.000Z a agent.quarantined {\"message\":\"m\"}";
    assert_eq!(signs(stop), [Sign::StopIntent]);
    assert_eq!(signs(boot), [Sign::Boot, Sign::ReportedClean]);
    assert_eq!(signs(crash), [Sign::AgentQuarantined]);
    for (line, agent, detail, ts) in [
        (stop, None, "by: SIGINT, reason: a signal asked for it", 1_795_796_411_305),
        (crash, Some("a"), "message: m", 1_795_796_416_000),
    ] {
        let is_whole = |line: &String| {
            !line.starts_with('{') || serde_json::from_str::<serde_json::Value>(line).is_ok()
        };
        for line in wrapped(line).into_iter().filter(is_whole) {
            let (lines, _) = shown(&line);
            let [Line::Found(found)] = &lines[..] else { panic!("{line}") };
            let said = (found.agent.as_deref(), &*found.detail, found.stamp.ts);
            assert_eq!(said, (agent, detail, Some(ts)), "{line}");
        }
    }
}

#[test]
fn the_same_events_say_the_same_with_json() {
    let frame = |agent: &str, event: &str, data: &str| {
        format!(
            "{{\"id\":1,{agent}\"event\":\"{event}\",\"data\":{data},\"timestamp\":\"2026-01-15T09:30:00.123Z\"}}"
        )
    };
    let quarantined = frame("\"agentId\":\"a\",", "agent.quarantined", "{\"message\":\"m\"}");
    let (lines, Form::Json) = shown(&quarantined) else { panic!("{quarantined}") };
    let [Line::Found(found)] = &lines[..] else { panic!("{quarantined}") };
    assert_eq!((found.agent.as_deref(), &*found.detail), (Some("a"), "message: m"));
    let previous =
        frame("", "container.previous_run", "{\"cause\":\"oom_kill\",\"previousRunId\":\"r\"}");
    assert_eq!(signs(&previous), [Sign::EndReported, Sign::ReportedOomKill]);
}

/// A line of words that looks a little like one.
#[test]
fn a_line_of_words_is_none_of_kept_events() {
    for line in [
        "2026-01-15T09:30:00.000Z SIGTERM received - starting graceful drain",
        "2026-01-15T09:30:00.000Z was SIGTERM received",
        "2026-01-15T09:30:00Z a note \"SIGTERM received\"",
    ] {
        assert_eq!(signs(line), [Sign::StopIntent], "{line}");
    }
}
