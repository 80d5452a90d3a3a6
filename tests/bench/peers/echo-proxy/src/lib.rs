//! The echo agent as a `wasi:http/proxy`, for `wasmtime serve`, which makes a new instance for each request.
//!
//! It answers a POST of `{"prompt": ...}` with `{"reply": ...}`, as an agent of the host is asked over HTTP, and
//! everything else with `{}`. It misbehaves as the test programs `puppet`, `spin` and `oom` do.
//!
//! | prompt | what it does |
//! | --- | --- |
//! | `panic` | panics |
//! | `spin` | loops for ever |
//! | `hoard` | takes memory until it is stopped |
//!
//! There is no `hoard <MiB>`: what one request holds, the next one does not have.

use std::hint::black_box;

use serde_json::{Value, json};
use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{
    Fields, IncomingBody, IncomingRequest, Method, OutgoingBody, OutgoingResponse, ResponseOutparam,
};
use wasip2::io::streams::StreamError;

const MIB: usize = 1024 * 1024;

/// Most that is read at once.
const PIECE: u64 = 64 * 1024;

struct EchoProxy;

impl Guest for EchoProxy {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let answer = match request.method() {
            Method::Post => reply(&request),
            _ => json!({}),
        };
        send(out, &answer.to_string());
    }
}

fn reply(request: &IncomingRequest) -> Value {
    let body: Value = serde_json::from_slice(&read(request)).expect("a body in JSON");
    let prompt = body["prompt"].as_str().expect("a prompt");
    match prompt {
        "panic" => panic!("told to panic"),
        "spin" => loop {
            black_box(prompt);
        },
        "hoard" => hoard(),
        _ => json!({ "reply": prompt }),
    }
}

fn hoard() -> ! {
    let mut kept = Vec::new();
    loop {
        kept.push(black_box(vec![1u8; MIB]));
    }
}

fn read(request: &IncomingRequest) -> Vec<u8> {
    let incoming = request.consume().expect("a body");
    let stream = incoming.stream().expect("its stream");
    let mut body = Vec::new();
    loop {
        match stream.blocking_read(PIECE) {
            Ok(piece) => body.extend(piece),
            Err(StreamError::Closed) => break,
            Err(error) => panic!("read the body: {error}"),
        }
    }
    drop(stream);
    IncomingBody::finish(incoming);
    body
}

fn send(out: ResponseOutparam, text: &str) {
    let headers = Fields::new();
    let length = text.len().to_string().into_bytes();
    headers.append("content-length", &length).expect("a header");
    let response = OutgoingResponse::new(headers);
    let body = response.body().expect("its body");
    ResponseOutparam::set(out, Ok(response));
    let stream = body.write().expect("its stream");
    stream.blocking_write_and_flush(text.as_bytes()).expect("write the body");
    drop(stream);
    OutgoingBody::finish(body, None).expect("end the body");
}

wasip2::http::proxy::export!(EchoProxy);
