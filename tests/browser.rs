//! A real browser: pages that mean harm, and the console. Chromium has to be installed, so `just browser` runs these and
//! nobody else.

mod console;
mod driver;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use harness::{Host, HostBuilder, json, launcher};

/// How long the page may take to try everything.
const PATIENCE: Duration = Duration::from_secs(120);

const PAGE: &str = include_str!("browser/page.html");

/// What the page came to, by what it tried.
type Report = BTreeMap<String, String>;

/// A web server that serves the page and hears what it came to. Every other path goes on to a host with its head as it
/// is: that is what a name comes to that first leads here and then, by DNS rebinding, to the host.
struct Site {
    address: SocketAddr,
    reports: Receiver<Report>,
}

impl Site {
    /// The page tries `target`, or its own origin when that is empty.
    fn serve(host: SocketAddr, target: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
        let address = listener.local_addr().expect("an address");
        let page = PAGE.replace("TARGET", target);
        let (sender, reports) = sync_channel(1);
        // Ends with the process: a browser may keep connections for as long as it likes.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (page, sender) = (page.clone(), sender.clone());
                std::thread::spawn(move || serve(stream, host, &page, &sender));
            }
        });
        Self { address, reports }
    }
}

fn serve(mut stream: TcpStream, host: SocketAddr, page: &str, sender: &SyncSender<Report>) {
    let Some((head, body)) = request(&mut stream) else { return };
    if head.starts_with("GET / ") {
        answer(&mut stream, "text/html", page);
    } else if head.starts_with("POST /report ") {
        answer(&mut stream, "text/plain", "");
        let _ = sender.try_send(serde_json::from_slice(&body).expect("a report"));
    } else if let Ok(mut onward) = TcpStream::connect(host) {
        let head = head.replace("Connection: keep-alive", "Connection: close");
        let _ = onward.write_all(head.as_bytes()).and_then(|()| onward.write_all(&body));
        let _ = std::io::copy(&mut onward, &mut stream);
    }
}

/// A request's head and body.
fn request(stream: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let (mut bytes, mut chunk) = (Vec::new(), [0; 4096]);
    loop {
        let length = stream.read(&mut chunk).ok().filter(|length| *length > 0)?;
        bytes.extend_from_slice(&chunk[..length]);
        let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&bytes[..end + 4]).into_owned();
        let length = head.lines().find_map(|line| {
            line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok()
        });
        let mut body = bytes.split_off(end + 4);
        let missing = length.unwrap_or(0_usize).saturating_sub(body.len());
        let have = body.len();
        body.resize(have + missing, 0);
        stream.read_exact(&mut body[have..]).ok()?;
        return Some((head, body));
    }
}

fn answer(stream: &mut TcpStream, kind: &str, body: &str) {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
    );
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes()));
}

/// A browser with one page open. Dropping it kills it and what it started.
struct Browser {
    child: Child,
    _profile: tempfile::TempDir,
}

impl Browser {
    /// Every name that ends in `.test` leads to this machine.
    fn open(url: &str) -> Self {
        let profile = tempfile::tempdir().expect("make a directory");
        let mut command = Command::new("chromium");
        command
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--no-first-run",
            ])
            .args(["--disable-background-networking", "--remote-debugging-port=0"])
            .arg("--host-resolver-rules=MAP *.test 127.0.0.1")
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg(url)
            .env("HOME", profile.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let child =
            launcher::spawn_bound(command).expect("start chromium; apt-get install chromium");
        Self { child, _profile: profile }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Its children end with it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Opens the page under `name` and returns what it came to.
fn visit(host: &Host, name: &str, target: &str) -> Report {
    let site = Site::serve(host.address(), target);
    let _browser = Browser::open(&format!("http://{name}:{}/", site.address.port()));
    site.reports.recv_timeout(PATIENCE).expect("the page reports")
}

/// A host with an agent that has something to show.
fn with_victim(builder: HostBuilder) -> Host {
    let host = builder.start().ready();
    host.client().start_with("victim", "echo", json!({"name": "hunter2"})).expect(201);
    host
}

/// Nothing was started, stopped, changed or sent, and the page has read nothing.
#[track_caller]
fn is_unharmed(host: &Host, report: &Report) {
    let agents = host.client().list();
    assert_eq!(agents.len(), 1, "{agents:?}");
    let victim = &agents[0];
    assert_eq!((&*victim.status, victim.incarnation.0), ("running", 1), "{victim:?}");
    assert_eq!((victim.message_count, victim.model.as_deref()), (0, None), "{victim:?}");
    assert!(report.len() > 20, "{report:?}");
    for (tried, came_to) in report {
        let read = ["hunter2", "victim\"", "bulkhead_", "runId"];
        assert!(!read.iter().any(|text| came_to.contains(text)), "{tried}: {came_to}");
    }
}

#[test]
#[ignore = "needs chromium: just browser"]
fn a_page_of_another_origin_starts_stops_and_reads_nothing() {
    // The second one has nothing but these checks.
    for builder in [Host::builder(), Host::builder().open()] {
        let host = with_victim(builder);
        for name in ["evil.test", "127.0.0.1", "localhost"] {
            let report = visit(&host, name, &format!("http://{}", host.address()));
            is_unharmed(&host, &report);
        }
        host.finish();
    }
}

#[test]
#[ignore = "needs chromium: just browser"]
fn a_page_whose_name_is_bound_to_the_host_starts_stops_and_reads_nothing() {
    for builder in [Host::builder(), Host::builder().open()] {
        let host = with_victim(builder);
        let report = visit(&host, "rebind.test", "");
        assert!(report["read /agents"].starts_with("403 "), "{report:?}");
        is_unharmed(&host, &report);
        host.finish();
    }
}

/// The page does what it means to where it is let in: the tests above would see it.
#[test]
#[ignore = "needs chromium: just browser"]
fn a_page_under_an_allowed_name_reads_what_it_may() {
    let host =
        with_victim(Host::builder().open().toml("[server]\nallowed_hosts = [\"good.test\"]"));
    let report = visit(&host, "good.test", "");
    assert!(report["read /agents"].contains("hunter2"), "{report:?}");
    assert!(report["start as JSON"].starts_with("201 "), "{report:?}");
    assert!(report["start as text/plain"].starts_with("415 "), "{report:?}");
    assert!(host.client().list().len() > 1);
    let without = visit(&with_victim(Host::builder()), "rebind.test", "");
    assert!(without["read /metrics"].starts_with("403 "), "{without:?}");
    host.finish();
}
