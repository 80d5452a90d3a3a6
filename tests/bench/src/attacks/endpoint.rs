//! A server that attacks its clients.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use super::step_back;

/// Answers every request with what its path names, without end. Yields where it listens. It is there as long as this
/// process.
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
    const CHUNKED: &[u8] = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    step_back();
    let mut head = [0; 4096];
    let Ok(length) = stream.read(&mut head) else { return };
    let path = head[..length].split(|byte| *byte == b' ').nth(1).unwrap_or_default();
    let (begin, flood): (&[u8], Vec<u8>) = match path {
        b"/interim" => (b"", b"HTTP/1.1 100 Continue\r\n\r\n".repeat(2000)),
        b"/hints" => (b"", early_hints()),
        b"/head" => (b"HTTP/1.1 200 OK\r\n", b"a: b\r\n".repeat(10_000)),
        b"/extension" => (&[CHUNKED, b"1"].concat(), b";a=b".repeat(10_000)),
        b"/trailers" => (&[CHUNKED, b"0\r\n"].concat(), b"a: b\r\n".repeat(10_000)),
        b"/broken" => {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n");
            return;
        }
        _ => (CHUNKED, b"1\r\na\r\n".repeat(10_000)),
    };
    // Until its client is gone.
    let _ = stream.write_all(begin);
    while stream.write_all(&flood).is_ok() {}
}

/// Ten interim responses, each with as many headers as clients take.
fn early_hints() -> Vec<u8> {
    let headers: String = (0..90).map(|number| format!("x-{number}: {number}\r\n")).collect();
    format!("HTTP/1.1 103 Early Hints\r\n{headers}\r\n").repeat(10).into_bytes()
}
