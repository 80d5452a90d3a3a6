use bulkhead_types::restart::QuarantineReason;
use bulkhead_types::{Exception, Frame, RunningTool, SourceFrame, Symbolized, Timestamp};
use expect_test::expect;
use serde_json::json;

use super::*;

fn frame(index: usize, function: &str, place: Option<(&str, u32)>, in_app: bool) -> Frame {
    Frame {
        index,
        function: Some(function.into()),
        file: place.map(|(file, _)| file.into()),
        line: place.map(|(_, line)| line),
        in_app,
        ..Frame::default()
    }
}

fn record() -> CrashRecord {
    let frames: Vec<_> = [
        frame(0, "core::panicking::panic_fmt", Some(("core/src/panicking.rs", 75)), false),
        frame(1, "polecat::rigs::find", Some(("guest/polecat/src/rigs.rs", 48)), true),
        frame(2, "polecat::turn", Some(("guest/polecat/src/turn.rs", 112)), true),
        frame(3, "wit_bindgen::rt", None, false),
    ]
    .into();
    serde_json::from_value(json!({
        "crashId": "019bc0f4-7d2e", "agentId": "toast", "role": "polecat", "name": "Toast", "runId": "run",
        "incarnation": 2, "startAttempt": 2, "component": "polecat", "reason": "panic",
        "trap": "unreachable", "message": "no rig named \"docs\"", "fingerprint": "c41d8e02a7f3965b",
        "location": { "file": "guest/polecat/src/rigs.rs", "line": 48, "column": 9 },
        "deterministic": "unknown", "frames": frames, "symbolized": "done",
        "startedAt": "2026-01-15T09:26:55.800Z", "crashedAt": "2026-01-15T09:30:00.000Z",
        "agentUptimeMs": 184_200, "phase": "handle", "lastLogLines": ["looking for the rig", ""],
        "activeTools": [], "activeAgents": 12,
        "consequence": {
            "decision": "restart", "restartAt": "2026-01-15T09:30:00.412Z", "backoffMs": 412, "attemptsInWindow": 2,
        },
        "resources": {
            "memoryBytes": 4_194_304, "memoryPeakBytes": 6_291_456, "memoryLimitBytes": 67_108_864, "deniedGrowths": 0,
            "softLimitCrossed": false, "cpuUs": 142_800, "turns": 17, "hostCalls": 96, "mailboxDepth": 1,
        },
    }))
    .unwrap()
}

fn shown(record: &CrashRecord) -> String {
    block(record).iter().map(|line| line.painted(false) + "\n").collect()
}

