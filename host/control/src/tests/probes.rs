//! The listener for probes.

use super::fake::Rig;
use crate::ControlLimits;

#[test]
fn it_answers_probes_and_metrics_to_everybody_and_nothing_else() {
    let rig = Rig::with(ControlLimits::default(), Some("hunter2"));
    let mut client = rig.probe();
    for path in ["/health", "/livez", "/readyz", "/metrics"] {
        assert_eq!(client.get(path).status, 200, "{path}");
    }
    for path in ["/agents", "/memory", "/crashes", "/agents/a1/status", "/agents/a1/events"] {
        assert_eq!(client.get(path).status, 404, "{path}");
    }
    assert_eq!(client.post("/agents/start", r#"{"agentId":"a1","role":"polecat"}"#).status, 404);
    assert_eq!(client.post("/health", "{}").status, 405);
}

#[test]
fn it_trusts_nobody_and_lets_no_page_in() {
    let rig = Rig::with(ControlLimits::default(), Some("hunter2"));
    rig.backend.set_missing("lost");
    let mut client = rig.probe();
    let header = "authorization: Bearer hunter2\r\nx-town-config: {\"env_vars\":{\"K\":1}}\r\nx-drain-nonce: n\r\n";
    assert_eq!(client.ask("GET", "/health", header, "").status, 200);
    let ready = client.ask("GET", "/readyz", header, "");
    assert!(ready.body.contains('1') && !ready.body.contains("lost"), "{}", ready.body);
    assert!(rig.backend.changes().is_empty());
    assert_eq!(client.ask_plainly("GET", "/metrics", "host: evil.example\r\n", "").status, 403);
}

#[test]
fn those_who_hold_its_connections_keep_nobody_out() {
    let limits = ControlLimits { probe_connections: 4, ..ControlLimits::default() };
    let rig = Rig::with(limits, Some("hunter2"));
    let held: Vec<_> = (0..40).map(|_| rig.probe()).collect();
    assert_eq!(rig.probe().get("/livez").status, 200);
    assert_eq!(rig.client().get("/livez").status, 200);
    drop(held);
}
