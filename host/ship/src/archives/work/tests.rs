use super::*;
use crate::archives::{Archives, Carrier, Index};
use crate::tests::World;

async fn begin(world: &World) -> (Archives, Carrier) {
    let place = crate::place::Place::new(&world.settings()).unwrap();
    let index = Index::claim(&place, 1, "session").await.unwrap();
    let folder = world.disk("workspaces");
    Archives::begin(&world.settings(), index, 1024, &folder, |_, _| {}).unwrap()
}

fn packed(id: &str) -> Packed {
    Packed {
        id: id.to_owned(),
        epoch: 1,
        parts: 1,
        packed_bytes: 1,
        digest: String::new(),
        bytes: 1,
        entries: 1,
        written_at: 0,
    }
}

async fn store(inner: &Inner, agent: &AgentId, id: &str) {
    let stored = inner.place.create(&key(agent, id, 0), Bytes::from_static(b"x")).await;
    assert!(matches!(stored, Ok(Put::Stored(_))));
}

#[tokio::test]
async fn a_note_of_an_end_is_not_written_when_the_agent_has_begun_again() {
    let world = World::of_directory();
    let (archives, _carrier) = begin(&world).await;
    let (inner, agent) = (&archives.0, AgentId::parse("a").unwrap());
    for begun in 0..3 {
        assert_eq!(inner.while_down(&agent, begun, || Ok(())).await, Ok(()));
        inner.begins(&agent).unwrap();
        let late = inner.while_down(&agent, begun, || Ok(())).await;
        assert_eq!(late, Err(ArchiveError::Interrupted));
    }
}

#[tokio::test]
async fn an_archive_that_was_in_doubt_stays_if_it_is_named() {
    let world = World::of_directory();
    let (archives, _carrier) = begin(&world).await;
    let (inner, agent) = (&archives.0, AgentId::parse("a").unwrap());
    for id in ["before", "after", "never"] {
        store(inner, &agent, id).await;
        drop(Doubts::take(inner, [(agent.clone(), packed(id))]));
    }
    // Its own try was given up, and the write of another agent has taken it along.
    inner.index.change(&inner.place, &agent, Some(packed("after"))).await.unwrap();
    Doubts::take(inner, []).settle();
    inner.sweep().await;
    for (id, stays) in [("before", false), ("after", true), ("never", false)] {
        let there = inner.place.get(&key(&agent, id, 0)).await.unwrap().is_some();
        assert_eq!(there, stays, "{id}");
    }
    assert!(inner.doubtful.lock().is_empty());
}

#[tokio::test]
async fn an_archive_in_doubt_is_withdrawn_while_another_agent_ships() {
    let world = World::of_directory();
    let (archives, _carrier) = begin(&world).await;
    let (inner, agent) = (&archives.0, AgentId::parse("a").unwrap());
    // The index names it, and the answer was lost.
    let (index, version) = inner.place.get(KEY).await.unwrap().unwrap();
    let mut index: serde_json::Value = serde_json::from_slice(&index).unwrap();
    index["archives"]["a"] = serde_json::to_value(packed("one")).unwrap();
    let index = serde_json::to_vec(&index).unwrap().into();
    assert!(matches!(inner.place.replace(KEY, index, &version).await, Ok(Put::Stored(_))));
    drop(Doubts::take(inner, [(agent.clone(), packed("one"))]));
    // The write of another one is under way, and will fail.
    let other = (AgentId::parse("b").unwrap(), packed("other"));
    let others = Doubts::take(inner, [other.clone()]);
    inner.withdraw(&agent).await.unwrap();
    let (index, _) = inner.place.get(KEY).await.unwrap().unwrap();
    let index: serde_json::Value = serde_json::from_slice(&index).unwrap();
    assert_eq!(index["archives"].get("a"), None);
    drop(others);
    assert_eq!(*inner.doubtful.lock(), [other]);
}

#[tokio::test]
async fn what_another_agent_is_about_to_name_is_settled_by_nobody_else() {
    let world = World::of_directory();
    let (archives, _carrier) = begin(&world).await;
    let (inner, agent) = (&archives.0, AgentId::parse("a").unwrap());
    store(inner, &agent, "one").await;
    let own = Doubts::take(inner, [(agent.clone(), packed("one"))]);
    Doubts::take(inner, []).settle();
    inner.index.change(&inner.place, &agent, Some(packed("one"))).await.unwrap();
    own.settle();
    inner.sweep().await;
    assert!(inner.place.get(&key(&agent, "one", 0)).await.unwrap().is_some());
}
