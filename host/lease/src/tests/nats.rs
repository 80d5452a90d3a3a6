//! A register in NATS: beside as much of JetStream as it asks for, and beside a real nats-server: `just lease`.

use std::path::PathBuf;
use std::time::Duration;

use bulkhead_nats::Login;
use jetstream::{Fake, Real, make_bucket};
use serde_json::json;

use super::identity;
use super::real::{is_a_register, keeps_its_word, record, settings, stored};
use crate::register::{self, Written};
use crate::*;

const SEED: &str = "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY";
const PUBLIC: &str = "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4";

fn of_fake(server: &Fake) -> Settings {
    settings(&format!("nats://{}/towns", server.at()))
}

fn with_login(mut settings: Settings, login: Login) -> Settings {
    let Address::Nats(nats) = &mut settings.register else { panic!() };
    nats.login = login;
    settings
}

async fn probe(settings: &Settings) -> RegisterError {
    register::open(settings).unwrap().probe().await.unwrap_err()
}

#[tokio::test]
async fn nats_is_a_register() {
    let server = Fake::start("towns", true).unwrap();
    is_a_register(&of_fake(&server)).await;
    let keys = server.keys();
    assert!(keys.contains(&"lease.town-7".to_owned()), "{keys:?}");
}

#[tokio::test]
async fn a_name_with_dots_is_one_part_of_a_key() {
    let server = Fake::start("towns", true).unwrap();
    let town = Name::parse("a.b..c.").unwrap();
    let settings = Settings { town, ..of_fake(&server) };
    stored(register::open(&settings).unwrap().write_if(None, &record(1)).await);
    assert_eq!(server.keys(), ["lease.a=b==c="]);
    let seen = super::real::fleet(&settings).watch(Duration::ZERO).await.unwrap();
    assert_eq!(seen.towns[0].name.as_str(), "a.b..c.");
}

