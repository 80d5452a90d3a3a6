//! `fetch` of agents in JavaScript and Python, against a server on a real socket.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Barrier};
use std::thread;

use harness::{Host, HostBuilder, Need, files, json, runners, skip};

use super::outgoing::servers;

/// Requests that wait for each other.
const TOGETHER: usize = 4;

/// A server that answers as the path says. It echoes what was asked.
fn server() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address").to_string();
    let barrier = Arc::new(Barrier::new(TOGETHER));
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let barrier = Arc::clone(&barrier);
            thread::spawn(move || serve(stream, &barrier));
        }
    });
    address
}

/// `None` at the end of the connection.
fn serve(mut stream: TcpStream, barrier: &Barrier) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            if reader.read_until(b'\n', &mut head).ok()? == 0 {
                return None;
            }
        }
        // A byte is a character.
        let head: String = head.into_iter().map(char::from).collect();
        let header = |name: &str| {
            let is_it = |line: &&str| line.to_ascii_lowercase().starts_with(&format!("{name}:"));
            let line = head.lines().find(is_it)?;
            Some(line.split_once(':')?.1.trim().to_owned())
        };
        let length = header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        let mut words = head.split(' ');
        let (method, path) = (words.next()?, words.next()?);
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let answer = match path {
            "/echo" => {
                let echo = json!({
                    "method": method, "query": query, "body": String::from_utf8_lossy(&body),
                    "own": header("x-own"), "type": header("content-type"),
                    "authorization": header("authorization"), "length": header("content-length"),
                    "ownBytes": header("x-own").map(|own| own.chars().map(u32::from).collect::<Vec<_>>()),
                });
                let echo = echo.to_string();
                format!(
                    "200 OK\r\nset-cookie: a=1\r\nset-cookie: b=2\r\ncontent-length: {}\r\n\r\n{echo}",
                    echo.len()
                )
            }
            "/away" => {
                format!("307 Away\r\nlocation: http://{query}/echo\r\ncontent-length: 0\r\n\r\n")
            }
            "/to/204" => "204 Nothing\r\n\r\n".to_owned(),
            "/ring" => "302 Round\r\nlocation: /ring\r\ncontent-length: 0\r\n\r\n".to_owned(),
            "/all-four" => {
                barrier.wait();
                "200 OK\r\ncontent-length: 1\r\n\r\nx".to_owned()
            }
            "/parts" => {
                stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").ok()?;
                // Each is read before the next one comes, or two are read at once.
                for part in ["one", "two", "three"] {
                    write!(stream, "{:x}\r\n{part}\r\n", part.len()).ok()?;
                    thread::sleep(std::time::Duration::from_millis(30));
                }
                stream.write_all(b"0\r\n\r\n").ok()?;
                continue;
            }
            "/never" => {
                let _ = reader.read(&mut [0]);
                return None;
            }
            "/never-ends" | "/cut" => {
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf").ok()?;
                if path == "/never-ends" {
                    let _ = reader.read(&mut [0]);
                }
                return None;
            }
            // It leads to itself so often, and is slow each time.
            _ if path.starts_with("/slow/") => {
                thread::sleep(std::time::Duration::from_millis(150));
                match path.strip_prefix("/slow/")?.parse::<u8>().ok()? {
                    1 => "200 OK\r\ncontent-length: 4\r\n\r\nslow".to_owned(),
                    left => {
                        let next = left - 1;
                        format!("302 Slow\r\nlocation: /slow/{next}\r\ncontent-length: 0\r\n\r\n")
                    }
                }
            }
            "/gone" => "404 Not Found\r\ncontent-length: 4\r\n\r\nnone".to_owned(),
            _ => {
                let status = path.strip_prefix("/to/")?;
                format!("{status} There\r\nlocation: /echo\r\ncontent-length: 0\r\n\r\n")
            }
        };
        write!(stream, "HTTP/1.1 {answer}").ok()?;
    }
}

/// Two servers, and a host whose agent `one` may reach them.
struct World {
    near: String,
    far: String,
    host: Host,
}

impl World {
    /// What its agent answers to a message that names a way.
    fn ask(&self, way: &str) -> harness::Value {
        asks(&self.host, &format!("{way} http://{} {}", self.near, self.far))
    }
}

