//! Servers that speak the form of OpenAI in ways of their own: what the model said arrives all the same, and what is
//! no answer is an error that says why.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

use harness::{Host, Value, files, json};

/// What the server does when it has sent everything.
#[derive(Clone, Copy)]
enum Then {
    Close,
    /// It keeps the connection open, in silence.
    Hold,
    /// It keeps the connection open, with a comment now and then.
    Beat,
}

enum Wanted {
    Reply(&'static str),
    /// The word and a part of the message.
    Error(&'static str, &'static str),
    /// The tool `status` ran with these texts, and the reply came after it.
    Tools(&'static [&'static str]),
}

struct Oddity {
    name: &'static str,
    content_type: &'static str,
    body: String,
    then: Then,
    wanted: Wanted,
}

fn chunk(delta: &Value, finish_reason: &Value) -> String {
    let chunk = json!({"id": "c", "object": "chat.completion.chunk", "choices": [
        {"index": 0, "delta": delta, "finish_reason": finish_reason}
    ]});
    format!("data: {chunk}\n\n")
}

fn text(text: &str) -> String {
    chunk(&json!({"content": text}), &Value::Null)
}

fn stop() -> String {
    chunk(&json!({}), &json!("stop"))
}

fn calls(calls: &Value) -> String {
    chunk(&json!({"tool_calls": calls}), &Value::Null)
}

const DONE: &str = "data: [DONE]\n\n";

fn fine() -> String {
    text("fine") + &stop() + DONE
}

fn oddity(name: &'static str, body: impl Into<String>, wanted: Wanted) -> Oddity {
    let content_type = "content-type: text/event-stream\r\n";
    Oddity { name, content_type, body: body.into(), then: Then::Close, wanted }
}

fn answers() -> Vec<Oddity> {
    use Wanted::{Error, Reply};
    let usage = r#"data: {"choices":null,"usage":{"prompt_tokens":null,"completion_tokens":"2"}}"#;
    let junk = "data: {\"type\":\"ping\"}\n\ndata: \n\ndata: ping\n\n";
    let parts = json!({"content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "fine"}]});
    let document =
        |message: Value| json!({"choices": [{"message": message, "finish_reason": "stop"}]});
    let plain = document(json!({"role": "assistant", "content": "fine"})).to_string();
    vec![
        oddity("no-done", text("fine") + &stop(), Reply("fine")),
        Oddity { then: Then::Hold, ..oddity("held", text("fine") + &stop(), Reply("fine")) },
        Oddity { then: Then::Beat, ..oddity("beats", text("fine") + &stop(), Reply("fine")) },
        oddity("usage", text("fine") + &stop() + usage + "\n\n" + DONE, Reply("fine")),
        oddity("cr", fine().replace('\n', "\r"), Reply("fine")),
        oddity("parts", chunk(&parts, &Value::Null) + &stop() + DONE, Reply("fine")),
        oddity("junk", junk.to_owned() + &fine(), Reply("fine")),
        oddity(
            "two-in-one",
            r#"data: {"choices":[{"delta":{"content":"fi"}}]}{"choices":[{"delta":{"content":"ne"}}]}"#
                .to_owned()
                + "\n\n"
                + DONE,
            Reply("fine"),
        ),
        Oddity { content_type: "", ..oddity("no-type", fine(), Reply("fine")) },
        Oddity {
            content_type: "content-type: application/json\r\n",
            ..oddity("json-type", fine(), Reply("fine"))
        },
        oddity("document", plain, Reply("fine")),
        oddity("empty-reason", chunk(&json!({"content": "half"}), &json!("")), Error("model-bad-answer", "ends in the middle")),
        oddity("cut", text("half"), Error("model-bad-answer", "ends in the middle")),
        oddity(
            "length",
            text("half an ans") + &chunk(&json!({}), &json!("length")) + DONE,
            Reply("half an ans\n\n[cut off: the model reached its length limit]"),
        ),
        oddity(
            "error-in-stream",
            text("half") + "data: {\"object\":\"error\",\"message\":\"engine died\",\"code\":500}\n\n" + DONE,
            Error("model-unavailable", "engine died"),
        ),
        oddity("detail", "{\"detail\":\"not known upstream\"}", Error("model-", "not known upstream")),
        oddity("page", "<html><body>sign in</body></html>", Error("model-bad-answer", "page")),
    ]
}

fn tools() -> Vec<Oddity> {
    use Wanted::Tools;
    let call = |id: Value, index: Value, name: Value, arguments: Value| json!({"id": id, "index": index, "type": "function", "function": {"name": name, "arguments": arguments}});
    let null = Value::Null;
    let (one, two) = (json!("{\"text\":\"one\"}"), json!("{\"text\":\"two\"}"));
    let status = json!("status");
    let end = chunk(&json!({}), &json!("tool_calls")) + DONE;
    let both =
        |first: Value, second: Value| calls(&json!([first])) + &calls(&json!([second])) + &end;
    vec![
        oddity(
            "empty-ids",
            both(
                call(json!(""), null.clone(), status.clone(), one.clone()),
                call(json!(""), null.clone(), status.clone(), two.clone()),
            ),
            Tools(&["one", "two"]),
        ),
        oddity(
            "no-ids",
            both(
                call(null.clone(), null.clone(), status.clone(), one.clone()),
                call(null.clone(), null.clone(), status.clone(), two.clone()),
            ),
            Tools(&["one", "two"]),
        ),
        oddity(
            "one-index",
            both(
                call(json!("a"), json!(0), status.clone(), one.clone()),
                call(json!("b"), json!(0), status.clone(), two.clone()),
            ),
            Tools(&["one", "two"]),
        ),
        oddity(
            "object",
            calls(&json!([call(json!("a"), json!(0), status.clone(), json!({"text": "one"}))]))
                + &end,
            Tools(&["one"]),
        ),
        oddity(
            "repeated-name",
            both(
                call(json!("a"), json!(0), status.clone(), json!("{\"text\":")),
                call(json!("a"), json!(0), status, json!("\"one\"}")),
            ),
            Tools(&["one"]),
        ),
    ]
}

/// Serves one connection after the other, each on a thread of its own. Ends with the test's process.
fn serve(oddities: Vec<Oddity>) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = listener.local_addr().expect("an address");
    let oddities = std::sync::Arc::new(oddities);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let oddities = std::sync::Arc::clone(&oddities);
            // A client that hung up does not want an answer.
            thread::spawn(move || _ = answer(stream, &oddities));
        }
    });
    address
}

