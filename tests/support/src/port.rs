use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;

/// Below those that Linux gives to who asks for any (32768 to 60999): no connection and no other listener gets one by chance.
const FIRST: u32 = 12_000;
const COUNT: u32 = 20_000;

/// An address of the loopback for a server that is started later, or again: with a port that nobody has now. Each call in a process
/// is given another, and tests that run at the same time hardly ever the same.
pub fn free_address() -> SocketAddr {
    static CALLS: AtomicU32 = AtomicU32::new(0);
    // Sixteen for each process: its neighbours have the next ones.
    let first = process::id().wrapping_mul(16);
    (0..COUNT)
        .map(|_| first.wrapping_add(CALLS.fetch_add(1, Relaxed)) % COUNT + FIRST)
        .map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, u16::try_from(port).unwrap_or(0))))
        .find(|address| TcpListener::bind(address).is_ok())
        .expect("none of 20,000 ports is free")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_call_has_another_and_none_is_of_those_that_anybody_gets() {
        let range =
            std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").expect("read");
        let any = range.split_whitespace().next().and_then(|first| first.parse::<u16>().ok());
        let held: Vec<_> =
            (0..40).map(|_| TcpListener::bind(free_address()).expect("free")).collect();
        for listener in &held {
            let port = listener.local_addr().expect("an address").port();
            assert!(Some(port) < any, "{port} may be given to anybody: {range}");
        }
    }
}
