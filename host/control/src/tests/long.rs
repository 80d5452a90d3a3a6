//! Long answers are made beside the server's thread.

use super::fake::Rig;

#[test]
fn while_a_long_answer_is_made_others_are_answered() {
    let rig = Rig::start();
    for path in [
        "/agents",
        "/agents?limit=2",
        "/crashes",
        "/agents/a1/crashes",
        "/agents/a1/events",
        "/usage",
        "/v1/models",
        "/console",
        "/console/agents/a1",
    ] {
        let mut client = rig.client();
        let held = rig.backend.hold_reads();
        client.say(format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n"));
        rig.backend.await_held_read();
        for probe in ["/livez", "/health", "/readyz", "/agents/a1/status"] {
            assert_eq!(rig.client().get(probe).status, 200, "{probe} beside {path}");
        }
        drop(held);
        assert_eq!(client.hear().status, 200, "{path}");
    }
}