fn answer(mut stream: TcpStream, oddities: &[Oddity]) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let (mut path, mut length) = (String::new(), 0);
    reader.read_line(&mut path)?;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let line = line.trim_end().to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length: ") {
            length = value.parse().unwrap_or(0);
        }
        if line.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let name = path.split('/').nth(1).unwrap_or_default();
    let Some(oddity) = oddities.iter().find(|oddity| oddity.name == name) else { return Ok(()) };
    let ran_tools = String::from_utf8_lossy(&body).contains("\"role\":\"tool\"");
    let body = if ran_tools { fine() } else { oddity.body.clone() };
    let head = format!("HTTP/1.1 200 OK\r\n{}connection: close\r\n\r\n", oddity.content_type);
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())?;
    match oddity.then {
        Then::Close => {}
        // Until the other side hangs up.
        Then::Hold => _ = reader.read(&mut [0])?,
        Then::Beat => loop {
            stream.write_all(b": beat\n\n")?;
            // A rate: heartbeats without an end.
            thread::sleep(std::time::Duration::from_millis(20));
        },
    }
    Ok(())
}

fn check(host: &Host, oddity: &Oddity) -> Result<(), String> {
    let (client, name) = (host.client(), oddity.name);
    let answer = client.send_wait(name, "hello");
    let shown = || format!("{name}: {}", answer.text);
    let json: Value = serde_json::from_str(&answer.text).map_err(|_| shown())?;
    let said = json["reply"].as_str().unwrap_or_default();
    let is_right = match &oddity.wanted {
        Wanted::Reply(reply) => said == *reply,
        Wanted::Error(kind, part) => {
            json["error_type"].as_str().is_some_and(|found| found.starts_with(kind))
                && json["error"].as_str().is_some_and(|found| found.contains(part))
        }
        Wanted::Tools(texts) => {
            let ran = host.client().events_named(name, "status");
            let ran: Vec<_> = ran.iter().filter_map(|event| event["text"].as_str()).collect();
            said == "fine" && ran == *texts
        }
    };
    if is_right { Ok(()) } else { Err(shown()) }
}

/// All of them at once, so that one that waits holds up no other.
fn check_all(oddities: fn() -> Vec<Oddity>) {
    let address = serve(oddities());
    let settings = format!(
        "http_allow = [\"{address}\"]\nhost_call_ms = 60000\nwall_ms = 60000\nconfig = {{ \"model.name\" = \"m\" }}"
    );
    let host = Host::builder()
        .component("mayor", &files::component("mayor"))
        .role("mayor", "mayor", &settings)
        .start();
    let oddities = oddities();
    for Oddity { name, .. } in &oddities {
        let values = json!({"model.base-url": format!("http://{address}/{name}/v1"), "model.timeout-ms": "20000"});
        host.client().start_with(name, "mayor", json!({"envVars": values})).expect(201);
    }
    let wrong: Vec<_> = thread::scope(|scope| {
        let checks: Vec<_> =
            oddities.iter().map(|oddity| scope.spawn(|| check(&host, oddity))).collect();
        checks.into_iter().filter_map(|check| check.join().expect("no panic").err()).collect()
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    host.finish();
}

#[test]
fn what_the_model_says_arrives_however_its_server_says_it() {
    check_all(answers);
}

#[test]
fn tool_calls_are_distinguished_by_id_and_index() {
    check_all(tools);
}
