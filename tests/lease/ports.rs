//! Ports for copies whose ports have to be known.

use std::net::{SocketAddr, TcpListener};

/// Two ports that are free: for the control API, and for probes.
pub struct Ports {
    pub control: SocketAddr,
    pub probes: SocketAddr,
}

impl Ports {
    pub fn free() -> Self {
        let bound = || TcpListener::bind("127.0.0.1:0").expect("a port");
        let (control, probes) = (bound(), bound());
        let address = |listener: &TcpListener| listener.local_addr().expect("an address");
        Self { control: address(&control), probes: address(&probes) }
    }

    pub fn configured(&self) -> String {
        format!("listen = \"{}\"\nprobe_listen = \"{}\"", self.control, self.probes)
    }

    pub fn both(&self) -> [SocketAddr; 2] {
        [self.control, self.probes]
    }
}
