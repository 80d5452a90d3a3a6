//! Requests that hold as much as they can and never end, and requests whose handles are never dropped.

use std::mem::forget;

use wasip2::http::outgoing_handler::handle;
use wasip2::http::types::{
    Fields, FutureIncomingResponse, Method, OutgoingBody, OutgoingRequest, Scheme,
};
use wasip2::io::streams::{OutputStream, StreamError};

/// A header's value; its name and the host's own structures come with it.
const VALUE: [u8; 1000] = [b'x'; 1000];

/// A request that was not sent, with a body that takes more. The fields are dropped in order: a stream
/// before its body.
pub struct Unsent {
    stream: OutputStream,
    body: OutgoingBody,
    request: OutgoingRequest,
}

/// A request under way.
pub struct Sent {
    _stream: OutputStream,
    _body: OutgoingBody,
    _response: FutureIncomingResponse,
}

/// As many of them as the host takes: more would end the guest.
const VALUES: usize = 29;

/// Header fields, nearly as large as the host takes.
pub fn fields() -> Fields {
    let fields = Fields::new();
    for name in 0..VALUES {
        fields.append(&format!("x-hog-{name}"), &VALUE).expect("the host takes as many");
    }
    fields
}

impl Unsent {
    pub fn new(authority: &str) -> Self {
        let request = OutgoingRequest::new(Fields::new());
        request.set_method(&Method::Post).expect("POST is a method");
        request.set_scheme(Some(&Scheme::Http)).expect("http is a scheme");
        request.set_authority(Some(authority)).expect("a test names a valid authority");
        request.set_path_with_query(Some("/")).expect("a path is a path");
        let body = request.body().expect("it is taken once");
        let stream = body.write().expect("it is taken once");
        Self { stream, body, request }
    }

    /// Writes as much as the host takes without reading any of it.
    pub fn fill(&self) -> usize {
        fill(&self.stream)
    }

    /// Sends it, and writes as much as the host takes.
    pub fn send(self) -> Option<Sent> {
        let Self { stream, body, request } = self;
        let response = match handle(request, None) {
            Ok(response) => response,
            Err(_) => {
                // A stream goes before its body.
                drop(stream);
                return None;
            }
        };
        fill(&stream);
        Some(Sent { _stream: stream, _body: body, _response: response })
    }
}

fn fill(stream: &OutputStream) -> usize {
    let mut bytes = 0;
    while let Ok(room @ 1..) = stream.check_write() {
        let room = usize::try_from(room).unwrap_or(usize::MAX);
        if stream.write(&vec![1; room]).is_err() {
            break;
        }
        bytes += room;
    }
    bytes
}

/// A request with a body of so many bytes, in writes as large as the host takes, each flushed. `length`: it has
/// `content-length`, else it goes in chunks. Returns the status, or the step that failed.
pub fn post(authority: &str, path: &str, bytes: usize, length: bool) -> Result<u16, String> {
    let fields = Fields::new();
    if length {
        let value = bytes.to_string().into_bytes();
        fields.append("content-length", &value).map_err(|error| error.to_string())?;
    }
    let request = OutgoingRequest::new(fields);
    request.set_method(&Method::Post).expect("POST is a method");
    address(&request, authority, path)?;
    let body = request.body().expect("it is taken once");
    let future = handle(request, None).map_err(|error| error.to_string())?;
    write(&body, bytes).map_err(|(step, error)| format!("{step}: {error}"))?;
    OutgoingBody::finish(body, None).map_err(|error| format!("finish: {error}"))?;
    future.subscribe().block();
    let response = future.get().ok_or("no answer")?.map_err(|()| "taken before")?;
    Ok(response.map_err(|error| error.to_string())?.status())
}

fn write(body: &OutgoingBody, mut bytes: usize) -> Result<(), (&'static str, StreamError)> {
    let stream = body.write().expect("it is taken once");
    while bytes > 0 {
        stream.subscribe().block();
        let room = stream.check_write().map_err(|error| ("check", error))?;
        let piece = bytes.min(usize::try_from(room).unwrap_or(usize::MAX));
        stream.write(&vec![b'x'; piece]).map_err(|error| ("write", error))?;
        stream.blocking_flush().map_err(|error| ("flush", error))?;
        bytes -= piece;
    }
    Ok(())
}

/// Posts `body` as JSON text with one more header. Returns the status, that header of the response, and its body, or
/// why there is none.
pub fn call(url: &str, header: &str, value: &str, body: &str) -> String {
    let request = bulkhead_guest::http::Request::post(url).header(header, value);
    let called = request.json(&body).and_then(|request| request.send()).and_then(|response| {
        let echoed = response.header(header).unwrap_or_default().to_owned();
        Ok((response.status(), echoed, response.text()?))
    });
    match called {
        Ok((status, echoed, text)) => format!("{status} {echoed} {text}"),
        Err(error) => format!("failed: {error}"),
    }
}

/// So many requests one after the other. Returns how many failed.
pub fn storm(count: usize, authority: &str) -> usize {
    let fails = |_: &usize| {
        let response = bulkhead_guest::http::Request::get(format!("http://{authority}/")).send();
        response.and_then(|response| response.text()).is_err()
    };
    (0..count).filter(fails).count()
}

/// `authority` may begin with a scheme; without one it is `http`.
fn address(request: &OutgoingRequest, authority: &str, path: &str) -> Result<(), String> {
    let (scheme, authority) = match authority.strip_prefix("https://") {
        Some(authority) => (Scheme::Https, authority),
        None => (Scheme::Http, authority),
    };
    request.set_scheme(Some(&scheme)).expect("it is a scheme");
    request.set_authority(Some(authority)).map_err(|()| "a bad authority")?;
    request.set_path_with_query(Some(path)).map_err(|()| "a bad path")?;
    Ok(())
}

/// A request that is answered, read to its end when `reads`, and of which every handle is kept, as in a
/// language whose garbage collector has no reason to run. Returns the bytes that were read.
pub fn fetch(authority: &str, path: &str, reads: bool) -> Result<usize, String> {
    let request = OutgoingRequest::new(Fields::new());
    address(&request, authority, path)?;
    forget(request.headers());
    let future = handle(request, None).map_err(|error| error.to_string())?;
    let answered = future.subscribe();
    answered.block();
    forget(answered);
    let response = future.get().ok_or("no answer")?.map_err(|()| "taken before")?;
    forget(future);
    let response = response.map_err(|error| error.to_string())?;
    forget(response.headers());
    let body = response.consume().map_err(|()| "taken before")?;
    forget(response);
    let mut bytes = 0;
    if reads {
        let stream = body.stream().map_err(|()| "taken before")?;
        loop {
            let ready = stream.subscribe();
            ready.block();
            forget(ready);
            match stream.read(64 * 1024) {
                Ok(piece) => bytes += piece.len(),
                Err(StreamError::Closed) => break,
                Err(StreamError::LastOperationFailed(error)) => {
                    // What was kept belongs to them.
                    forget((stream, body));
                    return Err(error.to_debug_string());
                }
            }
        }
        forget(stream);
    }
    forget(body);
    Ok(bytes)
}
