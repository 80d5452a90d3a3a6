//! The disk of the log is full for a while, again and again.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use harness::client::Client;
use harness::host::CLEAN;
use harness::{Host, Need, Value, wait_until};
use rustix::process::{Pid, Signal, kill_process};

/// Becomes its arguments, with stdout in a file on a small disk that lies over `disk` in the working directory.
const ENTRANCE: [&str; 5] = [
    "--mount",
    "sh",
    "-c",
    "mount -t tmpfs -o size=2m,mode=700 disk \"$PWD/disk\" && exec \"$@\" >>disk/log",
    "sh",
];

/// Times that the disk is full. In between there is room for a few lines, and never for a whole number of them.
const ROUNDS: usize = 12;

struct Run {
    child: Child,
    /// The disk as the host sees it.
    disk: PathBuf,
    state_dir: PathBuf,
}

impl Run {
    fn start(dir: &Path) -> Self {
        let config = dir.join("bulkhead.toml");
        fs::create_dir(dir.join("disk")).expect("make a directory");
        fs::write(&config, Host::builder().render(&dir.join("state"))).expect("write");
        let host = harness::host::command(&config, dir);
        let mut command = Command::new("unshare");
        command.args(ENTRANCE).arg(host.get_program()).args(host.get_args()).current_dir(dir);
        for (name, _) in host.get_envs() {
            command.env_remove(name);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit());
        let child = command.spawn().expect("start the host");
        let root = PathBuf::from(format!("/proc/{}/root", child.id()));
        let disk = dir.join("disk");
        let disk = root.join(disk.strip_prefix("/").expect("an absolute path"));
        Self { disk, state_dir: dir.join("state"), child }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.disk.join("log")).unwrap_or_default()
    }

    fn client(&self) -> Client {
        wait_until("it listens", || self.log().contains("container.cold_start\""));
        let log = self.log();
        let line = log.lines().find(|line| line.contains("container.cold_start\""));
        let line: Value = serde_json::from_str(line.expect("the line")).expect("JSON");
        let listen = line["listen"].as_str().expect("an address");
        let listen = listen.strip_prefix("http://").unwrap_or(listen);
        Client::new(listen.parse().expect("an address"), &self.state_dir)
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_log_on_a_disk_that_is_full_for_a_while_has_whole_lines_and_says_how_many_are_missing() {
    if let Some(reason) = super::full_disk::missing() {
        return harness::skip(Need::Mount, &reason);
    }
    let dir = tempfile::tempdir().expect("make a directory");
    let mut run = Run::start(dir.path());
    let client = run.client();
    wait_until("it is ready", || {
        client.try_request(hyper::Method::GET, "/readyz", "").is_ok_and(|it| it.status == 200)
    });
    let filler = run.disk.join("filler");
    for round in 0..ROUNDS {
        let mut file = File::create(&filler).expect("make a file");
        let block = vec![b'x'; 4096];
        while file.write_all(&block).is_ok() {}
        // Room for a page or two: lines end where they end.
        let bytes = file.metadata().expect("its size").len();
        file.set_len(bytes - 4096 * (1 + round as u64 % 2)).expect("make room");
        for _ in 0..40 {
            client.start("one", "echo");
            client.stop("one").expect(200);
        }
    }
    fs::remove_file(&filler).expect("remove the file");
    client.start("last", "echo");
    wait_until("the log goes on", || run.log().contains("\"agentId\":\"last\""));
    let text = {
        kill_process(Pid::from_child(&run.child), Signal::TERM).expect("send a signal");
        // The disk goes with the host.
        let mut log = File::open(run.disk.join("log")).expect("open the log");
        assert_eq!(run.child.wait().expect("its end").code(), Some(CLEAN));
        std::io::read_to_string(&mut log).expect("read the log")
    };
    let lines: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    let seqs: Vec<u64> = lines.iter().map(|line| line["seq"].as_u64().expect("a number")).collect();
    assert!(seqs.is_sorted_by(|one, next| one < next), "{seqs:?}");
    let last = lines.last().expect("lines");
    assert_eq!(last["event"], "container.stopped", "{last}");
    let missing = seqs.last().expect("lines") + 1 - seqs.len() as u64;
    assert!(missing > 20, "the disk was full: {missing}");
    assert_eq!(last["droppedLines"], missing);
}