/// What an agent answers, which is JSON as a rule.
fn asks(host: &Host, message: &str) -> harness::Value {
    let text = host.client().ask("one", message);
    serde_json::from_str(&text).unwrap_or(harness::Value::String(text))
}

/// A host with the runner of a language, compiled before, and a role.
fn host_with(language: &str, runner: &Path, role: &str) -> HostBuilder {
    Host::builder()
        .toml(&format!("[state]\naot_seed = {:?}", runners::seed()))
        .component(&format!("runner-{language}"), runner)
        .toml(role)
}

/// With an agent in a language. `None`: there is no runner, which was said.
fn world(language: &str, extension: &str) -> Option<World> {
    let Some(runner) = runners::component(language) else {
        skip(Need::Runners, "`just runners` builds them");
        return None;
    };
    let (near, far) = (server(), server());
    let source = files::root().join("tests/runners/fetch").with_extension(extension);
    let role = format!(
        "[roles.web]\nsource = {source:?}\nhttp_allow = [{near:?}, {far:?}]\nwall_ms = 60000\n"
    );
    let host = host_with(language, &runner, &role).start();
    host.client().start("one", "web");
    Some(World { near, far, host })
}

#[test]
fn an_agent_in_javascript_asks_servers() {
    let Some(world) = world("js", "js") else { return };
    let ask = |way: &str| world.ask(way);
    let World { near, host, .. } = &world;
    let client = host.client();
    let echo = ask("echo");
    assert_eq!(
        echo,
        json!([200, true, true, ["a=1", "b=2"], {
            "method": "POST", "query": "q=%C3%BC+%2B%26", "body": "{\"a\":1}", "own": "1",
            "type": "text/plain;charset=UTF-8", "authorization": null, "length": "7",
            "ownBytes": [49],
        }])
    );
    let got = [true.into(), "GET".into(), "".into(), json!("Bearer x")];
    let posted = [true.into(), "POST".into(), "x".into(), json!("Bearer x")];
    assert_eq!(
        ask("redirects"),
        json!([[got, got, posted], null, 302, "/echo", true, true]),
        "another origin gets no credentials"
    );
    assert_eq!(ask("together"), "x,x,x,x");
    let parts = ask("parts");
    let all: String = parts.as_array().expect("parts").iter().flat_map(|it| it.as_str()).collect();
    assert_eq!(all, "onetwothree", "{parts}");
    assert_eq!(ask("aborted"), json!(["AbortError", "TimeoutError", "TimeoutError", "no", true]));
    for denied in ask("refused").as_array().expect("two") {
        let text = denied.as_str().expect("a text");
        assert!(text.starts_with("FetchError denied true GET http"), "{text}");
        assert!(text.contains("denied by the host's policy") && !text.contains("secret"), "{text}");
    }
    let answer = client.send_wait("one", "uncaught").expect_error(502, &["host's policy"]);
    assert_eq!(answer.error_type.as_deref(), Some("http-denied"), "{answer:?}");
    ask("left");
    host.wait_for_line("that a request was dropped", |line| {
        line["event"] == "agent.log"
            && line["message"].to_string().contains("requests were dropped at the end of the turn")
    });
    assert_eq!(ask("waited"), "waited");
    assert!(!client.events_named("one", "fetch.done").is_empty());
    assert_eq!(ask("broken"), true);
    assert_eq!(ask("wrong"), json!([true, true, true, true, true, true, true, true]));
    assert_eq!(
        ask("urls"),
        json!([
            "https://xn--mnchen-3ya.example:8443/%C3%BC?x=1&y=a+b#f",
            "https://xn--mnchen-3ya.example:8443",
            "a b",
            false,
            true
        ])
    );
    assert_eq!(ask("once"), json!([404, false, "none", true, true]));
    assert_eq!(ask("many"), 40_000);
    assert_eq!(ask("own"), json!(["{\"a\":1}", "text/plain;charset=UTF-8", 2]));
    assert_eq!(
        ask("cloned"),
        json!([true, true, ["twice", "twice"], true, "the body was read already"])
    );
    assert_eq!(
        ask("events"),
        json!([["a 1", true, "gone", "a 2"], [true, false], true, "[object AbortSignal]"])
    );
    // As Node has it.
    let anchors = json!([
        null,
        "a",
        "b",
        "b",
        0,
        "",
        "b",
        "ab",
        "b",
        "b",
        "a",
        null,
        null,
        "a",
        "-ab",
        ["", "-a"],
        1,
        null,
        null,
        "a",
        0
    ]);
    assert_eq!(ask("anchors"), anchors);
    let refused = "InvalidCharacterError";
    let wrong = vec![refused; 5];
    assert_eq!(ask("base64"), json!([true, "", "YQ==", "a", "a", refused, wrong, true]));
    assert_eq!(ask("streamed"), json!(["in parts", "8", "onetwothree", {"done": true}, true]));
    let aborted = "AbortError";
    assert_eq!(
        ask("careful"),
        json!(["abc", "abc", aborted, aborted, [aborted], true, 200, true, true])
    );
    let form = [
        "--B\r\ncontent-disposition: form-data; name=\"text\"\r\n\r\na\r\nb\r\n",
        "--B\r\ncontent-disposition: form-data; name=\"quo%22ted\"; filename=\"na%22me.bin\"\r\n",
        "content-type: application/x-own\r\n\r\nü\0\u{fffd}\r\n",
        "--B\r\ncontent-disposition: form-data; name=\"blob\"; filename=\"blob\"\r\n",
        "content-type: application/octet-stream\r\n\r\nx\r\n--B--\r\n",
    ];
    let tags =
        ["FormData", "Blob", "URL", "Headers", "Response"].map(|tag| format!("[object {tag}]"));
    assert_eq!(
        ask("forms"),
        json!([form.concat(), "multipart/form-data; boundary=B", "", true, "{", tags])
    );
    assert_eq!(ask("keeps"), "kept");
    assert_eq!(ask("finds"), json!([true, "second"]));
    assert_eq!(ask("prefetches"), "sent");
    assert_eq!(ask("awaits"), true);
    assert_eq!(ask("replaced"), json!(["AbortError", 200]));
    host.wait_for_line("what a listener threw", |line| {
        line["event"] == "agent.unhandled_rejection" && line.to_string().contains("of a listener")
    });
    assert_eq!(ask("cancelled"), "all");
    assert_eq!(ask("crowd"), json!([40, [200, 200, 200]]), "what there is no room for waits");
    let odd = json!([
        999,
        format!("FetchError broken true GET http://{near}/away: redirected to an invalid URL"),
        true,
        null,
        "",
        "0",
        [0xe9]
    ]);
    assert_eq!(ask("odd"), odd);
    let late = format!("late http://{near}");
    let answer = client.send_wait("one", &late).expect_error(502, &["timed out after 20 ms"]);
    assert_eq!(answer.error_type.as_deref(), Some("http-timeout"), "{answer:?}");
    assert_eq!(client.status("one").incarnation.0, 1, "it still lives");
    client.start("two", "web");
    assert_eq!(client.ask("two", "mocked"), "[\"mocked\",\"mocked\"]");
    assert!(host.events_of("one", "agent.crash").is_empty());
    world.host.finish();
}

