//! The same guest fills its workspace, and hangs on its disk.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use harness::processes::thread_cpu;
use harness::{Host, HostBuilder, wait_until};

use super::MIB;

/// A host with agents whose workspace has 4 MiB and 100 entries.
fn host() -> Host {
    let role = "workspace_mb = 4\nworkspace_entries = 100";
    Host::builder().guest("hog").role("small", "hog", role).start()
}

fn refused(host: &Host, by: &str) -> f64 {
    host.client().metrics()
        [format!("bulkhead_workspace_writes_refused_total{{by=\"{by}\"}}").as_str()]
}

#[test]
fn a_workspace_takes_so_many_bytes_and_entries_and_no_more() {
    let host = host();
    host.client().start("full", "small");
    let ask = |message: &str| host.client().ask("full", message);
    let reply = ask("fill 1024 10");
    // Rust's standard library has no other word for a stream that failed than I/O error.
    assert!(reply.starts_with("4096: "), "{reply}");
    assert_eq!(refused(&host, "quota"), 1.0);
    // Five names are taken: of four files, and of the fifth that found no room for its bytes.
    let reply = ask("make 200");
    assert!(reply.starts_with("95: ") && reply.to_lowercase().contains("space"), "{reply}");
    assert_eq!(ask("empty"), "0");
    assert_eq!(ask("fill 4096 1"), "4096");
    assert_eq!(ask("empty"), "0");
    let reply = ask("make 200");
    assert!(reply.starts_with("100: "), "{reply}");
    host.finish();
}

#[test]
fn what_has_no_name_any_more_counts_while_it_is_open() {
    let host = host();
    host.client().start("full", "small");
    let ask = |message: &str| host.client().ask("full", message);
    assert_eq!(ask("unlinked 4096"), "4096");
    let reply = ask("fill 64 1");
    assert!(reply.starts_with("0: "), "{reply}");
    assert_eq!(ask("drop"), "dropped");
    assert_eq!(ask("fill 4096 1"), "4096");
    host.finish();
}

#[test]
fn what_is_there_already_counts_for_each_incarnation() {
    let host = host();
    let workspace = host.workspace("full");
    std::fs::create_dir_all(workspace.join("before")).expect("make a directory");
    std::fs::write(workspace.join("before/large"), vec![1; 3 * MIB as usize])
        .expect("write a file");
    for incarnation in 1..=2 {
        host.client().start("full", "small");
        let reply = host.client().ask("full", "fill 4096 1");
        // A block is the directory's.
        let left = if incarnation == 1 { "960: " } else { "0: " };
        assert!(reply.starts_with(left), "{reply}");
        host.client().stop("full").expect(200);
    }
    host.finish();
}

/// Becomes its arguments where a disk of 96 MiB with 3,000 inodes lies over `state`.
const ENTRANCE: [&str; 6] = [
    "unshare",
    "--mount",
    "sh",
    "-c",
    "mount -t tmpfs -o size=96m,nr_inodes=3000,mode=700 disk \"$PWD/state\" && exec \"$@\"",
    "sh",
];

fn cannot_mount() -> Option<String> {
    let dir = tempfile::tempdir().expect("make a directory");
    std::fs::create_dir(dir.path().join("state")).expect("make a directory");
    let mut command = Command::new(ENTRANCE[0]);
    match command.args(&ENTRANCE[1..]).arg("true").current_dir(dir.path()).output() {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Err(error) => Some(format!("run unshare: {error}")),
    }
}

fn on_a_small_disk(builder: HostBuilder) -> Host {
    Host::start_with(builder.launch().run_by(&ENTRANCE), |state| {
        std::fs::create_dir(state).expect("make the state directory");
        builder.render(state)
    })
}

