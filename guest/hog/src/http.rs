//! Requests that hold as much as they can and never end.

use wasip2::http::outgoing_handler::handle;
use wasip2::http::types::{
    Fields, FutureIncomingResponse, Method, OutgoingBody, OutgoingRequest, Scheme,
};
use wasip2::io::streams::OutputStream;

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

/// Header fields until the host takes no more.
pub fn fields() -> Fields {
    let fields = Fields::new();
    let mut name = 0;
    while fields.append(&format!("x-hog-{name}"), &VALUE).is_ok() {
        name += 1;
    }
    fields
}

impl Unsent {
    pub fn new(authority: &str) -> Self {
        let request = OutgoingRequest::new(Fields::new());
        request.set_method(&Method::Post).expect("POST is a method");
        request.set_scheme(Some(&Scheme::Http)).expect("http is a scheme");
        request.set_authority(Some(authority)).expect("a test names a valid authority");
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
        let response = handle(request, None).ok()?;
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