#[test]
fn an_agent_in_python_asks_servers() {
    let Some(world) = world("python", "py") else { return };
    let ask = |way: &str| world.ask(way);
    let World { near, far, host } = &world;
    let client = host.client();
    let echo = json!({
        "method": "POST", "query": "q=%C3%BC+%2B%26", "body": "{\"a\": \"ü\"}", "own": "1",
        "type": "application/json", "authorization": null, "length": "11", "ownBytes": [49],
    });
    assert_eq!(ask("echo"), json!([200, true, true, ["a=1", "b=2"], echo]));
    let (got, posted) = (json!(["GET", "", "Bearer x"]), json!(["POST", "x", "Bearer x"]));
    assert_eq!(
        ask("redirects"),
        json!([[got, got, posted], null, 302, "/echo", true]),
        "another origin gets no credentials"
    );
    assert_eq!(ask("together"), "xxxx");
    for parts in ask("parts").as_array().expect("two answers") {
        let parts = parts.as_array().expect("parts").iter();
        let all: String = parts.flat_map(|it| it.as_str()).collect();
        assert_eq!(all, "onetwothree");
    }
    let late = |path: &str, doing: &str, ms: u32| {
        format!("http://{near}{path}: {doing} took longer than {ms} ms")
    };
    let head = late("/never", "waiting for the answer", 50);
    let body = late("/never-ends", "reading the answer", 300);
    assert_eq!(
        ask("late"),
        json!([
            format!("http-timeout True GET {head}"),
            format!("http-timeout GET {head}"),
            format!("http-timeout True GET {body}"),
            format!("http-timeout GET {body}"),
            "TimeoutError",
            true
        ])
    );
    let policy = "denied by the host's policy";
    let denied = |url: &str| format!("http-denied True GET {url}: {policy}");
    assert_eq!(
        ask("denied"),
        json!([denied("http://127.0.0.1:1/"), denied("https://example.com/")])
    );
    let answer = client.send_wait("one", &format!("uncaught http://{near} {far}"));
    let answer = answer.expect_error(502, &[policy]);
    assert_eq!(answer.error_type.as_deref(), Some("http-denied"), "{answer:?}");
    ask("left");
    host.wait_for_line("that a task was cancelled", |line| {
        line["event"] == "agent.log"
            && line["message"].to_string().contains("1 tasks and 0 timers were left")
    });
    ask("waited");
    assert!(!client.events_named("one", "fetch.done").is_empty());
    let invalid = "http-invalid";
    assert_eq!(
        ask("wrong"),
        json!([
            "TypeError",
            invalid,
            invalid,
            invalid,
            invalid,
            invalid,
            invalid,
            "TypeError",
            invalid,
            invalid,
            invalid,
            invalid,
            "TypeError"
        ])
    );
    assert!(ask("broken").as_str().is_some_and(|text| text.starts_with("http-broken True")));
    let gone = format!("http-status True GET http://{near}/gone: status 404");
    assert_eq!(ask("once"), json!([404, false, "none", "none", gone]));
    assert!(ask("large").as_str().is_some_and(|text| text.starts_with("http-too-large True")));
    assert_eq!(ask("many"), 20_000);
    assert_eq!(ask("room"), 200);
    let (taken, closed) = ("another task reads it", "it was closed while a task read it");
    assert_eq!(ask("cancelled"), json!(["onetwothree", [taken, taken], closed]));
    assert_eq!(ask("mixed"), json!(["onetwothree", "onetwothree", "http-timeout", true]));
    assert_eq!(ask("keeps"), "kept");
    let dropped = format!(
        "http-broken True GET http://{near}/never-ends: it was dropped at the end of a turn"
    );
    assert_eq!(ask("finds"), json!([dropped, "second"]));
    let bad = format!("http-broken True GET http://{near}/away: redirected to an invalid URL");
    let form = "application/x-www-form-urlencoded";
    assert_eq!(ask("odd"), json!([999, bad, "", "0", [0xe9], "a=1&a=%C3%BC", form, ""]));
    assert_eq!(client.status("one").incarnation.0, 1, "it still lives");
    assert!(host.events_of("one", "agent.crash").is_empty());
    world.host.finish();
}

