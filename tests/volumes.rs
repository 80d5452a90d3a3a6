//! A state directory that cannot be written to, and one that another host still has.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use bulkhead_api::{Health, Readiness};
use harness::host::{CLEAN, Launch, command, run_to_end};
use harness::{Host, HostBuilder, Need, Value, files, json, skip};
use rustix::process::{Pid, Signal, kill_process};

fn builder() -> HostBuilder {
    Host::builder().role("plain", "echo", "workspace = false")
}

/// What holds of a host that can keep nothing: it works, and says so.
fn works_and_says_that_nothing_is_durable(host: &Host, named: &[&str]) {
    let line = host.wait_for_line("that nothing is durable", |line| {
        line["event"] == "container.store_unavailable"
    });
    for name in named {
        assert!(line["reason"].to_string().contains(name), "{name}: {line}");
    }
    let health: Health = host.client().get("/health").read(200);
    assert_eq!((health.store.as_deref(), &*health.status), (Some("lost"), "degraded"));
    let ready: Readiness = host.client().get("/readyz").read(200);
    assert_eq!((&*ready.status, ready.store.as_deref()), ("ready", Some("lost")), "{ready:?}");
    assert_eq!(ready.store_error.as_deref(), line["reason"].as_str(), "{ready:?}");
    host.client().get("/readyz?strict=true").expect_error(503, &["not durable"]);
    assert_eq!(host.client().metrics()["bulkhead_durable"], 0.0);
    let url = format!("http://{}", host.address());
    let page = Command::new(files::binary()).args(["status", "--url", &url]).output();
    let page = String::from_utf8(page.expect("run bulkhead").stdout).expect("text");
    let store = page.lines().find(|line| line.starts_with("store ")).expect("a line");
    assert!(named.iter().all(|name| store.contains(name)), "{page}");
    host.client().start("one", "plain");
    assert_eq!(host.client().ask("one", "hi"), "hi");
}

#[test]
fn on_a_read_only_volume_the_host_works_and_nothing_is_durable() {
    const ENTRANCE: [&str; 6] = [
        "unshare",
        "--mount",
        "sh",
        "-c",
        "mount -t tmpfs -o ro,size=1m disk \"$PWD/state\" && exec \"$@\"",
        "sh",
    ];
    let dir = tempfile::tempdir().expect("make a directory");
    std::fs::create_dir(dir.path().join("state")).expect("make a directory");
    let mut probe = Command::new(ENTRANCE[0]);
    let probe = probe.args(&ENTRANCE[1..]).arg("true").current_dir(dir.path()).output();
    if !probe.is_ok_and(|output| output.status.success()) {
        return skip(Need::Mount, "it takes the right to mount a disk");
    }
    let host = Host::start_with(Launch::default().run_by(&ENTRANCE), |state| {
        std::fs::create_dir(state).expect("make the state directory");
        builder().open().render(state)
    })
    .ready();
    works_and_says_that_nothing_is_durable(&host, &["Read-only"]);
    host.finish();
}

#[test]
fn where_permission_is_missing_the_host_works_and_names_owner_and_mode() {
    let Some(launch) = Launch::default().by_user(65_532) else {
        return skip(Need::Root, "it takes root, setpriv, and a binary that everybody may run");
    };
    let host = Host::start_with(launch, |state| {
        let dir = state.parent().expect("a directory");
        std::os::unix::fs::chown(dir, Some(65_532), None).expect("give it away");
        std::fs::create_dir(state).expect("make the state directory");
        builder().open().render(state)
    })
    .ready();
    let named = ["Permission denied", "owner 0", "mode 0755", "uid 65532"];
    works_and_says_that_nothing_is_durable(&host, &named);
    // A workspace needs the disk. The error says which, whose it is, and what to do.
    let folder = host.workspace("two").display().to_string();
    let what_to_do = "set `workspace = false`";
    let refused = host.client().start_with("two", "echo", json!({}));
    refused.expect_error(500, &[&named[..], &[&folder, what_to_do]].concat());
    host.finish();
}

