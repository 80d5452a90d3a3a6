//! `{{secret:NAME}}`: credentials that leave with a request, and that no agent has.

use std::io::{BufReader, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;

use harness::{Host, wait_until};
use parking_lot::Mutex;

use super::servers::{self, read_body, read_head};

const VALUE: &str = "ghp_0123456789-hush";

/// A server that sends back the header `authorization` and the body that it got, the body in two pieces.
fn echo() -> SocketAddr {
    servers::serve("127.0.0.1:0", |mut stream| {
        let mut reader = BufReader::new(stream.try_clone().ok()?);
        let head = read_head(&mut reader)?;
        let of = |name: &str| head.iter().find_map(|line| line.strip_prefix(name));
        let (authorization, length) = (of("authorization: ")?, of("content-length: ")?);
        let mut body = vec![0; length.parse().ok()?];
        reader.read_exact(&mut body).ok()?;
        // Heads are in lower case here, and so are all values of these tests.
        let answer = format!("you sent {authorization} and {}", String::from_utf8(body).ok()?);
        let length = answer.len();
        write!(
            stream,
            "HTTP/1.1 200 OK\r\nauthorization: {authorization}\r\ncontent-length: {length}\r\n\r\n"
        )
        .ok()?;
        let (first, second) = answer.split_at("you sent bearer ghp_0123".len());
        stream.write_all(first.as_bytes()).ok()?;
        stream.flush().ok()?;
        stream.write_all(second.as_bytes()).ok()
    })
}

/// A server that compresses what it sends, whatever is asked for, and keeps the heads of requests.
fn compressing() -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let heads = Arc::<Mutex<Vec<String>>>::default();
    let kept = Arc::clone(&heads);
    let address = servers::serve("127.0.0.1:0", move |mut stream| {
        let mut reader = BufReader::new(stream.try_clone().ok()?);
        let head = read_head(&mut reader)?;
        // A connection that is closed with a request unread takes the response back.
        read_body(&mut reader, &head)?;
        kept.lock().extend(head);
        let head = "HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 4\r\n\r\n";
        write!(stream, "{head}\u{1f}abc").ok()
    });
    (address, heads)
}

/// A host with a secret for `hosts`, whose value is in a file, and an agent that may reach `allowed`.
fn host(allowed: &[SocketAddr], hosts: SocketAddr, file: &std::path::Path) -> Host {
    let allowed: Vec<String> = allowed.iter().map(SocketAddr::to_string).collect();
    let role = format!("memory_limit_mb = 16\nhttp_allow = {allowed:?}\nsecrets = [\"github\"]");
    let secrets = format!(
        "[secrets.github]\nhosts = [\"{hosts}\"]\nvalue_file = {file:?}\ntemplate = \"bearer {{value}}\"\n\
         allow_http = true\n[secrets.other]\nhosts = [\"{hosts}\"]\nvalue = \"another-value\"\nallow_http = true\n"
    );
    let host = Host::builder().guest("hog").role("hog", "hog", &role).toml(&secrets).start();
    host.client().start("hog", "hog");
    host
}

fn file_with(value: &str) -> (tempfile::TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().expect("make a directory");
    let file = dir.path().join("secret");
    std::fs::write(&file, value).expect("write the secret");
    (dir, file)
}

#[test]
fn a_secret_reaches_its_host_and_comes_back_masked() {
    let (_dir, file) = file_with(VALUE);
    let server = echo();
    let host = host(&[server], server, &file);
    let call = || {
        let text = format!("call http://{server}/x authorization {{{{secret:github}}}} hello");
        host.client().ask("hog", &text)
    };
    let masked = |value: &str| "*".repeat(value.len() + "bearer ".len());
    let stars = masked(VALUE);
    assert_eq!(call(), format!("200 {stars} you sent {stars} and \"hello\""));
    let used = host.wait_for_event("hog", "agent.secret_used");
    assert_eq!(used["secret"], "github", "{used}");
    assert_eq!(used["destination"], server.to_string(), "{used}");
    // A changed file counts from its next use on, a second later at most.
    let changed = "ghp_changed-and-longer-hush";
    let other = file.with_extension("new");
    std::fs::write(&other, changed).expect("write the secret");
    std::fs::rename(&other, &file).expect("replace the secret");
    wait_until("the new value is sent", || {
        call() == format!("200 {0} you sent {0} and \"hello\"", masked(changed))
    });
    let shown = format!("{:?}", host.events_of("hog", "agent.secret_used"));
    assert!(!shown.contains("hush"), "{shown}");
    host.finish();
}

#[test]
fn a_response_that_hides_what_it_says_is_refused_when_a_secret_was_sent() {
    let (_dir, file) = file_with(VALUE);
    let (server, heads) = compressing();
    let host = host(&[server], server, &file);
    let call = |value: &str| {
        host.client().ask("hog", &format!("call http://{server}/x authorization {value} hello"))
    };
    let refused = call("{{secret:github}}");
    assert!(refused.starts_with("failed: "), "{refused}");
    wait_until("the log says why", || {
        let says = |line: &serde_json::Value| {
            let text = line["message"].as_str().unwrap_or_default();
            text.contains("secret \"github\" was sent, and the response is encoded (gzip)")
        };
        host.events_of("hog", "agent.log").iter().any(says)
    });
    let asked = heads.lock().clone();
    assert!(asked.contains(&"accept-encoding: identity".to_owned()), "{asked:?}");
    // Without a secret it is between the agent and its server.
    assert!(call("y").starts_with("200 "));
    host.finish();
}

#[test]
fn a_secret_that_is_not_for_there_is_refused_by_name() {
    let (_dir, file) = file_with(VALUE);
    let (server, elsewhere) = (echo(), echo());
    let host = host(&[server, elsewhere], server, &file);
    for (url, header, value, body, why) in [
        (format!("http://{elsewhere}/x"), "authorization", "{{secret:github}}", "b", "is not for"),
        (format!("http://{server}/x"), "x-key", "{{secret:github}}", "b", "header field x-key"),
        (
            format!("http://{server}/x"),
            "authorization",
            "{{secret:other}}",
            "b",
            "role's `secrets`",
        ),
        (format!("http://{server}/x"), "authorization", "{{secret:none}}", "b", "role's `secrets`"),
        (
            format!("http://{server}/x"),
            "authorization",
            "y",
            "{{secret:github}}",
            "stands in a body",
        ),
        (format!("http://{server}/?k={{{{secret:github}}}}"), "authorization", "y", "b", "URL"),
        (format!("http://{server}/%7B%7Bsecret:github%7D%7d"), "authorization", "y", "b", "URL"),
    ] {
        let reply = host.client().ask("hog", &format!("call {url} {header} {value} {body}"));
        assert!(reply.starts_with("failed: "), "{url} {header} {value} {body}: {reply}");
        assert!(reply.contains(why), "{reply}");
        assert!(!reply.contains("hush"), "{reply}");
        wait_until("the log says why", || {
            let lines = host.events_of("hog", "agent.log");
            lines.iter().any(|line| line["message"].as_str().is_some_and(|text| text.contains(why)))
        });
    }
    assert!(host.events_of("hog", "agent.secret_used").is_empty());
    host.finish();
}
