use super::*;
use crate::archives::{Archives, Index};
use crate::tests::World;

#[tokio::test]
async fn an_archive_that_was_in_doubt_stays_if_it_is_named() {
    let world = World::of_directory();
    let place = crate::place::Place::new(&world.settings()).unwrap();
    let index = Index::claim(&place, 1, "session").await.unwrap();
    let folder = world.disk("workspaces");
    let begun = Archives::begin(&world.settings(), index, 1024, &folder, |_, _| {});
    let (archives, _carrier) = begun.unwrap();
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
        drop(Doubts::take(inner, [(agent.clone(), packed(id))].into_iter()));
    }
    // Its own try was given up, and the write of another agent has taken it along.
    inner.index.change(&inner.place, &agent, Some(packed("after"))).await.unwrap();
    Doubts::take(inner, [].into_iter()).settle();
    inner.sweep().await;
    for (id, stays) in [("before", false), ("after", true), ("never", false)] {
        let there = inner.place.get(&key(&agent, id, 0)).await.unwrap().is_some();
        assert_eq!(there, stays, "{id}");
    }
    assert!(lock(&inner.doubtful).is_empty());
}
