//! A town that speaks TLS, below a path.

use harness::{json, wait_until};
use town_server::{CERTIFICATE, Call, Options, TownServer};

use super::beside::{builder, check, kept, registry_is};

fn town() -> TownServer {
    let options = Options { tls: true, prefix: "/gas/v1".into(), ..Options::default() };
    TownServer::start(options).expect("start a town server")
}

#[test]
fn a_certificate_that_is_named_is_trusted() {
    let town = town();
    kept(&town, |kept| kept.list(json!({"agentId": "ann", "role": "echo"})));
    let dir = tempfile::tempdir().expect("make a directory");
    let file = dir.path().join("town.pem");
    std::fs::write(&file, CERTIFICATE).expect("write the certificate");
    let host = builder(&town).toml(&format!("[town]\nca_file = {file:?}")).start().ready();
    assert_eq!(host.client().ask("ann", "hi"), "hi");
    host.client().start("bob", "echo");
    registry_is(&town, &["ann", "bob"]);
    wait_until("the town hears", || town.calls_of(Call::ContainerHeartbeat).len() > 2);
    host.finish();
    check(&town);
}

#[test]
fn another_one_is_not_and_the_host_works_without_the_town() {
    let town = town();
    kept(&town, |kept| kept.list(json!({"agentId": "ann", "role": "echo"})));
    let host = builder(&town).toml("[limits]\nhydration_ms = 3000").start().ready();
    let logged =
        host.wait_for_line("that nobody is trusted", |line| line["event"] == "town.unreachable");
    assert_eq!(logged["cause"], "tls", "{logged}");
    host.client().start("bob", "echo");
    assert_eq!(host.client().ask("bob", "hi"), "hi");
    assert!(town.calls().is_empty());
    host.finish();
}
