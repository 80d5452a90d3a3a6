//! Runs native programs, and puts into words how they ended.

use std::time::Duration;

use bulkhead_guest::model::Tool;
use bulkhead_guest::tools::{Command, End, Error, Finished, Usage};
use serde::Deserialize;
use serde_json::json;

use crate::workspace::Workspace;

/// Of stdout, and of stderr: the first bytes that the model reads, which show what ran.
const HEAD_BYTES: usize = 4 * 1024;
/// And the last ones, where most programs put what matters.
const TAIL_BYTES: usize = 12 * 1024;

/// Programs in the tool's description. A role may list a directory with thousands.
const MAX_LISTED: usize = 100;

/// What the model asks for.
#[derive(Debug, Deserialize)]
pub struct Order {
    program: String,
    #[serde(default)]
    arguments: Vec<String>,
    directory: Option<String>,
    stdin: Option<String>,
    timeout_s: Option<u32>,
}

/// The tool with its schema, if there are programs to run.
pub fn offered(programs: &[String]) -> Option<Tool> {
    let description = format!(
        "Run a program in the workspace, without a network unless the town allows one. The result says \
         how it ended, then what it wrote, the middle of long output left out. Programs: {}.",
        listed(programs),
    );
    let schema = json!({
        "type": "object",
        "properties": {
            "program": { "type": "string", "description": "Its name." },
            "arguments": {
                "type": "array",
                "items": { "type": "string" },
                "description": "One string for each argument. There is no shell, except where one is the program.",
            },
            "directory": {
                "type": "string",
                "description": "Where it begins, relative to the workspace. Default: the workspace.",
            },
            "stdin": { "type": "string", "description": "What it can read. Default: nothing." },
            "timeout_s": {
                "type": "integer",
                "description": "Seconds until it is ended. Lowers the town's limit.",
            },
        },
        "required": ["program"],
    });
    (!programs.is_empty()).then(|| Tool::new("run", description, schema))
}

fn listed(programs: &[String]) -> String {
    match programs.split_at_checked(MAX_LISTED) {
        Some((first, more)) if !more.is_empty() => {
            format!("{} and {} more", first.join(", "), more.len())
        }
        _ => programs.join(", "),
    }
}

impl Order {
    /// Runs it to its end by `execute`. What was not run is an error that says why.
    pub fn run(
        &self,
        workspace: &Workspace,
        execute: impl FnOnce(&Command) -> Result<String, Error>,
    ) -> Result<String, String> {
        execute(&self.command(workspace)?).map_err(|error| shorten(error.to_string().as_bytes()))
    }

    fn command(&self, workspace: &Workspace) -> Result<Command, String> {
        let mut command = Command::new(&self.program).args(&self.arguments);
        if let Some(directory) = &self.directory {
            let directory = workspace.resolve(directory)?;
            let inside = workspace.relative(&directory);
            if !inside.is_empty() {
                command = command.directory(inside);
            }
        }
        if let Some(stdin) = &self.stdin {
            command = command.stdin(stdin.as_bytes());
        }
        if let Some(seconds) = self.timeout_s {
            command = command.wall(Duration::from_secs(seconds.into()));
        }
        Ok(command)
    }
}

/// Runs a command by the host.
pub fn by_host(command: &Command) -> Result<String, Error> {
    let finished: Finished = command.run()?;
    let (stdout, stderr) = (finished.stdout_bytes(), finished.stderr_bytes());
    Ok(report(finished.end(), finished.usage(), stdout, stderr))
}

/// What the model reads of a program that has ended: at most about 32 KiB.
fn report(end: End, usage: Usage, stdout: &[u8], stderr: &[u8]) -> String {
    let mut text = ending(end, usage);
    for (name, written) in [("stdout", stdout), ("stderr", stderr)] {
        if !written.is_empty() {
            text.push_str(&format!("\n{name}:\n{}", shorten(written).trim_end_matches('\n')));
        }
    }
    if stdout.is_empty() && stderr.is_empty() {
        text.push_str("\nnothing was written");
    }
    text
}

