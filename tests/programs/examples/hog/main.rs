//! Makes the host hold as much as it can, one kind a message. Exit reason, where the host has no way to
//! refuse: `memory_limit`.
//!
//! | body | what it does | reply |
//! | --- | --- | --- |
//! | `log <n> <bytes>` | n log lines of that size | n |
//! | `events <n> <bytes>` | n events of that size | those that the host took |
//! | `mail <agent> <n> <bytes>` | n messages to an agent, itself for example | those that the host took |
//! | `files <n>` | opens n files, reads from each, and keeps them | those that it has, and what failed |
//! | `streams <n>` | writes n files at once, without waiting for any, then reads them at once | those that hold what was written |
//! | `fill <KiB> <n>` | writes so much to a new file, n times | the KiB that found room, and what failed |
//! | `make <n>` | makes n empty files | those that it made, and what failed |
//! | `unlinked <KiB>` | the same as `fill`, of a file that has no name any more, and keeps it | the same |
//! | `empty` | removes everything in its workspace | what is left |
//! | `deep <n>` | makes directories n deep and removes them all | n, or what failed |
//! | `open <name>` | opens a file | what failed, or `open` |
//! | `random <bytes>` | asks for so many random bytes at once | how many it got |
//! | `sleeps <n>` | n timers that it keeps | n |
//! | `fields <n>` | n sets of header fields, each as large as allowed | n |
//! | `bodies <n>` | n requests that are never sent, with as much body as the host takes | their bytes |
//! | `requests <n> <authority>` | n requests under way, with as much body as the host takes | those that the host let go |
//! | `fetch <n> <authority> <path>` | n answered requests one after the other, read to the end, all handles kept | the bytes that it read, or what failed |
//! | `storm <n> <authority>` | n requests one after the other, whatever comes of them | how many failed |
//! | `post <n> <authority> <path> <bytes> <length or chunked>` | n requests with such a body, in writes as large as the host takes | how many were answered, and what failed first |
//! | `peek <n> <authority> <path>` | the same without reading | the same |
//! | `lists <entries> <n>` | n lists of a directory with so many files | those that the host made |
//! | `sockets <n>` | n sockets | those that the host made |
//! | `tools <n> <bytes>` | says that it uses n tools with names of that size | n |
//! | `settings <n>` | reads its settings n times | n |
//! | `reply <bytes>` | | as long as that, or as much of it as the host keeps |
//! | `copy <bytes>` | an event of that size, past the bounds of the SDK | those that the host took |
//! | `snapshot <bytes>` | its snapshots are that large from now on | the bytes |
//! | `hold <KiB>` | takes so much memory of its own | what it has taken so |
//! | `pile <KiB>` | the same in many small pieces | the pieces |
//! | `panic` | panics | none |
//! | `drop` | drops what it kept | `dropped` |
//! | `memory` | | `<used> <host> <soft> <limit>` of `host.memory` |
//!
//! Any other body is answered with itself.

mod disk;
mod http;
mod streams;

use std::any::Any;
use std::fs::File;
use std::hint::black_box;
use std::io::Read;
use std::path::Path;

use bulkhead_guest::bindings::bulkhead::agent::host as raw;
use bulkhead_guest::{Agent, AgentError, Message, Outcome, host, info};
use wasip2::clocks::monotonic_clock::subscribe_duration;
use wasip2::random::random::get_random_bytes;
use wasip2::sockets::network::IpAddressFamily;
use wasip2::sockets::tcp_create_socket::create_tcp_socket;

const KIB: usize = 1024;

/// Longer than any test.
const HOUR_NS: u64 = 3_600_000_000_000;

#[derive(Default)]
struct Hog {
    kept: Vec<Box<dyn Any>>,
    held_kib: usize,
    snapshot_bytes: usize,
}

