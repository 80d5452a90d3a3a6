//! A server that attacks its clients.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use super::step_back;

/// Answers every request with `100 Continue`, or with a response in small chunks, without end. Yields where it listens. It
/// is there as long as this process.
pub fn serve() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("listen on the loopback");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || answer(stream));
        }
    });
    address
}

fn answer(mut stream: TcpStream) {
    step_back();
    let mut head = [0; 4096];
    let Ok(length) = stream.read(&mut head) else { return };
    let (begin, flood): (&[u8], _) = if head[..length].starts_with(b"GET /interim") {
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n".repeat(2000))
    } else {
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", b"1\r\na\r\n".repeat(10_000))
    };
    // Until its client is gone.
    let _ = stream.write_all(begin);
    while stream.write_all(&flood).is_ok() {}
}
