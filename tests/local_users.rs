//! Other users of the machine: what they can read of a host, and what they can leave in its way.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use harness::host::{Launch, run_to_end};
use harness::{Host, HostBuilder, Need, files, json, skip};
use rustix::process::{Signal, geteuid};

/// A user who is not the one of the tests, and has nothing.
const OTHER: u32 = 65_534;

fn builder() -> HostBuilder {
    Host::builder().guest("puppet").role(
        "puppet",
        "puppet",
        "restart = \"transient\"\nworkspace = true",
    )
}

/// Every path below a directory.
fn below(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).expect("a directory").flatten() {
        found.push(entry.path());
        if entry.file_type().expect("its type").is_dir() {
            found.extend(below(&entry.path()));
        }
    }
    found
}

#[test]
fn what_a_host_makes_is_for_its_user_alone() {
    let mut host = builder().start().ready();
    host.client().start("one", "puppet");
    host.client().ask("one", "hi");
    host.signal(Signal::TERM);
    host.wait();
    let paths = below(&host.state_dir());
    assert!(paths.contains(&host.workspace("one")), "{paths:?}");
    assert!(paths.iter().any(|path| path.ends_with("store/bulkhead.db")), "{paths:?}");
    for path in paths.iter().chain([&host.state_dir()]) {
        let mode = path.metadata().expect("it is there").mode() & 0o777;
        assert_eq!(mode & 0o077, 0, "{} has mode {mode:o}", path.display());
    }
    host.restart().ready().finish();
}

#[test]
fn what_somebody_planted_in_the_state_directory_is_not_followed() {
    if !geteuid().is_root() {
        return skip(Need::Root, "it takes root to make a directory that is somebody else's");
    }
    let dir = tempfile::tempdir().expect("make a directory");
    let (state, victim) = (dir.path().join("state"), dir.path().join("victim"));
    fs::create_dir(&state).expect("make a directory");
    fs::write(&victim, "precious").expect("write a file");
    let config = dir.path().join("bulkhead.toml");
    fs::write(&config, builder().render(&state)).expect("write the configuration");
    let refused = |named: &[&str]| {
        let ended = run_to_end(&config, &[]);
        assert_eq!(ended.code, Some(1), "{ended:?}");
        for name in named {
            assert!(ended.stderr.contains(name), "{name}: {}", ended.stderr);
        }
        assert_eq!(fs::read_to_string(&victim).expect("the victim"), "precious");
    };
    let set_mode =
        |mode| fs::set_permissions(&state, PermissionsExt::from_mode(mode)).expect("set it");
    // It is somebody else's.
    set_mode(0o777);
    lchown(&state, Some(OTHER), None).expect("give it away");
    refused(&["owner 65534", "mode 0777", "uid 0"]);
    // It was open to everybody, and somebody used that.
    lchown(&state, Some(0), None).expect("take it back");
    symlink(&victim, state.join("lock")).expect("make a link");
    refused(&["lock"]);
    fs::remove_file(state.join("lock")).expect("remove it");
    symlink(dir.path(), state.join("workspaces")).expect("make a link");
    lchown(state.join("workspaces"), Some(OTHER), None).expect("give it away");
    refused(&["workspaces", "uid 65534"]);
}

/// Runs what follows as the other user.
const AS_OTHER: [&str; 5] =
    ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs"];

#[test]
fn a_lock_that_another_user_holds_since_it_was_readable_keeps_no_host_away() {
    let has_flock = Command::new("flock").arg("--version").output().is_ok();
    if !geteuid().is_root()
        || !has_flock
        || Command::new(AS_OTHER[0]).arg("--version").output().is_err()
    {
        return skip(Need::Root, "it takes root, setpriv and flock");
    }
    // The second one leaves it to a child: the process that the kernel names is gone.
    for hold in [
        "exec flock --no-fork -x lock sh -c 'echo held; exec sleep 100'",
        "exec 9<lock; flock -x 9; echo held; exec sleep 100",
    ] {
        let dir = tempfile::tempdir().expect("make a directory");
        let state = dir.path().join("state");
        fs::create_dir(&state).expect("make a directory");
        fs::write(state.join("lock"), "7").expect("write a file");
        for open in [dir.path(), &state] {
            fs::set_permissions(open, PermissionsExt::from_mode(0o755)).expect("open it");
        }
        fs::set_permissions(state.join("lock"), PermissionsExt::from_mode(0o644)).expect("open it");
        let mut other = Command::new(AS_OTHER[0]);
        other.args(&AS_OTHER[1..]).args(["--", "sh", "-c", hold]).current_dir(&state);
        let mut other = other.stdout(Stdio::piped()).spawn().expect("run as another user");
        let mut said = String::new();
        let stdout = other.stdout.take().expect("a pipe");
        BufReader::new(stdout).read_line(&mut said).expect("read what it says");
        assert_eq!(said, "held\n");
        let link = state.clone();
        let mut host = Host::start(move |own| {
            fs::rename(&link, own).expect("give it to the host");
            builder().render(own)
        })
        .ready();
        host.client().start("one", "puppet");
        let lock = host.state_dir().join("lock").metadata().expect("it is there");
        assert_eq!(lock.mode() & 0o777, 0o600);
        // And no second one.
        let second = run_to_end(&host.dir().join("bulkhead.toml"), &[]);
        assert_eq!(second.code, Some(1), "{second:?}");
        assert!(
            second.stderr.contains(&format!("process {} uses it", host.pid())),
            "{}",
            second.stderr
        );
        let _ = other.kill();
        let _ = other.wait();
        host.signal(Signal::TERM);
        host.wait();
    }
}