/// What `just python-packages` installed, beside an agent.
fn source_with_packages(dir: &Path) -> Option<()> {
    let packages = files::target_dir().join("python-packages");
    if !packages.is_dir() {
        skip(Need::Packages, "`just python-packages` installs them");
        return None;
    }
    let copied = Command::new("cp").arg("-r").arg(packages).arg(dir.join("vendor")).status();
    assert!(copied.expect("run cp").success());
    let agent = files::root().join("tests/runners/packages.py");
    fs::copy(agent, dir.join("agent.py")).expect("copy the agent");
    Some(())
}

#[test]
fn clients_of_the_standard_library_and_of_packages_of_python_ask_servers() {
    let Some(runner) = runners::component("python") else {
        return skip(Need::Runners, "`just runners` builds them");
    };
    let dir = tempfile::tempdir().expect("make a directory");
    let source = dir.path().join("source");
    fs::create_dir(&source).expect("make a directory");
    let Some(()) = source_with_packages(&source) else { return };
    let near = server();
    let (far, authority) = servers::tls("localhost", near.parse().expect("an address"));
    let (port, ca) = (far.port(), dir.path().join("ca.pem"));
    fs::write(&ca, authority).expect("write a certificate");
    let role = format!(
        "[roles.web]\nsource = {source:?}\nhttp_allow = [{near:?}, \"localhost:{port}\"]\nwall_ms = 60000\n"
    );
    let host = host_with("python", &runner, &role)
        .run_by(&["env", &format!("SSL_CERT_FILE={}", ca.display())])
        .start();
    let client = host.client();
    client.start("one", "web");
    let ask = |way: &str| asks(&host, &format!("{way} http://{near} https://localhost:{port}"));
    assert_eq!(ask("urllib"), json!([200, "x=1", ["a=1", "b=2"], "GET", true, 404, "none", 200]));
    assert_eq!(ask("client"), json!([["", "0"], ["abc", "3"], ["abc", "3"], 204]));
    let query = "q=%C3%BC+%2B%26";
    let basic = "Basic dTpw";
    assert_eq!(
        ask("requests"),
        json!([200, query, "1", ["a", "b"], "POST", basic, true, "onetwothree", 200])
    );
    assert_eq!(ask("httpx"), json!([query, "1", "onetwothree", "{\"a\":1}", 200]));
    assert_eq!(ask("beside"), 200);
    let fails = ask("fails");
    let says = |at: usize, words: &[&str]| {
        let text = fails[at].as_str().expect("a text");
        assert!(words.iter().all(|word| text.contains(word)), "{text}: {words:?}");
        assert!(!text.contains("secret"), "{text}");
    };
    says(0, &["URLError", "denied by the host's policy"]);
    says(1, &["ConnectionError", "denied by the host's policy"]);
    says(2, &["ReadError", "denied by the host's policy"]);
    says(3, &["ReadTimeout"]);
    says(4, &["ReadTimeout", "nothing came within 0.05 s"]);
    says(5, &["ChunkedEncodingError", "/cut"]);
    says(6, &["SSLError", "the host checks certificates"]);
    says(7, &["OSError", "speak HTTP only"]);
    assert_eq!(ask("patience"), json!(["slow", "slow", true, "onetwothree", "Not Found"]));
    assert_eq!(ask("loop"), json!([200, 200, 200]));
    let connection = "ConnectionError";
    assert_eq!(ask("not-http"), json!([connection, connection, "OSError", "OSError"]));
    assert_eq!(ask("late"), json!(["ReadTimeout", "TimeoutError", 0]));
    let never = format!("http://{near}/never");
    assert_eq!(ask("keep"), format!("TimeoutError GET {never}: nothing came within 0.02 s"));
    assert_eq!(ask("find"), format!("FetchError GET {never}: it was dropped at the end of a turn"));
    assert_eq!(ask("many"), 16_000);
    assert_eq!(client.status("one").incarnation.0, 1, "it still lives");
    assert!(host.events_of("one", "agent.crash").is_empty());
    host.finish();
}

