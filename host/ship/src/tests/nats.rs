//! A place in NATS: beside as much of JetStream as it asks for, and beside a real nats-server: `just lease`.

use bytes::Bytes;
use jetstream::{Fake, Real, make_bucket};
use serde_json::json;

use super::{World, moves};
use crate::Address;
use crate::place::{Place, Put};

fn address(at: &str) -> Address {
    Address::parse(&format!("nats://{at}/towns")).unwrap()
}

/// Bytes that are no pattern.
fn noise(length: usize) -> Bytes {
    let mut word = 7_u64;
    let next = || {
        word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        word.to_be_bytes()[0]
    };
    std::iter::repeat_with(next).take(length).collect()
}

async fn keeps_objects_of_all_sizes(world: &World) {
    let place = Place::new(&world.settings()).unwrap();
    place.probe().await.unwrap();
    for (key, bytes) in
        [("log/1", noise(10)), ("log/2", noise(512 * 1024)), ("log/3", noise(1_700_000))]
    {
        assert_eq!(place.get(key).await.unwrap(), None);
        let Put::Stored(version) = place.create(key, bytes.clone()).await.unwrap() else {
            panic!("{key} was there");
        };
        assert_eq!(place.create(key, noise(3)).await.unwrap(), Put::Conflict, "{key}");
        assert_eq!(place.get(key).await.unwrap(), Some((bytes, version.clone())), "{key}");
        let other = noise(900_000);
        let Put::Stored(newer) = place.replace(key, other.clone(), &version).await.unwrap() else {
            panic!("{key} had another version");
        };
        assert_eq!(place.replace(key, noise(3), &version).await.unwrap(), Put::Conflict, "{key}");
        assert_eq!(place.get(key).await.unwrap(), Some((other, newer)), "{key}");
        place.remove(key).await.unwrap();
        assert_eq!(place.get(key).await.unwrap(), None, "{key}");
    }
}

#[tokio::test]
async fn objects_of_all_sizes_are_kept_on_conditions() {
    let server = Fake::start("towns", true).unwrap();
    keeps_objects_of_all_sizes(&World::at(address(&server.at().to_string()))).await;
    let left = server.keys();
    assert!(left.iter().all(|key| !key.contains(".log.")), "parts of removed objects: {left:?}");
}

#[test]
fn a_town_moves_by_nats() {
    let server = Fake::start("towns", true).unwrap();
    moves(&World::at(address(&server.at().to_string())));
}

#[tokio::test]
async fn a_part_that_is_damaged_or_gone_is_named_and_not_used() {
    let server = Fake::start("towns", true).unwrap();
    let place = Place::new(&World::at(address(&server.at().to_string())).settings()).unwrap();
    place.create("log/1", noise(1_700_000)).await.unwrap();
    let part = server.keys().into_iter().find(|key| key.ends_with(".2")).unwrap();
    assert!(server.change(&part, |bytes| bytes[9] ^= 1));
    let error = place.get("log/1").await.unwrap_err().to_string();
    assert!(error.contains("ship.town.log.1") && error.contains("digest"), "{error}");
    assert!(server.remove(&part));
    let error = place.get("log/1").await.unwrap_err().to_string();
    assert!(error.contains("part 2 is gone"), "{error}");
}

/// It is killed and is there again while the copies go on.
#[test]
#[ignore = "wants a server: just lease"]
fn real_nats_server() {
    let program = std::env::var_os("NATS_SERVER").expect("its path");
    let dir = tempfile::tempdir().unwrap();
    let mut server = Real::start(program.as_ref(), dir.path(), "").unwrap();
    make_bucket(&server.at(), &json!({}), "towns", &json!({})).unwrap();
    let world = World::at(address(&server.at()));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(keeps_objects_of_all_sizes(&world));
    let copy = world.start("c", 1);
    copy.change("agent", super::began(1));
    copy.shipped(super::PATIENCE).unwrap();
    server.kill().unwrap();
    copy.change("agent", super::began(2));
    server.begin().unwrap();
    copy.shipped(super::PATIENCE).unwrap();
    copy.end();
    let again = World::at(address(&server.at()));
    let next = again.start("d", 2);
    assert_eq!(next.agents().len(), 1);
    next.end();
}
