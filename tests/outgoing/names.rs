//! A name server that knows some names, and says nothing at all about some others.

use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

/// How names end that have an address, and those that get no answer. All others do not exist.
const KNOWN: &str = "good.test";
const SILENT: &str = "evil.test";

const TYPE_A: [u8; 2] = [0, 1];
const NO_SUCH_NAME: u8 = 0x83;

/// Serves on the port of name servers, on the loopback of this namespace, as long as this process is there. Every name that
/// it knows has this address, and no other. Yields what it is asked for.
pub fn serve(address: Ipv4Addr) -> io::Result<Receiver<String>> {
    let socket = UdpSocket::bind("127.0.0.1:53")?;
    let (names, asked) = sync_channel(1024);
    thread::spawn(move || {
        let mut packet = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut packet) {
            if let Some((name, answer)) = answer(&packet[..length], address) {
                if !answer.is_empty() {
                    let _ = socket.send_to(&answer, from);
                }
                let _ = names.try_send(name);
            }
        }
    });
    Ok(asked)
}

/// As RFC 1035 has it: a head of twelve bytes, the question, the answers.
fn answer(query: &[u8], address: Ipv4Addr) -> Option<(String, Vec<u8>)> {
    let (head, question) = query.split_at_checked(12)?;
    let (mut labels, mut rest) = (Vec::new(), question);
    while let Some((&length, label)) = rest.split_first().filter(|(length, _)| **length > 0) {
        let (label, behind) = label.split_at_checked(length.into())?;
        labels.push(String::from_utf8_lossy(label).into_owned());
        rest = behind;
    }
    let name = labels.join(".");
    if name.ends_with(SILENT) {
        return Some((name, Vec::new()));
    }
    // The end of the name, its type, its class.
    let question = &question[..question.len() - rest.len() + 5];
    let is_known = name.ends_with(KNOWN);
    let is_asked = is_known && rest.get(1..3)? == TYPE_A;
    let mut answer = head[..2].to_vec();
    answer.extend([0x81, if is_known { 0x80 } else { NO_SUCH_NAME }]);
    answer.extend([0, 1, 0, u8::from(is_asked), 0, 0, 0, 0]);
    answer.extend(question);
    if is_asked {
        // The name of the question, the type, the class, no time to live, four bytes.
        answer.extend([0xc0, 0x0c, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]);
        answer.extend(address.octets());
    }
    Some((name, answer))
}