/// How it ended, with what it used of the resource that ran out, and after how long.
fn ending(end: End, usage: Usage) -> String {
    let used = match end {
        End::MemoryLimit => size(usage.peak_memory_bytes),
        End::OutputLimit => size(usage.output_bytes),
        End::CpuDeadline => format!(" ({})", seconds(usage.cpu_ms)),
        _ => String::new(),
    };
    format!("{end}{used} after {}", seconds(usage.wall_ms))
}

/// A host that cannot measure says 0.
fn size(bytes: u64) -> String {
    match bytes {
        0 => String::new(),
        1..0x10_0000 => format!(" ({} KiB)", bytes.div_ceil(1024)),
        _ => format!(" ({} MiB)", bytes.div_ceil(1024 * 1024)),
    }
}

fn seconds(ms: u64) -> String {
    format!("{}.{} s", ms / 1000, ms % 1000 / 100)
}

/// The beginning and the end as text, cut between characters. What is no UTF-8 is replaced.
fn shorten(bytes: &[u8]) -> String {
    if bytes.len() <= HEAD_BYTES + TAIL_BYTES {
        return String::from_utf8_lossy(bytes).into_owned();
    }
    let head = boundary(bytes, HEAD_BYTES);
    let tail = boundary(bytes, bytes.len() - TAIL_BYTES);
    let (first, last) = (&bytes[..head], &bytes[tail..]);
    format!(
        "{}\n... {} bytes left out ...\n{}",
        String::from_utf8_lossy(first),
        tail - head,
        String::from_utf8_lossy(last),
    )
}