/// Turns that each send a megabyte and keep half of one.
const TURNS: usize = 60;

#[test]
fn an_agent_in_python_holds_nothing_of_what_it_sent_and_kept_before() {
    let Some(runner) = runners::component("python") else {
        return skip(Need::Runners, "`just runners` builds them");
    };
    let dir = tempfile::tempdir().expect("make a directory");
    let source = dir.path().join("agent.py");
    let agent = "from bulkhead import FetchError, agent, fetch

@agent(state={\"kept\": \"\", \"turns\": 0})
def one(ctx, message):
    ctx.state[\"kept\"] = \"x\" * 500_000
    ctx.state[\"turns\"] += 1
    for wrong in {\"method\": \"BAD METHOD\"}, {\"headers\": {\"Connection\": \"x\"}}:
        try:
            fetch(message.text, data=b\"x\" * 1_000_000, **wrong)
        except FetchError:
            pass
    return str(fetch(message.text, data=b\"x\" * 1_000_000).status_code)
";
    fs::write(&source, agent).expect("write the agent");
    let near = server();
    // The image of the interpreter is half of it.
    let role = format!(
        "[roles.web]\nsource = {source:?}\nhttp_allow = [{near:?}]\nsnapshot = \"turn\"\nmemory_limit_mb = 64\n"
    );
    let host = host_with("python", &runner, &role).start();
    let client = host.client();
    client.start("one", "web");
    for _ in 0..TURNS {
        assert_eq!(client.ask("one", &format!("http://{near}/to/204")), "204");
    }
    assert_eq!(client.status("one").incarnation.0, 1, "{:?}", host.crashes());
    host.finish();
}
