//! The rules of a command.

use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use bulkhead_types::ToolLimits;

use crate::bindings::bulkhead::agent::tools::{Command, Limits, ToolError};

/// Arguments and environment together. The kernel takes a quarter of the stack's limit, which is 2 MiB as a rule.
const MAX_BYTES: usize = 128 * 1024;

/// What a program can read of its stdin.
const MAX_STDIN_BYTES: usize = 8 * 1024 * 1024;

/// Where the workspace is for a tool.
pub(super) const WORKSPACE: &str = "/workspace";

/// A command that keeps to the rules.
#[derive(Debug)]
pub(super) struct Asked {
    pub program: String,
    pub arguments: Vec<String>,
    pub directory: PathBuf,
    pub environment: Vec<(OsString, OsString)>,
    pub limits: Limits,
}

/// Checks what can be checked without the file system.
pub(super) fn check(command: Command) -> Result<Asked, ToolError> {
    let Command { program, arguments, directory, environment, limits } = command;
    if program.is_empty() || program.contains(['/', '\0']) {
        return Err(invalid(format!("program {program:?} is no name of a program")));
    }
    if arguments.iter().any(|argument| argument.contains('\0')) {
        return Err(invalid("an argument contains a zero byte"));
    }
    for (name, value) in &environment {
        if name.is_empty() || name.contains(['=', '\0']) {
            return Err(invalid(format!(
                "environment has {name:?}, which is no name of a variable"
            )));
        }
        if value.contains('\0') {
            return Err(invalid(format!(
                "the value of {name} in environment contains a zero byte"
            )));
        }
    }
    let variables = environment.iter().map(|(name, value)| name.len() + value.len() + 2);
    let bytes: usize = arguments.iter().map(|it| it.len() + 1).chain(variables).sum();
    if bytes > MAX_BYTES {
        let text = format!("arguments and environment have {bytes} bytes, at most {MAX_BYTES} fit");
        return Err(invalid(text));
    }
    let directory = inside(directory.as_deref().unwrap_or("."))?;
    let environment =
        environment.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
    Ok(Asked { program, arguments, directory, environment, limits })
}

/// Checks what a program gets to read.
pub(super) fn check_stdin(stdin: &[u8]) -> Result<(), ToolError> {
    if stdin.len() <= MAX_STDIN_BYTES {
        return Ok(());
    }
    let bytes = stdin.len();
    Err(invalid(format!("stdin has {bytes} bytes, at most {MAX_STDIN_BYTES} are allowed")))
}

/// A directory of the workspace as a tool sees it. `/workspace/a` is the same as `a`.
fn inside(directory: &str) -> Result<PathBuf, ToolError> {
    let relative = Path::new(directory);
    let relative = relative.strip_prefix(WORKSPACE).unwrap_or(relative);
    let is_inside = |part| matches!(part, Component::Normal(_) | Component::CurDir);
    if directory.contains('\0') || !relative.components().all(is_inside) {
        return Err(invalid(format!("directory {directory:?} leads out of the workspace")));
    }
    // Without the dots, which the path of a process never has.
    let parts = relative.components().filter(|part| *part != Component::CurDir);
    Ok(Path::new(WORKSPACE).join(parts.collect::<PathBuf>()))
}

/// The role's limits, with what the command lowers.
pub(super) fn lowered(most: ToolLimits, asked: &Limits) -> ToolLimits {
    let millis = |most: Duration, asked: Option<u64>| {
        asked.map_or(most, |ms| most.min(Duration::from_millis(ms.max(1))))
    };
    ToolLimits {
        memory_bytes: asked.memory_bytes.map_or(most.memory_bytes, |it| it.min(most.memory_bytes)),
        wall: millis(most.wall, asked.wall_ms),
        cpu: millis(most.cpu, asked.cpu_ms),
        pids: asked.pids.map_or(most.pids, |it| it.clamp(1, most.pids)),
        output_bytes: asked.output_bytes.map_or(most.output_bytes, |it| it.min(most.output_bytes)),
    }
}

fn invalid(text: impl Into<String>) -> ToolError {
    ToolError::Invalid(text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(program: &str) -> Command {
        let limits = Limits {
            memory_bytes: None,
            wall_ms: None,
            cpu_ms: None,
            pids: None,
            output_bytes: None,
        };
        Command {
            program: program.into(),
            arguments: Vec::new(),
            directory: None,
            environment: Vec::new(),
            limits,
        }
    }

    fn refused(command: Command) -> String {
        match check(command).unwrap_err() {
            ToolError::Invalid(text) => text,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_breaks_a_rule_is_named() {
        for program in ["", "/bin/sh", "../sh", "a\0"] {
            assert!(refused(command(program)).contains("program"), "{program:?}");
        }
        let with = |change: fn(&mut Command)| {
            let mut command = command("sh");
            change(&mut command);
            refused(command)
        };
        assert!(with(|it| it.arguments.push("a\0b".into())).contains("zero byte"));
        assert!(with(|it| it.environment.push(("A=B".into(), String::new()))).contains("A=B"));
        assert!(with(|it| it.environment.push(("A".into(), "\0".into()))).contains("value of A"));
        assert!(with(|it| it.arguments.push("x".repeat(MAX_BYTES))).contains("131072"));
        for outside in ["..", "a/../../b", "/etc", "/workspace/../etc", "a\0"] {
            let text = refused(Command { directory: Some(outside.into()), ..command("sh") });
            assert!(text.contains("leads out"), "{outside}: {text}");
        }
        let most = vec![0; MAX_STDIN_BYTES + 1];
        assert!(check_stdin(&most).is_err() && check_stdin(&most[1..]).is_ok());
    }

    #[test]
    fn a_directory_is_one_of_the_workspace() {
        for (given, expected) in [
            (None, "/workspace"),
            (Some(""), "/workspace"),
            (Some("./a/./b/"), "/workspace/a/b"),
            (Some("/workspace/a"), "/workspace/a"),
            (Some("/workspace"), "/workspace"),
        ] {
            let asked = Command { directory: given.map(str::to_owned), ..command("sh") };
            assert_eq!(check(asked).unwrap().directory, Path::new(expected), "{given:?}");
        }
    }

    #[test]
    fn a_command_lowers_the_limits_of_its_role_and_raises_none() {
        let most = ToolLimits::default();
        let none = command("sh").limits;
        assert_eq!(lowered(most, &none), most);
        let wants = |n: u64| Limits {
            memory_bytes: Some(n),
            wall_ms: Some(n),
            cpu_ms: Some(n),
            pids: Some(u32::try_from(n).unwrap_or(u32::MAX)),
            output_bytes: Some(n),
        };
        assert_eq!(lowered(most, &wants(u64::MAX)), most);
        let less = lowered(most, &wants(10));
        assert_eq!((less.memory_bytes, less.pids, less.output_bytes), (10, 10, 10));
        assert_eq!((less.wall, less.cpu), (Duration::from_millis(10), Duration::from_millis(10)));
        assert_eq!(lowered(most, &wants(0)).pids, 1);
    }
}