#[test]
fn as_an_ordinary_user_it_hides_its_memory_and_sees_itself() {
    const AS: [&str; 7] = [
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        "--no-new-privs",
        "--pdeathsig=KILL",
        "--",
    ];
    let probe =
        Command::new(AS[0]).args(&AS[1..]).arg(harness::files::binary()).arg("--version").output();
    if !geteuid().is_root() || !probe.is_ok_and(|output| output.status.success()) {
        return skip(Need::Root, "it takes root, setpriv, and a binary that everybody may run");
    }
    let launch = Launch { args: vec!["--supervise".into()], ..Launch::default() }.run_by(&AS);
    let host = Host::start_with(launch, |state| {
        let dir = state.parent().expect("a directory");
        lchown(dir, Some(OTHER), None).expect("give it away");
        builder().render(state)
    })
    .ready();
    host.client().start("one", "puppet");
    assert_eq!(host.client().ask("one", "hi"), "hi");
    let pid = host.supervisor_pid().as_raw_nonzero();
    for pid in [host.pid().cast_signed(), pid.get()] {
        // The kernel gives what belongs to a process that hides its memory to root.
        let environment = fs::metadata(format!("/proc/{pid}/environ")).expect("it runs");
        assert_eq!(environment.uid(), 0, "process {pid}");
        let limits = fs::read_to_string(format!("/proc/{pid}/limits")).expect("it runs");
        let core = limits.lines().find(|line| line.starts_with("Max core file size"));
        assert!(core.is_some_and(|core| core.contains(" 0 ")), "{limits}");
    }
    // What the engine needs of its own memory was opened before.
    let open = fs::read_dir(format!("/proc/{pid}/fd")).expect("it runs").flatten();
    let open: Vec<_> = open.filter_map(|entry| fs::read_link(entry.path()).ok()).collect();
    assert!(open.iter().any(|path| path.ends_with("pagemap")), "{open:?}");
    assert!(host.client().metrics()["process_open_fds"] > 3.0);
    assert!(host.client().metrics()["process_resident_memory_bytes"] > 1e6);
    host.finish();
}

/// What the kernel says of a process, by name.
fn status(pid: i32, name: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_default().trim().to_owned()
}

#[test]
fn what_the_process_gave_up_is_logged_and_can_be_relaxed() {
    let host = builder().start().ready();
    let security = host.lines()[0]["security"].clone();
    let pid = host.pid().cast_signed();
    assert_eq!((&security["noNewPrivs"], &*status(pid, "NoNewPrivs")), (&json!(true), "1"));
    assert_eq!(security["debuggable"], false);
    if security["seccomp"] == "full" {
        assert_eq!(status(pid, "Seccomp"), "2");
    } else {
        host.wait_for_line("why not", |line| line["message"].to_string().contains("seccomp"));
    }
    host.finish();

    let off = "[security]\nlandlock = \"off\"\nseccomp = \"off\"\ndebuggable = true";
    let host = builder().toml(off).start().ready();
    let relaxed = host.lines()[0]["security"].clone();
    assert_eq!(
        (&relaxed["landlock"], &relaxed["seccomp"], &relaxed["debuggable"]),
        (&json!("off"), &json!("off"), &json!(true))
    );
    assert_eq!(status(host.pid().cast_signed(), "Seccomp"), "0");
    host.finish();

    let required = "[security]\nlandlock = \"required\"\nseccomp = \"required\"";
    let dir = tempfile::tempdir().expect("make a directory");
    let config = dir.path().join("bulkhead.toml");
    if security["landlock"] == "full" && security["seccomp"] == "full" {
        builder().toml(required).start().ready().finish();
    } else {
        let text = builder().toml(required).render(&dir.path().join("state"));
        fs::write(&config, text).expect("write the configuration");
        let ended = run_to_end(&config, &[]);
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.stderr.contains("\"required\""), "{}", ended.stderr);
    }
}

#[test]
fn a_component_is_read_where_it_is_replaced_or_comes_later() {
    let dir = tempfile::tempdir().expect("make a directory");
    let late = dir.path().join("later/echo.wasm");
    let host = Host::builder().component("late", &late).role("late", "late", "").start().ready();
    assert_ne!(host.client().start_with("one", "late", json!({})).status, 201);
    fs::create_dir(dir.path().join("later")).expect("make a directory");
    fs::copy(files::component("echo"), &late).expect("put it in its place");
    host.client().start("two", "late");
    assert_eq!(host.client().ask("two", "hi"), "hi");
    host.finish();
}

#[test]
fn a_secret_that_was_replaced_is_nowhere_in_the_state_directory() {
    let mut host = builder().start().ready();
    for secret in ["first-hunter2-0123456789", "second-hunter2-0123456789"] {
        let request = json!({"secrets": {"ANY": secret}});
        // What it says would be among its events, and these are kept.
        host.client().start_with("one", "puppet", request);
    }
    host.signal(Signal::TERM);
    host.wait();
    let mut held = 0;
    for path in below(&host.state_dir()).iter().filter(|path| path.is_file()) {
        let bytes = fs::read(path).expect("a file");
        let has = |secret: &[u8]| bytes.windows(secret.len()).any(|window| window == secret);
        assert!(!has(b"first-hunter2"), "{}", path.display());
        held += usize::from(has(b"second-hunter2"));
    }
    assert!(held > 0, "it looks in the right places");
}
