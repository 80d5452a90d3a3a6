//! A program that knows nothing of Bulkhead: it exports `wasi:cli/run` only. Its run is its incarnation.
//!
//! It prints a line to stdout and one to stderr, then the names in its workspace. With the variable `COMMAND_CALLS` it
//! makes so many file calls of each kind and prints what one takes. Exit reason: `completed`, `guest_exit` when the
//! variable `COMMAND_EXIT` is `fail`, or `panic` when it is `panic`.

mod calls;

use std::process::ExitCode;

/// The one directory that a host gives an agent.
const WORKSPACE: &str = "/workspace";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    println!("command ran with arguments: {arguments:?}");
    eprintln!("command wrote to stderr");
    match names() {
        Ok(names) => println!("workspace holds: {}", names.join(", ")),
        Err(error) => eprintln!("read {WORKSPACE}: {error}"),
    }
    if let Some(count) = std::env::var("COMMAND_CALLS").ok().and_then(|count| count.parse().ok())
        && let Err(error) = calls::measure(WORKSPACE.as_ref(), count)
    {
        eprintln!("measure file calls: {error}");
        return ExitCode::FAILURE;
    }
    match std::env::var("COMMAND_EXIT").as_deref() {
        Ok("fail") => ExitCode::FAILURE,
        Ok("panic") => panic!("told to panic"),
        _ => ExitCode::SUCCESS,
    }
}

fn names() -> std::io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(WORKSPACE)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}
