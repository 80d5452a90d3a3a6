//! The tests' launcher, and with `host <mark>` a host that they kill: it starts tools called `<mark>` until then.

use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    match (args.next().as_deref(), args.next()) {
        (Some("host"), Some(mark)) => host(&mark),
        _ => bulkhead_tools::serve(),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn host(mark: &str) -> ExitCode {
    let program = std::env::current_exe().expect("a program");
    let settings = bulkhead_tools::Settings::default();
    let launcher =
        bulkhead_tools::Launcher::start(Command::new(program), &settings).expect("a launcher");
    println!("{}", launcher.id());
    let (tools, driver) = launcher.connect().expect("a runtime");
    let mut command = bulkhead_tools::Command::new("/usr/bin/env");
    let script = format!("$0 = '{mark}'; fork; sleep 1000");
    command.args = vec!["perl".into(), "-e".into(), script.into()];
    command.env = vec![("PATH".into(), "/usr/bin:/bin".into())];
    let start = async {
        let mut children = Vec::new();
        loop {
            match tools.spawn(&command).await {
                Ok(child) => children.push(child),
                Err(_) => std::future::pending().await,
            }
        }
    };
    tokio::select! {
        () = start => {}
        _ = driver => {}
    }
    ExitCode::FAILURE
}
