//! What `bulkhead check` finds on this machine that `bulkhead run` would refuse: directories, the database, ports.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use crate::config::{EvidenceSettings, Settings};
use crate::kept::refuse_newer_database;

/// What keeps a host from running here, as lines. Changes nothing.
pub fn look(settings: &Settings) -> Vec<String> {
    let control = &settings.control;
    let ports = control.probe_listen.filter(|probe| collide(control.listen, *probe));
    let ports = ports.map(|probe| {
        let listen = control.listen;
        format!(
            "server.probe_listen: {probe} is the port of server.listen ({listen}); choose another"
        )
    });
    let newer = refuse_newer_database(settings).err().map(|failure| failure.to_string());
    let evidence = settings.evidence.as_ref().and_then(EvidenceSettings::directory);
    let evidence = evidence.and_then(|dir| missing("evidence.sink", dir));
    let shipped = settings.ship.as_ref().and_then(|ship| match &ship.to {
        bulkhead_ship::Address::File(dir) => missing("ship.to", dir),
        _ => None,
    });
    [ports, newer, evidence, shipped].into_iter().flatten().collect()
}

/// Whether one of two listeners finds its port taken by the other. Port 0 is any free one.
fn collide(one: SocketAddr, other: SocketAddr) -> bool {
    let is_any = |ip: IpAddr| ip.is_unspecified();
    let meet = one.ip() == other.ip()
        || (one.is_ipv4() == other.is_ipv4() && (is_any(one.ip()) || is_any(other.ip())));
    one.port() != 0 && one.port() == other.port() && meet
}

/// The directory is made by whoever owns the volume: a host that made it would write to the disk below one that is not
/// mounted.
fn missing(key: &str, dir: &Path) -> Option<String> {
    let shown = dir.display();
    (!dir.is_dir()).then(|| format!("{key}: {shown} is not a directory; create it, or mount it"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_listeners_collide_where_the_kernel_refuses_the_second() {
        let collide =
            |one: &str, other: &str| super::collide(one.parse().unwrap(), other.parse().unwrap());
        assert!(collide("127.0.0.1:8080", "127.0.0.1:8080"));
        assert!(collide("0.0.0.0:8080", "127.0.0.1:8080"));
        assert!(collide("[::1]:8080", "[::]:8080"));
        assert!(!collide("127.0.0.1:8080", "127.0.0.2:8080"));
        assert!(!collide("127.0.0.1:8080", "127.0.0.1:8081"));
        assert!(!collide("127.0.0.1:0", "127.0.0.1:0"));
        assert!(!collide("0.0.0.0:8080", "[::1]:8080"));
    }

    #[test]
    fn a_directory_that_is_not_there_is_named_with_its_key() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(missing("ship.to", dir.path()), None);
        let line = missing("ship.to", &dir.path().join("none")).unwrap();
        assert!(
            line.starts_with("ship.to: ") && line.contains("none is not a directory"),
            "{line}"
        );
    }
}
