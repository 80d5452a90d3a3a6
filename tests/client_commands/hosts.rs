//! Addresses at which no Bulkhead host answers as it should.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use super::Person;

/// What someone at the other end does with a connection, once a request has come.
pub(crate) type Behaviour = fn(&mut TcpStream);

/// Someone who answers `connections` connections and goes away.
pub(crate) fn someone(
    connections: usize,
    behaviour: Behaviour,
) -> (String, std::thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let thread = std::thread::spawn(move || {
        for _ in 0..connections {
            let (mut stream, _) = listener.accept().expect("a connection");
            let mut request = [0; 4096];
            let _ = stream.read(&mut request);
            behaviour(&mut stream);
        }
    });
    (url, thread)
}

/// Sends an answer with this body, and what follows the status in the first line.
pub(crate) fn answer(stream: &mut TcpStream, status: &str, body: &str) {
    let length = body.len();
    let head =
        format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
    let _ = stream.write_all(format!("{head}{body}").as_bytes());
}

#[test]
fn nobody_is_there() {
    let url = format!("http://{}", support::free_address());
    let person = Person::at(&url);
    for words in [
        &["ps"][..],
        &["status"],
        &["status", "one"],
        &["start", "one", "--role", "echo"],
        &["stop", "one"],
        &["stop", "--all", "--yes"],
        &["send", "one", "hi", "--wait", "1s"],
        &["nudge", "one", "hi"],
        &["events", "one"],
        &["events", "one", "--follow"],
        &["chat", "one"],
        &["top"],
        &["logs", "-f"],
        &["memory"],
        &["memory", "one", "--json"],
        &["crashes", "--url", &url],
    ] {
        let ended = person.says(words);
        ended.fails(1, &[&url, "cannot connect", "bulkhead run", "--url"]);
        // Programs read it where they read the answer.
        let is_json = words.contains(&"--json");
        let said = if is_json { "\"error_type\":\"no-answer\"}\n" } else { "" };
        assert!(ended.stdout.ends_with(said), "{words:?}: {ended:?}");
        assert_eq!(ended.stdout.is_empty(), !is_json, "{words:?}: {ended:?}");
    }
    person
        .says(&["ps", "--url", "http://no-such-name.invalid"])
        .fails(1, &["no-such-name.invalid"]);
}

#[test]
fn somebody_else_is_there() {
    let behaviours: [(&str, Behaviour); 11] = [
        ("", |stream| {
            let _ = stream.write_all(b"220 mail.example ESMTP\r\n");
        }),
        ("", |_| {}),
        ("", |stream| {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n[");
        }),
        ("", |stream| answer(stream, "200 OK", "<html>hello</html>")),
        ("", |stream| answer(stream, "200 OK", "[]]")),
        ("agentId", |stream| answer(stream, "200 OK", r#"[{"agentId":7}]"#)),
        ("", |stream| answer(stream, "200 OK", "{\"x\":\"\x1b[2J")),
        ("status 302", |stream| answer(stream, "302 Found", "")),
        ("status 502", |stream| answer(stream, "502 Bad Gateway", "<html>")),
        ("status 502", |stream| answer(stream, "502 Bad Gateway", r#"{"error":"a proxy's own"}"#)),
        // More than an answer may have.
        ("length limit", |stream| {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
            let block = vec![b' '; 1 << 20];
            while stream.write_all(&block).is_ok() {}
        }),
    ];
    for (named, behaviour) in behaviours {
        for words in [&["ps"][..], &["ps", "--json"]] {
            let (url, thread) = someone(1, behaviour);
            let ended = Person::at(&url).says(words);
            thread.join().expect("answer");
            ended.fails(1, &[&url, named]);
            assert!(!(ended.stdout.clone() + &ended.stderr).contains('\x1b'), "{ended:?}");
            match words {
                ["ps"] => assert_eq!(ended.stdout, ""),
                _ => {
                    let error: serde_json::Value =
                        serde_json::from_str(&ended.stdout).expect("JSON");
                    assert_eq!(error["error_type"], "no-answer", "{ended:?}");
                }
            }
        }
    }
}

#[test]
fn somebody_is_there_and_says_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let person = Person::at(&url);
    // The kernel takes the connection; nobody ever reads from it.
    for words in [
        &["ps", "--timeout", "300ms"][..],
        &["start", "one", "--role", "echo", "--timeout", "300ms"],
        &["stop", "one", "two", "--timeout", "300ms"],
        &["send", "one", "hi", "--wait", "1m", "--timeout", "300ms"],
        &["events", "one", "--follow", "--timeout", "300ms"],
    ] {
        person.says(words).fails(1, &["did not answer in 300 ms"]);
    }
    drop(listener);
}

#[test]
fn a_path_before_the_api_and_the_token_are_sent() {
    let (url, thread) = someone(1, |stream| answer(stream, "200 OK", "[]"));
    let person = Person::at(&format!("{url}/towns/one/"));
    assert_eq!(person.says(&["ps"]).ok(), "no agents\n");
    thread.join().expect("answer");

    let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
    let url = format!("http://{}/town", listener.local_addr().expect("an address"));
    let request = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let mut request = vec![0; 4096];
        let length = stream.read(&mut request).expect("a request");
        answer(&mut stream, "200 OK", "[]");
        String::from_utf8_lossy(&request[..length]).into_owned()
    });
    let person = Person::at(&url).with("BULKHEAD_CONTROL_TOKEN", "hunter2");
    person.says(&["ps"]).ok();
    let request = request.join().expect("a request");
    assert!(request.starts_with("GET /town/agents HTTP/1.1\r\n"), "{request}");
    assert!(request.contains("authorization: Bearer hunter2\r\n"), "{request}");
}