#[test]
fn a_directory_with_files_of_others_is_refused_as_it_is_by_run_and_check() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().expect("make a directory");
    let state = dir.path().join("home");
    std::fs::create_dir(&state).expect("make a directory");
    std::fs::write(state.join("notes.txt"), "precious").expect("write a file");
    let config = dir.path().join("bulkhead.toml");
    for (place, mode, said) in [
        (state.as_path(), 0o755, "notes.txt"),
        (&state, 0o1777, "sticky, mode 1777"),
        (Path::new("/"), 0, "root of the file system"),
        (&state.join("notes.txt"), 0, "not a directory"),
    ] {
        if mode != 0 {
            let mode = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(place, mode).expect("set the mode");
        }
        let before = place.metadata().expect("it is there").permissions().mode();
        std::fs::write(&config, builder().render(place)).expect("write the configuration");
        let refused = run_to_end(&config, &[]);
        assert_eq!(refused.code, Some(1), "{refused:?}");
        let named = [&*place.display().to_string(), said, "new or an empty directory"];
        assert!(named.iter().all(|name| refused.stderr.contains(name)), "{refused:?}");
        let mut checked = Command::new(files::binary());
        let checked = checked.args(["check", "--config"]).arg(&config).output();
        let checked = checked.expect("run bulkhead");
        let text = String::from_utf8_lossy(&checked.stdout);
        assert_eq!(checked.status.code(), Some(2), "{text}");
        assert!(named.iter().all(|name| text.contains(name)), "{text}");
        let mut compiled = Command::new(files::binary());
        let compiled = compiled.args(["compile", "--config"]).arg(&config).output();
        let compiled = compiled.expect("run bulkhead");
        let text = String::from_utf8_lossy(&compiled.stderr);
        assert_eq!(compiled.status.code(), Some(1), "{text}");
        assert!(text.contains(said), "{text}");
        let after = place.metadata().expect("it is there").permissions().mode();
        assert_eq!(before, after);
    }
    assert_eq!(std::fs::read_dir(&state).expect("list it").count(), 1);
}

/// Of a host that got no black box and no database before its disk was full.
#[test]
fn what_a_host_leaves_is_no_file_of_others() {
    let mut first = builder().start();
    first.client().start("one", "echo");
    assert_eq!(first.client().ask("one", "hello"), "hello");
    first.signal(Signal::TERM);
    first.wait();
    for mark in ["blackbox", "blackbox.previous", "store/bulkhead.db"] {
        let _ = std::fs::remove_file(first.state_dir().join(mark));
    }
    first.restart().ready().finish();
}

#[test]
fn what_run_would_refuse_is_found_by_check() {
    let dir = tempfile::tempdir().expect("make a directory");
    let config = dir.path().join("bulkhead.toml");
    let none = dir.path().join("none").display().to_string();
    let text = builder().render(&dir.path().join("state"));
    let mut table: toml::Table = text.parse().expect("TOML");
    let server = table.entry("server").or_insert(toml::Value::Table(toml::Table::new()));
    let server = server.as_table_mut().expect("a table");
    for key in ["listen", "probe_listen"] {
        server.insert(key.into(), "127.0.0.1:18".into());
    }
    let evidence = format!("sink = \"file://{none}\"\nname = \"a\"").parse::<toml::Table>();
    table.insert("evidence".into(), evidence.expect("TOML").into());
    std::fs::write(&config, table.to_string()).expect("write the configuration");
    let checked = Command::new(files::binary()).args(["check", "--config"]).arg(&config).output();
    let checked = checked.expect("run bulkhead");
    let text = String::from_utf8_lossy(&checked.stdout);
    assert_eq!(checked.status.code(), Some(2), "{text}");
    for line in ["127.0.0.1:18 of server.probe_listen", &format!("evidence.sink: {none} is not")] {
        assert!(text.contains(line), "{line}: {text}");
    }
}

/// A second host with the configuration of a first one.
struct Second {
    child: Child,
    lines: Box<dyn Iterator<Item = String>>,
}

impl Second {
    fn start(host: &Host) -> Self {
        let mut command = command(&host.dir().join("bulkhead.toml"), host.dir());
        command.args(["--wait-for-state", "60s"]).stderr(Stdio::piped());
        let mut child = command.spawn().expect("start it");
        let stderr = child.stderr.take().expect("stderr is a pipe");
        let said = BufReader::new(stderr).lines().map_while(Result::ok).next();
        let said = said.expect("it says that it waits");
        let first = format!("process {}", host.pid());
        assert!(said.contains("waiting") && said.contains(&first), "{said}");
        let stdout = BufReader::new(child.stdout.take().expect("stdout is a pipe"));
        Self { child, lines: Box::new(stdout.lines().map_while(Result::ok)) }
    }

    fn end(&mut self) -> Option<i32> {
        kill_process(Pid::from_child(&self.child), Signal::TERM).expect("end it");
        self.lines.by_ref().for_each(drop);
        self.child.wait().expect("wait for it").code()
    }
}

impl Drop for Second {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_host_that_waits_takes_over_when_the_one_before_has_ended() {
    let mut host = builder().start().ready();
    let refused = run_to_end(&host.dir().join("bulkhead.toml"), &[]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    let first = format!("process {}", host.pid());
    assert!(refused.stderr.contains(&first), "{}", refused.stderr);
    // One that is asked to end while it waits ends.
    assert_eq!(Second::start(&host).end(), Some(CLEAN));
    let mut second = Second::start(&host);
    let run = host.lines()[0]["runId"].clone();
    host.signal(Signal::TERM);
    host.wait();
    let line: Value = second
        .lines
        .by_ref()
        .filter_map(|line| serde_json::from_str(&line).ok())
        .find(|line: &Value| line["event"] == "container.previous_run")
        .expect("it takes over");
    assert_eq!((&line["previousRunId"], &line["cause"]), (&run, &json!("clean")), "{line}");
    assert_eq!(second.end(), Some(CLEAN));
}