#[test]
fn a_block_has_what_happened_where_in_the_agents_own_code_and_what_was_done() {
    expect![[r#"
        crashed: it panicked while it handled a message, after 3 min 4 s (incarnation 2)
          > no rig named "docs"
          at polecat::rigs::find  guest/polecat/src/rigs.rs:48
          at polecat::turn        guest/polecat/src/turn.rs:112
          … 2 frames of the runtime and libraries
          memory 4 MiB of 64 MiB, at most 6 MiB; CPU time 142 ms in 17 turns
          restart after 412 ms (exit 2 in its restart window)
          more: bulkhead crashes show 019bc0f4-7d2e
    "#]]
    .assert_eq(&shown(&record()));
}

#[test]
fn a_page_has_the_block_and_all_the_rest() {
    expect![[r#"
        toast crashed: it panicked while it handled a message, after 3 min 4 s (incarnation 2)
          > no rig named "docs"
          at polecat::rigs::find  guest/polecat/src/rigs.rs:48
          at polecat::turn        guest/polecat/src/turn.rs:112
          … 2 frames of the runtime and libraries
          memory 4 MiB of 64 MiB, at most 6 MiB; CPU time 142 ms in 17 turns
          restart after 412 ms (exit 2 in its restart window)

        crash        019bc0f4-7d2e
        agent        toast, role polecat
        incarnation  #2, attempt 2 of its start
        component    polecat
        time         2026-01-15T09:30:00.000Z
        reason       panic (unreachable) in handle
        container    12 agents
        fingerprint  c41d8e02a7f3965b

        frames, * the agent's own
             0 core::panicking::panic_fmt  core/src/panicking.rs:75
          *  1 polecat::rigs::find  guest/polecat/src/rigs.rs:48
          *  2 polecat::turn  guest/polecat/src/turn.rs:112
             3 wit_bindgen::rt

        last log lines
          looking for the rig

        what to do next
          1. Read the message, and open the place of the panic.
          2. If bad input can cause this, return an error that is not fatal: only the turn fails then.
    "#]]
    .assert_eq(&crash_page(&record(), false));
}

#[test]
fn markdown_folds_the_rest() {
    expect![[r####"
        ### `toast` panicked while it handled a message

        ```text
        crashed: it panicked while it handled a message, after 3 min 4 s (incarnation 2)
          > no rig named "docs"
          at polecat::rigs::find  guest/polecat/src/rigs.rs:48
          at polecat::turn        guest/polecat/src/turn.rs:112
          … 2 frames of the runtime and libraries
          memory 4 MiB of 64 MiB, at most 6 MiB; CPU time 142 ms in 17 turns
          restart after 412 ms (exit 2 in its restart window)
        ```

        <details><summary>The whole record</summary>

        ```text
        crash        019bc0f4-7d2e
        agent        toast, role polecat
        incarnation  #2, attempt 2 of its start
        component    polecat
        time         2026-01-15T09:30:00.000Z
        reason       panic (unreachable) in handle
        container    12 agents
        fingerprint  c41d8e02a7f3965b

        frames, * the agent's own
             0 core::panicking::panic_fmt  core/src/panicking.rs:75
          *  1 polecat::rigs::find  guest/polecat/src/rigs.rs:48
          *  2 polecat::turn  guest/polecat/src/turn.rs:112
             3 wit_bindgen::rt

        last log lines
          looking for the rig

        what to do next
          1. Read the message, and open the place of the panic.
          2. If bad input can cause this, return an error that is not fatal: only the turn fails then.
        ```

        </details>
    "####]]
    .assert_eq(&crash_markdown(&record()));
}

#[test]
fn without_own_frames_the_innermost_ones_and_the_place_of_the_panic_are_shown() {
    let frames = (0..20).map(|index| frame(index, &format!("f{index}"), None, false));
    let symbolized = Symbolized::Unavailable;
    let block = shown(&CrashRecord { frames: frames.collect(), symbolized, ..record() });
    for part in [
        "at guest/polecat/src/rigs.rs:48:9\n",
        "at f0\n",
        "at f2\n",
        "… 17 frames more",
        "no files",
    ] {
        assert!(block.contains(part), "{part}: {block}");
    }
    assert!(!block.contains("f3\n"), "{block}");
}

#[test]
fn no_text_of_an_agent_looks_like_words_of_the_host() {
    let message = "over\n  not restarted\n\x1b[2J".to_owned() + &"\nagain".repeat(20);
    let block = shown(&CrashRecord { message, ..record() });
    assert!(block.contains("  >   not restarted\n") && !block.contains('\x1b'), "{block}");
    assert!(block.contains("… 15 more lines"), "{block}");
}

#[test]
fn no_text_of_an_agent_ends_a_block_of_markdown() {
    let message = "```\n# Forged\n`````".to_owned();
    let markdown = crash_markdown(&CrashRecord { message, ..record() });
    assert_eq!(markdown.matches("``````").count(), 4, "{markdown}");
}

/// The lines of Markdown that stand in no fence.
fn outside_of_fences(markdown: &str) -> String {
    let mut fence = None;
    let mut outside = String::new();
    for line in markdown.lines() {
        let run = line.len() - line.trim_start_matches('`').len();
        match fence {
            None if run >= 3 => fence = Some(run),
            Some(open) if run >= open && line.len() == run => fence = None,
            Some(_) => {}
            None => outside = outside + line + "\n",
        }
    }
    outside
}

#[test]
fn no_text_of_an_agent_stands_in_the_heading_of_markdown() {
    let code = "@someone) [x](https://evil.example/x.png) ```x``` <b>".to_owned();
    let record = CrashRecord {
        agent_id: bulkhead_types::AgentId::parse("my_agent").unwrap(),
        reason: ExitReason::GuestError,
        code: Some(code),
        ..record()
    };
    let markdown = crash_markdown(&record);
    assert_eq!(
        outside_of_fences(&markdown),
        "### `my_agent` reported a fatal error while it handled a message\n\n\n\
         <details><summary>The whole record</summary>\n\n\n</details>\n"
    );
    let what =
        "reported a fatal error (\"@someone) [x](https://evil.example/x.png) ```x``` <b>\") while";
    assert!(markdown.contains(what), "{markdown}");
}

#[test]
fn programs_that_were_killed_with_it_are_named() {
    let program = |program: &str, arguments: &[&str], ms, memory_bytes| RunningTool {
        tool: 1,
        program: program.into(),
        arguments: arguments.iter().map(ToString::to_string).collect(),
        started_at: Timestamp(record().crashed_at.0 - ms),
        memory_bytes,
    };
    let tools_in_flight = vec![
        program("cargo", &["test", "a b"], 3000, 256 << 20),
        program("sh", &["-c", "echo\n\x1b[2J more"], 40, 0),
        program("git", &[], 0, 0),
        program("make", &[], 0, 0),
    ];
    let record = CrashRecord { tools_in_flight, ..record() };
    let block = shown(&record);
    let killed: Vec<_> = block.lines().filter(|line| line.contains("program")).collect();
    assert_eq!(killed, ["  … 1 more program"], "{block}");
    for line in [
        "  killed with it: cargo test \"a b\" for 3 s, with 256 MiB of memory\n",
        "  killed with it: sh -c \"echo\\n\\u001b[2J more\" for 40 ms\n",
        "  killed with it: git for 0 s\n",
    ] {
        assert!(block.contains(line), "{line}: {block}");
    }
    for page in [crash_page(&record, false), crash_markdown(&record)] {
        assert!(page.contains("\nprograms that were killed with it\n  cargo test"), "{page}");
        assert!(page.contains("\n  make for 0 s\n") && !page.contains('\x1b'), "{page}");
    }
}

#[test]
fn a_quarantine_says_how_it_ends() {
    let consequence = Consequence::Quarantined {
        why: QuarantineReason::Intensity,
        message: "it ended 6 times within 300 s, 5 are allowed".into(),
        attempts_in_window: 6,
    };
    let block = shown(&CrashRecord { consequence, ..record() });
    assert!(block.contains("quarantine: it ended 6 times") && block.contains("--force"), "{block}");
}

#[test]
fn an_exception_has_its_frames_and_what_caused_it() {
    let frame = |function: Option<&str>, line, column| SourceFrame {
        function: function.map(str::to_owned),
        file: "agent.js".into(),
        line,
        column,
    };
    let exceptions = vec![
        Exception {
            kind: "RangeError".into(),
            message: "wrapped".into(),
            frames: vec![frame(Some("inner"), 8, Some(46)), frame(None, 22, None)],
        },
        Exception {
            kind: "KeyError".into(),
            message: "'x'\nand more".into(),
            frames: vec![frame(Some("f"), 1, Some(1)); 10],
        },
    ];
    let record = CrashRecord {
        reason: ExitReason::Exception,
        message: "RangeError: wrapped".into(),
        frames: Default::default(),
        exceptions,
        ..record()
    };
    expect![[r#"
        crashed: it threw an exception while it handled a message, after 3 min 4 s (incarnation 2)
          > RangeError: wrapped
          at inner        agent.js:8:46
          at (top level)  agent.js:22
          caused by KeyError: 'x'
          > and more
          at f  agent.js:1:1
          at f  agent.js:1:1
          at f  agent.js:1:1
          at f  agent.js:1:1
          at f  agent.js:1:1
          at f  agent.js:1:1
          at f  agent.js:1:1
          at f  agent.js:1:1
          … 2 more frames
          memory 4 MiB of 64 MiB, at most 6 MiB; CPU time 142 ms in 17 turns
          restart after 412 ms (exit 2 in its restart window)
          more: bulkhead crashes show 019bc0f4-7d2e
    "#]]
    .assert_eq(&shown(&record));
    expect![[r#"
        exceptions
          RangeError: wrapped
              inner  agent.js:8:46
              (top level)  agent.js:22
          KeyError: 'x'\nand more
              f  agent.js:1:1
              f  agent.js:1:1
              f  agent.js:1:1
              f  agent.js:1:1
              f  agent.js:1:1
              f  agent.js:1:1
              f  agent.js:1:1
              f  agent.js:1:1
              f  agent.js:1:1
              f  agent.js:1:1"#]]
    .assert_eq(crash_page(&record, false).split("\n\n").nth(2).unwrap());
}
