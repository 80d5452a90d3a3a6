//! Upgrades of roles that exist, or not.

use std::io::{self, Write};

use bulkhead_api::{UpgradePhase, UpgradeView};
use bulkhead_supervisor::{BroughtComponent, Incoming, UpgradeRefusal};
use bulkhead_types::Timestamp;

pub(super) fn receive_component() -> Result<Incoming, UpgradeRefusal> {
    Ok(Incoming::new(&std::env::temp_dir())?)
}

/// The component is the text of the reference.
pub(super) fn fetch_component(reference: &str) -> Result<BroughtComponent, UpgradeRefusal> {
    match reference {
        "latest" => Err(UpgradeRefusal::BadReference("latest is no reference".to_owned())),
        "nowhere" => Err(UpgradeRefusal::NotFetched("nobody listens there".to_owned())),
        text => {
            let mut incoming = receive_component()?;
            incoming.write_all(text.as_bytes())?;
            Ok(incoming.finish()?)
        }
    }
}

pub(super) fn upgrade(
    role: &str,
    component: Option<BroughtComponent>,
) -> Result<UpgradeView, UpgradeRefusal> {
    let mut view = upgrade_of("mayor")?;
    view.role = role.to_owned();
    view.code_sha256 = component.map(|component| component.sha256);
    Ok(view)
}

pub(super) fn upgrade_of(role: &str) -> Result<UpgradeView, UpgradeRefusal> {
    match role {
        "polecat" => Err(UpgradeRefusal::None(role.to_owned())),
        "full" => Err(UpgradeRefusal::Disk(io::ErrorKind::StorageFull.into())),
        "mayor" => Ok(UpgradeView {
            role: role.to_owned(),
            component: "echo".to_owned(),
            code_sha256: None,
            phase: UpgradePhase::Rolling,
            agents: 3,
            upgraded: 1,
            proven: 0,
            waits_for: None,
            problem: None,
            started_at: Timestamp(1),
            ended_at: None,
        }),
        _ => {
            let known = "full, mayor, polecat".to_owned();
            Err(UpgradeRefusal::NoSuchRole { role: role.to_owned(), known })
        }
    }
}

pub(super) fn abort_upgrade(role: &str) -> Result<UpgradeView, UpgradeRefusal> {
    upgrade_of(role)
}