/// Where a character begins, at `at` or at most three bytes before; `at` where none does.
fn boundary(bytes: &[u8], at: usize) -> usize {
    let begins = |at: &usize| bytes[*at] & 0b1100_0000 != 0b1000_0000;
    (at - 3..=at).rev().find(begins).unwrap_or(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(arguments: &serde_json::Value) -> Order {
        serde_json::from_value(arguments.clone()).unwrap()
    }

    fn usage(wall_ms: u64) -> Usage {
        Usage { wall_ms, cpu_ms: 0, peak_memory_bytes: 0, output_bytes: 0 }
    }

    #[track_caller]
    fn commands_are_the_same(arguments: &serde_json::Value, expected: &Command) {
        let command = order(arguments).command(&Workspace::new("/workspace")).unwrap();
        assert_eq!(format!("{command:?}"), format!("{expected:?}"));
    }

    #[test]
    fn the_tool_lists_its_programs_and_is_absent_without_any() {
        assert!(offered(&[]).is_none());
        let tool = offered(&["cargo".to_owned(), "sh".to_owned()]).unwrap();
        assert!(tool.description.ends_with("Programs: cargo, sh."), "{}", tool.description);
    }

    #[test]
    fn a_long_list_of_programs_is_cut() {
        let programs: Vec<_> = (0..MAX_LISTED + 2).map(|number| format!("p{number}")).collect();
        assert!(listed(&programs[..MAX_LISTED]).ends_with(", p99"));
        assert!(listed(&programs).ends_with(", p99 and 2 more"));
    }

    #[test]
    fn an_order_becomes_a_command() {
        commands_are_the_same(&json!({"program": "true"}), &Command::new("true"));
        let all = json!({"program": "sh", "arguments": ["-c", "cat"], "directory": "a/b",
                         "stdin": "in", "timeout_s": 5});
        let expected = Command::new("sh").args(["-c", "cat"]).directory("a/b");
        commands_are_the_same(&all, &expected.stdin("in").wall(Duration::from_secs(5)));
    }

    #[test]
    fn a_directory_is_inside_of_the_workspace() {
        for (directory, inside) in [("/workspace/a", "a"), ("./a/", "a")] {
            let given = json!({"program": "true", "directory": directory});
            commands_are_the_same(&given, &Command::new("true").directory(inside));
        }
        for directory in ["", ".", "/workspace"] {
            let given = json!({"program": "true", "directory": directory});
            commands_are_the_same(&given, &Command::new("true"));
        }
        let outside = order(&json!({"program": "true", "directory": "../other"}));
        let never = |_: &Command| panic!("it was run");
        let error = outside.run(&Workspace::new("/workspace"), never).unwrap_err();
        assert!(error.contains("`../other` is outside"), "{error}");
    }

    #[test]
    fn a_refusal_is_read_by_the_model() {
        let refused = |error: Error| {
            let order = order(&json!({"program": "ls"}));
            order.run(&Workspace::new("/workspace"), |_| Err(error)).unwrap_err()
        };
        let denied = refused(Error::Denied("ls; this role may run cat, sh".into()));
        assert_eq!(denied, "program denied: ls; this role may run cat, sh");
        assert_eq!(refused(Error::NotFound("ls".into())), "program not found: ls");
        let unavailable = refused(Error::Unavailable("tools_parallel".into()));
        assert_eq!(unavailable, "programs unavailable: tools_parallel");
        let long = refused(Error::Denied("a, ".repeat(1_000_000)));
        assert!(long.len() < 20_000, "{}", long.len());
    }

    #[test]
    fn how_it_ended_comes_first() {
        let failed = report(End::Exited(1), usage(2349), b"a\nb\n", b"oh\n");
        assert_eq!(failed, "exited with code 1 after 2.3 s\nstdout:\na\nb\nstderr:\noh");
        let quiet = report(End::Exited(0), usage(0), b"", b"");
        assert_eq!(quiet, "exited with code 0 after 0.0 s\nnothing was written");
        let only_errors = report(End::Exited(2), usage(61_000), b"", b"oh");
        assert_eq!(only_errors, "exited with code 2 after 61.0 s\nstderr:\noh");
    }

    #[test]
    fn a_limit_is_named_with_what_was_used() {
        let used = Usage {
            wall_ms: 8412,
            cpu_ms: 14_730,
            peak_memory_bytes: 512 << 20,
            output_bytes: 70_000,
        };
        for (end, text) in [
            (End::MemoryLimit, "was ended: it wanted too much memory (512 MiB) after 8.4 s"),
            (End::OutputLimit, "was ended: it wrote too much (69 KiB) after 8.4 s"),
            (End::CpuDeadline, "was ended: it took too much CPU time (14.7 s) after 8.4 s"),
            (End::WallDeadline, "was ended: it took too long after 8.4 s"),
            (End::Signalled(11), "died of signal 11 after 8.4 s"),
        ] {
            assert_eq!(ending(end, used), text);
        }
        let unmeasured = ending(End::MemoryLimit, usage(100));
        assert_eq!(unmeasured, "was ended: it wanted too much memory after 0.1 s");
    }

    #[test]
    fn long_output_keeps_its_beginning_and_its_end() {
        let whole = "x".repeat(HEAD_BYTES + TAIL_BYTES);
        assert_eq!(shorten(whole.as_bytes()), whole);
        let long = format!("first{}last", "x".repeat(100_000));
        let short = shorten(long.as_bytes());
        assert!(short.starts_with("first") && short.ends_with("last"));
        assert!(short.contains("\n... 83625 bytes left out ...\n"), "{short}");
        assert!(short.len() < HEAD_BYTES + TAIL_BYTES + 50);
    }

    #[test]
    fn a_cut_is_between_characters() {
        for shift in 0..4 {
            let long = "x".repeat(shift) + &"🦡".repeat(10_000);
            let short = shorten(long.as_bytes());
            assert!(!short.contains(char::REPLACEMENT_CHARACTER), "{shift}");
            let (head, tail) = short.split_once("\n... ").unwrap();
            let (left_out, tail) = tail.split_once(" bytes left out ...\n").unwrap();
            let left_out: usize = left_out.parse().unwrap();
            assert_eq!(head.len() + left_out + tail.len(), long.len());
            assert!(long.starts_with(head) && long.ends_with(tail));
        }
    }

    #[test]
    fn what_is_no_text_is_bounded_too() {
        for byte in [0x80, 0xff, 0] {
            let short = shorten(&vec![byte; 1_000_000]);
            assert!(short.len() <= 3 * (HEAD_BYTES + TAIL_BYTES) + 50, "{byte}: {}", short.len());
        }
    }
}