#[tokio::test]
async fn jetstream_that_ignores_conditions_or_loses_documents_is_refused() {
    let server = Fake::start("towns", false).unwrap();
    let error = probe(&of_fake(&server)).await;
    assert!(
        matches!(&error, RegisterError::Misbehaves(text) if text.contains("condition")),
        "{error}"
    );
    for (key, value) in [
        ("storage", json!("memory")),
        ("max_age", json!(1_000_000_000_u64)),
        ("subjects", json!(["x.>"])),
        // The fake is as old as such servers.
        ("num_replicas", json!(3)),
    ] {
        let server = Fake::start("towns", true).unwrap();
        server.configure(key, value);
        let error = probe(&of_fake(&server)).await;
        assert!(
            matches!(&error, RegisterError::Misbehaves(text) if text.contains("loses")),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_bucket_that_is_not_there_is_named_and_not_made() {
    let server = Fake::start("towns", true).unwrap();
    let register = register::open(&settings(&format!("nats://{}/others", server.at()))).unwrap();
    for error in [
        register.probe().await.unwrap_err(),
        register.read().await.unwrap_err(),
        register.write_if(None, &record(1)).await.unwrap_err(),
    ] {
        assert!(
            matches!(&error, RegisterError::Refused(text) if text.contains("nats kv add others")),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_record_that_was_deleted_by_hand_is_none() {
    let server = Fake::start("towns", true).unwrap();
    let register = register::open(&of_fake(&server)).unwrap();
    let first = stored(register.write_if(None, &record(1)).await);
    server.delete("lease.town-7");
    assert_eq!(register.read().await.unwrap(), None);
    assert_eq!(register.write_if(Some(&first), &record(2)).await.unwrap(), Written::Conflict);
    stored(register.write_if(None, &record(2)).await);
    assert_eq!(register.write_if(None, &record(3)).await.unwrap(), Written::Conflict);
}

#[tokio::test]
async fn a_write_whose_answer_is_lost_is_no_conflict_and_is_not_made_again() {
    let server = Fake::start("towns", true).unwrap();
    let register = register::open(&of_fake(&server)).unwrap();
    register.probe().await.unwrap();
    server.lose_answers(1);
    let error = register.write_if(None, &record(1)).await.unwrap_err();
    assert!(matches!(error, RegisterError::Unavailable(_)), "{error}");
    let (version, read) = register.read().await.unwrap().unwrap();
    assert_eq!(read, record(1));
    let second = stored(register.write_if(Some(&version), &record(2)).await);
    assert_eq!(register.read().await.unwrap(), Some((second, record(2))));
}

#[tokio::test]
async fn another_server_is_asked_where_one_is_gone_or_says_nothing() {
    let server = Fake::start("towns", true).unwrap();
    // Takes connections, and never says a word.
    let mute = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mute = mute.local_addr().unwrap();
    let ttl = Ttl::new(Duration::from_secs(2)).unwrap();
    for gone in ["127.0.0.1:1".to_owned(), mute.to_string()] {
        let settings = settings(&format!("nats://{gone},{}/towns", server.at()));
        let register = register::open(&Settings { ttl, ..settings }).unwrap();
        assert_eq!(register.read().await.unwrap(), None);
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_waited_for() {
    let error = probe(&settings("nats://127.0.0.1:1/towns")).await;
    assert!(matches!(error, RegisterError::Unavailable(_)), "{error}");
}

/// Where `nats-server` is.
fn program() -> PathBuf {
    std::env::var_os("NATS_SERVER").expect("its path").into()
}

fn user(name: &str, password: &str) -> Login {
    Login::User(name.to_owned(), password.to_owned().into())
}

#[tokio::test]
#[ignore = "wants a server: just lease"]
async fn a_real_nats_server() {
    let dir = tempfile::tempdir().unwrap();
    let server = Real::start(&program(), dir.path(), "").unwrap();
    let settings = settings(&format!("nats://{}/towns", server.at()));
    let error = probe(&settings).await;
    assert!(error.to_string().contains("nats kv add towns"), "{error}");
    make_bucket(&server.at(), &json!({}), "towns", &json!({})).unwrap();
    is_a_register(&settings).await;
    make_bucket(&server.at(), &json!({}), "short", &json!({ "max_age": 60_000_000_000_u64 }))
        .unwrap();
    make_bucket(&server.at(), &json!({}), "lost", &json!({ "storage": "memory" })).unwrap();
    for bucket in ["short", "lost"] {
        let error =
            probe(&super::real::settings(&format!("nats://{}/{bucket}", server.at()))).await;
        assert!(matches!(error, RegisterError::Misbehaves(_)), "{error}");
    }
}

#[tokio::test]
#[ignore = "wants a server: just lease"]
async fn a_real_nats_server_with_logins() {
    let dir = tempfile::tempdir().unwrap();
    let users = format!(
        "authorization {{ users: [\
         {{ user: town, password: hunter2 }}, \
         {{ user: reader, password: hunter2, permissions: {{ publish: [\"$JS.API.>\"] }} }}, \
         {{ nkey: {PUBLIC} }} ] }}"
    );
    let server = Real::start(&program(), dir.path(), &users).unwrap();
    let town = json!({ "user": "town", "pass": "hunter2" });
    make_bucket(&server.at(), &town, "towns", &json!({})).unwrap();
    let settings = settings(&format!("nats://{}/towns", server.at()));
    for login in [Login::None, user("town", "wrong"), Login::Token("hunter3".to_owned().into())] {
        let error = probe(&with_login(settings.clone(), login)).await;
        assert!(
            matches!(&error, RegisterError::Refused(text) if text.contains("Authorization")),
            "{error}"
        );
    }
    let error = probe(&with_login(settings.clone(), user("reader", "hunter2"))).await;
    assert!(
        matches!(&error, RegisterError::Refused(text) if text.contains("Permissions Violation") && text.contains("lease.town-7")),
        "{error}"
    );
    keeps_its_word(&with_login(settings.clone(), user("town", "hunter2"))).await;
    let town = Name::parse("of-the-key").unwrap();
    let settings = Settings { town, ..settings };
    let register = register::open(&with_login(settings, Login::parse(SEED).unwrap())).unwrap();
    register.probe().await.unwrap();
    stored(register.write_if(None, &record(1)).await);
}

#[tokio::test]
#[ignore = "wants a server: just lease"]
async fn a_real_nats_server_with_a_token_and_one_without_jetstream() {
    let dir = tempfile::tempdir().unwrap();
    let config = "authorization { token: hunter2 }";
    let server = Real::start(&program(), dir.path(), config).unwrap();
    let token = json!({ "auth_token": "hunter2" });
    make_bucket(&server.at(), &token, "towns", &json!({})).unwrap();
    let settings = settings(&format!("nats://{}/towns", server.at()));
    keeps_its_word(&with_login(settings.clone(), Login::Token("hunter2".to_owned().into()))).await;
    drop(server);
    let dir = tempfile::tempdir().unwrap();
    let server = Real::start(&program(), dir.path(), "jetstream: false").unwrap();
    let error = probe(&super::real::settings(&format!("nats://{}/towns", server.at()))).await;
    assert!(error.to_string().contains("runs without it"), "{error}");
}

/// It is killed while the lease is held, and is there again before the fence.
#[tokio::test]
#[ignore = "wants a server: just lease"]
async fn a_real_nats_server_that_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Real::start(&program(), dir.path(), "").unwrap();
    make_bucket(&server.at(), &json!({}), "towns", &json!({})).unwrap();
    let ttl = Ttl::new(Duration::from_secs(6)).unwrap();
    let settings = Settings { ttl, ..settings(&format!("nats://{}/towns", server.at())) };
    let mut lease = Lease::open(&settings, identity("a"), 0).unwrap();
    let (sender, mut held) = tokio::sync::watch::channel(Vec::new());
    let notify = move |status: &Status| {
        sender.send_modify(|seen| seen.push(status.clone()));
    };
    let restart = async {
        let renewals = |seen: &Vec<Status>| {
            seen.iter().filter(|it| matches!(it, Status::Held(permit) if permit.epoch == 1)).count()
        };
        held.wait_for(|seen| renewals(seen) >= 2).await.unwrap();
        server.kill().unwrap();
        tokio::time::sleep(Duration::from_secs(2)).await;
        server.begin().unwrap();
        let so_far = renewals(&held.borrow());
        held.wait_for(|seen| renewals(seen) >= so_far + 2).await.unwrap();
        let lost = held.borrow().iter().any(|it| matches!(it, Status::Lost { .. }));
        assert!(!lost, "{:?}", held.borrow());
    };
    let limit = Duration::from_secs(60);
    let ended = tokio::time::timeout(limit, lease.hold(notify, restart)).await.unwrap();
    assert_eq!(ended, Ok(Ended::Released));
}
