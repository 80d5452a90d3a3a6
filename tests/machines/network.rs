//! Machines as network namespaces, each with a cable to the bridge of this process' own namespace, where the engine is.
//!
//! ```text
//!   machine 0: eth0 10.97.0.10 ──┐
//!   machine 1: eth0 10.97.0.11 ──┼── bridge 10.97.0.1: etcd, bucket
//!   machine 2: eth0 10.97.0.12 ──┘
//!   each: eth1 10.98.N.2 ─────────── 10.98.N.1: the clients, whom no fault keeps away
//! ```
//!
//! A cable is cut by a queue that throws away what is sent (`tc qdisc … blackhole`), on one of its ends or on both. Neither
//! side is told: requests vanish, or only their answers do. Other ways do not work everywhere: `netem` is a module that a
//! kernel may lack, filters that drop are two, and a blackhole route tells the sender at once.

use std::io::Write;
use std::process::{Child, Command, Stdio};

use harness::{launcher, wait_until};

/// Where the engine is.
pub const ENGINE: &str = "10.97.0.1";

/// A namespace, with its cable. It is gone with the last of its processes.
pub struct Namespace {
    number: usize,
    /// Is there for the namespace alone.
    holder: Child,
    cuts: [u32; 2],
}

/// What does not come through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// What the machine sends.
    Out,
    /// What is sent to it.
    In,
    Both,
}

/// Runs a command, which has to succeed.
#[track_caller]
fn run(line: &str) {
    let words: Vec<&str> = line.split(' ').collect();
    let output = Command::new(words[0]).args(&words[1..]).output().expect(line);
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
}

/// The same of `ip`, line by line.
#[track_caller]
fn ip(by: &[&str], lines: &str) {
    let words = [by, &["ip", "-batch", "-"]].concat();
    let mut child = Command::new(words[0]);
    let mut child = child.args(&words[1..]).stdin(Stdio::piped()).spawn().expect("run ip");
    child.stdin.take().expect("a pipe").write_all(lines.as_bytes()).expect("write to ip");
    assert!(child.wait().expect("its end").success(), "{lines}");
}

/// The bridge, in a namespace that this process has for itself.
pub fn lay_out() {
    ip(
        &[],
        &format!(
            "link set lo up\nlink add br0 type bridge\naddr add {ENGINE}/24 dev br0\nlink set br0 up\n"
        ),
    );
}

impl Namespace {
    pub fn new(number: usize) -> Self {
        let mut command = Command::new("unshare");
        command.args(["--net", "sleep", "infinity"]).stdin(Stdio::null());
        let holder = launcher::spawn_bound(command).expect("make a namespace");
        let own = std::fs::read_link("/proc/self/ns/net").expect("a namespace");
        let path = format!("/proc/{}/ns/net", holder.id());
        wait_until("it has a namespace", || std::fs::read_link(&path).is_ok_and(|it| it != own));
        let (n, pid) = (number, holder.id());
        ip(
            &[],
            &format!(
                "link add m{n} type veth peer name eth0 netns {pid}\nlink set m{n} master br0 up\n\
                 link add c{n} type veth peer name eth1 netns {pid}\naddr add 10.98.{n}.1/24 dev c{n}\nlink set c{n} up\n"
            ),
        );
        let namespace = Self { number, holder, cuts: [0; 2] };
        let entrance = namespace.entrance();
        let by: Vec<&str> = entrance.iter().map(String::as_str).collect();
        ip(
            &by,
            &format!(
                "link set lo up\naddr add 10.97.0.{}/24 dev eth0\nlink set eth0 up\naddr add 10.98.{n}.2/24 dev eth1\n\
                 link set eth1 up\n",
                10 + n
            ),
        );
        namespace
    }

    /// A command that becomes its arguments, in the namespace.
    pub fn entrance(&self) -> Vec<String> {
        let pid = self.holder.id().to_string();
        ["nsenter", "-t", &pid, "-n", "--"].map(str::to_owned).to_vec()
    }

    /// Where clients reach it.
    pub fn address(&self) -> String {
        format!("10.98.{}.2", self.number)
    }

    pub fn cut(&mut self, way: Way) {
        for end in ends(way) {
            self.cuts[end] += 1;
            if self.cuts[end] == 1 {
                run(&format!("{} root blackhole", self.queue(end, "add")));
            }
        }
    }

    pub fn mend(&mut self, way: Way) {
        for end in ends(way) {
            self.cuts[end] -= 1;
            if self.cuts[end] == 0 {
                run(&format!("{} root", self.queue(end, "del")));
            }
        }
    }

    fn queue(&self, end: usize, verb: &str) -> String {
        match end {
            0 => format!("{} tc qdisc {verb} dev eth0", self.entrance().join(" ")),
            _ => format!("tc qdisc {verb} dev m{}", self.number),
        }
    }
}

fn ends(way: Way) -> Vec<usize> {
    match way {
        Way::Out => vec![0],
        Way::In => vec![1],
        Way::Both => vec![0, 1],
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
