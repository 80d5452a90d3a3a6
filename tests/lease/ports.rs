//! Ports for copies whose ports have to be known.

use std::net::SocketAddr;

use harness::free_address;

/// Two ports that are free: for the control API, and for probes.
pub struct Ports {
    pub control: SocketAddr,
    pub probes: SocketAddr,
}

impl Ports {
    pub fn free() -> Self {
        Self { control: free_address(), probes: free_address() }
    }

    pub fn configured(&self) -> String {
        format!("listen = \"{}\"\nprobe_listen = \"{}\"", self.control, self.probes)
    }

    pub fn both(&self) -> [SocketAddr; 2] {
        [self.control, self.probes]
    }
}
