//! Upgrades of roles.

use bulkhead_api::UpgradeView;
use serde_json::{Value, json};

use super::{Sample, of};

pub(super) fn samples() -> Vec<Sample> {
    let sample = |call, path, status, answer| Sample { call, path, status, answer };
    let view = |role: &str, phase: &str, upgraded: usize| -> Value {
        json!({
            "role": role, "component": role,
            "codeSha256": "2ab1c54a7e9036f1d2c84b5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f708192",
            "phase": phase, "agents": 3, "upgraded": upgraded, "proven": 1, "waitsFor": "mayor-3",
            "startedAt": "2026-01-15T09:30:00.000Z"
        })
    };
    let mut loading = view("polecat", "loading", 0);
    let fields = loading.as_object_mut().expect("an object");
    fields.retain(|name, _| name != "codeSha256" && name != "waitsFor");
    fields.insert("proven".into(), 0.into());
    fields.insert("agents".into(), 0.into());
    vec![
        sample(
            "POST /roles/{role}/upgrade",
            "/roles/polecat/upgrade",
            202,
            of::<UpgradeView>(loading),
        ),
        sample(
            "GET /roles/{role}/upgrade",
            MAYOR,
            200,
            of::<UpgradeView>(view("mayor", "rolling", 2)),
        ),
        sample(
            "DELETE /roles/{role}/upgrade",
            MAYOR,
            202,
            of::<UpgradeView>(view("mayor", "rolling", 2)),
        ),
    ]
}

const MAYOR: &str = "/roles/mayor/upgrade";