#[test]
fn agents_leave_the_host_what_it_needs_of_the_disk() {
    if let Some(why) = cannot_mount() {
        harness::skip(harness::Need::Mount, &why);
        return;
    }
    let builder = Host::builder()
        .guest("hog")
        .toml("[state]\nkeep_free_mb = 24\nkeep_free_inodes = 1000")
        .guest("trap")
        .role("hog", "hog", "workspace_entries = 100000")
        .role("frail", "trap", "");
    let mut host = on_a_small_disk(builder);
    for (message, free) in [("fill 65536 4", true), ("make 10000", false)] {
        host.client().start("evil", "hog");
        let reply = host.client().ask("evil", message);
        assert!(reply.contains(": "), "{message} was all taken: {reply}");
        let state = host.state_dir();
        let state: PathBuf = format!("/proc/{}/root{}", host.pid(), state.display()).into();
        let disk = rustix::fs::statvfs(&state).expect("look at the disk");
        let (bytes, inodes) = (disk.f_bavail * disk.f_frsize, disk.f_favail);
        if free {
            assert!(bytes >= 20 * MIB, "{bytes} bytes are left");
        } else {
            assert!(inodes >= 900, "{inodes} inodes are left");
        }
        // Others start, work, crash with a record, and stop.
        let name = format!("other-{free}");
        host.client().start(&name, "echo");
        assert_eq!(host.client().ask(&name, "hello"), "hello");
        host.client().start("frail", "frail");
        host.client().send_wait("frail", "panic").expect_error(502, &["told to panic"]);
        wait_until("the record is there", || {
            host.crashes().iter().any(|it| it["agentId"] == "frail")
        });
        host.client().stop(&name).expect(200);
        // The evil one can make room, also when the disk takes nothing.
        assert_eq!(host.client().ask("evil", "empty"), "0");
        host.client().stop("evil").expect(200);
    }
    assert!(refused(&host, "disk") >= 2.0);
    assert!(host.is_running());
    host.finish();
}

#[test]
fn what_file_calls_take_is_charged_to_their_agent() {
    let host = Host::builder().guest("hog").role("busy", "hog", "").start();
    host.client().start("busy", "busy");
    let charged = || Duration::from_micros(host.client().status("busy").cpu_us);
    // Of the fast lane, and of the slow one with its workers.
    let threads = ["bulkhead-files", "bulkhead-slow"];
    let on_threads = || threads.map(|name| thread_cpu(host.pid(), name)).iter().sum::<Duration>();
    let before = (charged(), on_threads());
    wait_until("the threads were busy for a while", || {
        assert_eq!(host.client().ask("busy", "make 500"), "500");
        assert_eq!(host.client().ask("busy", "empty"), "0");
        on_threads() >= before.1 + Duration::from_millis(300)
    });
    // In this order: what is charged is read last, and nothing runs meanwhile.
    let used = on_threads() - before.1;
    let charged = charged() - before.0;
    println!("{charged:.2?} are charged, of {used:.2?} that the threads used");
    assert!(charged >= used / 2, "{charged:?} of {used:?}");
    host.finish();
}

/// How long a host call may take where the disk hangs, in milliseconds.
const HOST_CALL_MS: u64 = 300;

#[test]
fn a_disk_that_hangs_holds_up_nobody_but_those_that_ask_it() {
    let role = format!("host_call_ms = {HOST_CALL_MS}\nmemory_limit_mb = 16");
    // Its disk is the machine's, which may be busy: it has the usual time.
    let host = Host::builder()
        .guest("hog")
        .role("hog", "hog", &role)
        .role("writer", "hog", "memory_limit_mb = 16")
        .start();
    host.client().start("well", "echo");
    host.client().start("writer", "writer");
    // A pipe that nobody writes to: a process that opens it waits in the kernel.
    let hang = |agent: &str| {
        let workspace = host.workspace(agent);
        std::fs::create_dir_all(&workspace).expect("make the workspace");
        let pipe = workspace.join("pipe");
        let made = rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, 0o600.into());
        assert!(made.is_ok() || pipe.exists(), "{made:?}");
        pipe
    };
    let pipes: Vec<PathBuf> = (0..4).map(|n| hang(&format!("stuck-{n}"))).collect();
    for round in 1..=3 {
        for n in 0..pipes.len() {
            let agent = format!("stuck-{n}");
            host.client().start(&agent, "hog");
            host.client().send(&agent, "open pipe").expect(200);
        }
        // Others answer meanwhile, with files and without.
        let began = Instant::now();
        assert_eq!(host.client().ask("well", "hello"), "hello");
        assert_eq!(host.client().ask("writer", "fill 64 1"), "64");
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        for n in 0..pipes.len() {
            let agent = format!("stuck-{n}");
            let crash = host.wait_for_line("its end", |line| {
                line["event"] == "agent.crash"
                    && line["agentId"] == *agent
                    && line["incarnation"] == round
            });
            assert_eq!(crash["reason"], "host_call_timeout", "{crash}");
            assert_eq!(
                crash["hostCall"], "wasi:filesystem/types.[method]descriptor.open-at",
                "{crash}"
            );
        }
    }
    // Their stores stay until the disk answers, and go then.
    let stores = || host.client().metrics()["bulkhead_stores"];
    assert_eq!(stores(), 2.0 + 3.0 * pipes.len() as f64);
    for pipe in &pipes {
        let flags = rustix::fs::OFlags::RDWR;
        drop(rustix::fs::open(pipe, flags, rustix::fs::Mode::empty()).expect("open the pipe"));
    }
    wait_until("the stores are gone", || stores() == 2.0);
    host.finish();
}