impl Agent for Hog {
    fn handle(&mut self, message: Message) -> Result<Outcome, AgentError> {
        let words: Vec<&str> = message.body.split(' ').collect();
        let reply = match words[..] {
            ["log", count, bytes] => log(number(count)?, number(bytes)?),
            ["events", count, bytes] => events(number(count)?, number(bytes)?),
            ["mail", agent, count, bytes] => mail(agent, number(count)?, number(bytes)?),
            ["files", count] => return Ok(Outcome::reply(self.files(number(count)?))),
            ["fill", kib, count] => {
                return Ok(Outcome::reply(disk::fill(number(kib)?, number(count)?)));
            }
            ["make", count] => return Ok(Outcome::reply(disk::make(number(count)?))),
            ["unlinked", kib] => {
                let (file, reply) = disk::unlinked(number(kib)?);
                self.kept.push(Box::new(file));
                return Ok(Outcome::reply(reply));
            }
            ["empty"] => disk::empty().map_err(failed)?,
            ["deep", count] => return Ok(Outcome::reply(disk::deep(number(count)?))),
            ["open", name] => return Ok(Outcome::reply(disk::open(name))),
            ["random", bytes] => get_random_bytes(number(bytes)? as u64).len(),
            ["streams", count] => streams::write_and_read(number(count)?)?,
            ["sleeps", count] => self.keep(number(count)?, |_| Ok(subscribe_duration(HOUR_NS)))?,
            ["fields", count] => self.keep(number(count)?, |_| Ok(http::fields()))?,
            ["bodies", count] => self.bodies(number(count)?)?,
            ["requests", count, authority] => self.requests(number(count)?, authority),
            ["fetch", count, authority, path] => {
                return Ok(Outcome::reply(fetch(number(count)?, authority, path, true)));
            }
            ["peek", count, authority, path] => {
                return Ok(Outcome::reply(fetch(number(count)?, authority, path, false)));
            }
            ["storm", count, authority] => http::storm(number(count)?, authority),
            ["post", count, authority, path, bytes, way] => {
                let (count, bytes) = (number(count)?, number(bytes)?);
                return Ok(Outcome::reply(post(count, authority, path, bytes, way == "length")));
            }
            ["call", url, header, value, body] => {
                return Ok(Outcome::reply(http::call(url, header, value, body)));
            }
            ["lists", entries, count] => self.lists(number(entries)?, number(count)?)?,
            ["sockets", count] => self.sockets(number(count)?),
            ["tools", count, bytes] => tools(number(count)?, number(bytes)?),
            ["settings", count] => settings(number(count)?),
            ["reply", bytes] => return Ok(Outcome::reply("x".repeat(number(bytes)?))),
            ["copy", bytes] => copy(number(bytes)?),
            ["snapshot", bytes] => {
                self.snapshot_bytes = number(bytes)?;
                self.snapshot_bytes
            }
            ["hold", kib] => self.hold(number(kib)?),
            ["pile", kib] => self.pile(number(kib)?),
            ["panic"] => panic!("told to panic"),
            ["drop"] => {
                self.kept.clear();
                return Ok(Outcome::reply("dropped"));
            }
            ["memory"] => return Ok(Outcome::reply(memory())),
            _ => return Ok(Outcome::reply(message.body)),
        };
        Ok(Outcome::reply(reply.to_string()))
    }

    fn snapshot(&mut self) -> Result<Vec<u8>, AgentError> {
        Ok(vec![1; self.snapshot_bytes])
    }
}

impl Hog {
    /// Keeps `count` of what `make` makes.
    fn keep<T: Any>(
        &mut self,
        count: usize,
        make: impl Fn(usize) -> Result<T, AgentError>,
    ) -> Result<usize, AgentError> {
        for number in 0..count {
            self.kept.push(Box::new(make(number)?));
        }
        Ok(count)
    }

    fn files(&mut self, count: usize) -> String {
        for number in 0..count {
            match open_file(number) {
                Ok(file) => self.kept.push(Box::new(file)),
                Err(error) => return format!("{number}: {error}"),
            }
        }
        count.to_string()
    }

    fn bodies(&mut self, count: usize) -> Result<usize, AgentError> {
        let mut bytes = 0;
        self.keep(count, |_| Ok(http::Unsent::new("localhost")))?;
        for kept in &self.kept {
            bytes += kept.downcast_ref::<http::Unsent>().map_or(0, http::Unsent::fill);
        }
        Ok(bytes)
    }

    fn requests(&mut self, count: usize, authority: &str) -> usize {
        let sent = (0..count).filter_map(|_| http::Unsent::new(authority).send());
        let before = self.kept.len();
        self.kept.extend(sent.map(|sent| Box::new(sent) as Box<dyn Any>));
        self.kept.len() - before
    }

