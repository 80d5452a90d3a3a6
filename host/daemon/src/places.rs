//! What `bulkhead check` finds on this machine that `bulkhead run` would refuse, or run without: directories, the database, ports.

use std::path::Path;

use crate::config::{EvidenceSettings, Settings};
use crate::kept::refuse_newer_database;

/// What keeps a host from running here as it is configured, as lines. Changes nothing.
pub fn look(settings: &Settings) -> Vec<String> {
    let ports = settings.control.check_addresses().err().map(|error| error.to_string());
    let newer = refuse_newer_database(settings).err().map(|failure| failure.to_string());
    let evidence = settings.evidence.as_ref().and_then(EvidenceSettings::directory);
    let evidence = evidence.and_then(|dir| missing("evidence.sink", dir));
    let shipped = settings.ship.as_ref().and_then(|ship| ship.directory());
    let shipped = shipped.and_then(|dir| missing("ship.to", dir));
    [ports, newer, evidence, shipped].into_iter().flatten().collect()
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
