//! A process ends at its fence, and at nothing before it. Each case is a process of its own: this test, run by itself.

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use bulkhead_fence::{Fenced, epoch, left, now, pass, put};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const CASE: &str = "BULKHEAD_FENCE_CASE";
const SIGKILL: i32 = 9;
const HOUR_NS: u64 = 3_600_000_000_000;

/// Says what the case wrote, and how it ended.
fn ends(case: &str) -> (String, ExitStatus) {
    let mut command = Command::new(std::env::current_exe().expect("path of this test"));
    command.args(["--exact", "case", "--ignored", "--nocapture"]).env(CASE, case);
    let output = command.stderr(Stdio::null()).output().expect("run the case");
    let text = String::from_utf8_lossy(&output.stdout);
    let said = text.lines().filter(|line| line.starts_with("said: "));
    (said.collect::<Vec<_>>().join("\n"), output.status)
}

#[test]
fn without_a_lease_there_is_no_fence() {
    let (said, status) = ends("none");
    assert_eq!((said.as_str(), status.code()), ("said: None None", Some(0)));
}

#[test]
fn before_the_moment_everything_passes() {
    let (said, status) = ends("before");
    assert_eq!((said.as_str(), status.code()), ("said: Some(7) true", Some(0)));
}

#[test]
fn from_the_moment_on_nothing_is_written() {
    for case in ["behind", "frozen", "moved"] {
        let (said, status) = ends(case);
        assert_eq!((said.as_str(), status.signal()), ("said: begun", Some(SIGKILL)), "{case}");
    }
}

#[test]
fn a_stream_is_silent_behind_the_fence() {
    let (said, status) = ends("stream");
    assert_eq!((said.as_str(), status.signal()), ("said: \"before\"", Some(SIGKILL)));
}

#[test]
#[ignore = "run by the others"]
fn case() {
    match std::env::var(CASE).as_deref() {
        Ok("none") => {
            pass();
            println!("\nsaid: {:?} {:?}", epoch(), left());
        }
        Ok("before") => {
            put(7, now() + HOUR_NS);
            pass();
            println!("\nsaid: {:?} {}", epoch(), left().is_some_and(|left| left > HOUR_NS / 2));
        }
        Ok("behind") => {
            println!("\nsaid: begun");
            put(1, now());
            pass();
            println!("\nsaid: behind the fence");
        }
        // What a thaw looks like: the moment passed while nothing ran.
        Ok("frozen") => {
            println!("\nsaid: begun");
            put(1, now() + 20_000_000);
            std::thread::sleep(Duration::from_millis(40));
            pass();
            println!("\nsaid: behind the fence");
        }
        // A renewal that comes too late does not help.
        Ok("moved") => {
            println!("\nsaid: begun");
            put(1, now());
            put(1, now() + HOUR_NS);
            println!("\nsaid: behind the fence");
        }
        Ok("stream") => stream(),
        _ => panic!("no such case"),
    }
}

fn stream() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        put(1, now() + HOUR_NS);
        let (ours, mut theirs) = tokio::io::duplex(64);
        let mut ours = Fenced(ours);
        ours.write_all(b"before").await.expect("write before the fence");
        let mut bytes = [0; 6];
        theirs.read_exact(&mut bytes).await.expect("read it");
        println!("\nsaid: {:?}", String::from_utf8_lossy(&bytes));
        put(1, now());
        let _ = ours.write_all(b"behind").await;
        println!("\nsaid: behind the fence");
    });
}
