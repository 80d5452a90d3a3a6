use super::*;
use crate::archives::{Archives, Carrier, Index};
use crate::tests::World;

async fn begin(world: &World) -> (Archives, Carrier) {
    let place = crate::place::Place::new(&world.settings()).unwrap();
    let index = Index::claim(&place, 1, "session").await.unwrap();
    let folder = world.disk("workspaces");
    Archives::begin(&world.settings(), index, 1024, &folder, |_, _| {}).unwrap()
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
    let packed = |id: &str| Packed {
        id: id.to_owned(),
        epoch: 1,
        parts: 1,
        packed_bytes: 1,
        digest: String::new(),
        bytes: 1,
        entries: 1,
        written_at: 0,
    };
    for id in ["before", "after", "never"] {
        let stored = inner.place.create(&key(&agent, id, 0), Bytes::from_static(b"x")).await;
        assert!(matches!(stored, Ok(Put::Stored(_))));
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
    assert!(lock(&inner.doubtful).is_empty());
}