    fn lists(&mut self, entries: usize, count: usize) -> Result<usize, AgentError> {
        let directory = Path::new("/workspace/many");
        std::fs::create_dir_all(directory).map_err(failed)?;
        for entry in 0..entries {
            // As long as a name may be, so that each takes as much as it can.
            let name = format!("{entry:08}{}", "x".repeat(200));
            File::create(directory.join(name)).map_err(failed)?;
        }
        let lists = (0..count).filter_map(|_| std::fs::read_dir(directory).ok());
        let before = self.kept.len();
        self.kept.extend(lists.map(|list| Box::new(list) as Box<dyn Any>));
        Ok(self.kept.len() - before)
    }

    fn sockets(&mut self, count: usize) -> usize {
        let made = (0..count).filter_map(|_| create_tcp_socket(IpAddressFamily::Ipv4).ok());
        let before = self.kept.len();
        self.kept.extend(made.map(|socket| Box::new(socket) as Box<dyn Any>));
        self.kept.len() - before
    }

    fn hold(&mut self, kib: usize) -> usize {
        self.kept.push(Box::new(black_box(vec![1_u8; kib * KIB])));
        self.held_kib += kib;
        self.held_kib
    }

    fn pile(&mut self, kib: usize) -> usize {
        let pieces: Vec<_> = (0..kib / 4).map(|_| black_box(vec![1_u8; 4 * KIB])).collect();
        let count = pieces.len();
        self.kept.push(Box::new(pieces));
        count
    }
}

fn post(count: usize, authority: &str, path: &str, bytes: usize, length: bool) -> String {
    let mut answered = 0;
    let mut failed = String::new();
    for _ in 0..count {
        match http::post(authority, path, bytes, length) {
            Ok(200) => answered += 1,
            Ok(status) => failed = format!(", status {status}"),
            Err(error) if failed.is_empty() => failed = format!(", {error}"),
            Err(_) => {}
        }
    }
    format!("{answered} of {count}{failed}")
}

fn fetch(count: usize, authority: &str, path: &str, reads: bool) -> String {
    let mut bytes = 0;
    for number in 0..count {
        match http::fetch(authority, path, reads) {
            Ok(more) => bytes += more,
            Err(error) => return format!("request {number} failed: {error}"),
        }
    }
    bytes.to_string()
}

fn log(count: usize, bytes: usize) -> usize {
    let line = "x".repeat(bytes);
    for _ in 0..count {
        info!(line);
    }
    count
}

fn events(count: usize, bytes: usize) -> usize {
    let data = format!("\"{}\"", "x".repeat(bytes.saturating_sub(2)));
    (0..count).filter(|_| host::emit_json("hog", data.clone()).is_ok()).count()
}

fn copy(bytes: usize) -> usize {
    let event = raw::Event { name: "hog".to_owned(), data: "x".repeat(bytes) };
    usize::from(raw::emit(&event).is_ok())
}

fn mail(agent: &str, count: usize, bytes: usize) -> usize {
    let body = "x".repeat(bytes);
    (0..count).filter(|_| host::send(agent, &body).is_ok()).count()
}

fn open_file(number: usize) -> std::io::Result<File> {
    let path = format!("/workspace/file-{number}");
    std::fs::write(&path, vec![1; 100 * KIB])?;
    let mut file = File::open(&path)?;
    file.read_exact(&mut [0; 10])?;
    Ok(file)
}

fn tools(count: usize, bytes: usize) -> usize {
    let names = vec!["x".repeat(bytes); count];
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    // Dropping it would take the names back.
    std::mem::forget(host::ActiveTools::set(&names));
    count
}

fn settings(count: usize) -> usize {
    (0..count).for_each(|_| drop(black_box(host::settings())));
    count
}

fn memory() -> String {
    let memory = host::memory();
    let host::MemoryUsage { used_bytes, host_bytes, soft_bytes, limit_bytes, .. } = memory;
    format!("{used_bytes} {host_bytes} {soft_bytes} {limit_bytes}")
}

fn number(text: &str) -> Result<usize, AgentError> {
    text.parse().map_err(|_| AgentError::failed("bad-body", format!("{text:?} is not a number")))
}

fn failed(error: std::io::Error) -> AgentError {
    AgentError::failed("files", error.to_string())
}

bulkhead_guest::export!(Hog);
