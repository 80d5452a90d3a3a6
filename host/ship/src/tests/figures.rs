use super::*;

/// The figures of `docs/decisions/shipping.md`.
#[test]
#[ignore = "a measurement"]
fn restore_of_a_thousand_agents() {
    for world in World::both() {
        let first = world.start("a", 1);
        for n in 0..1000 {
            let agent = format!("agent-{n}");
            drop(first.database.change(&id(&agent), began(1)));
            drop(first.database.keep_snapshot(snapshot(&agent, 1, vec![n as u8; 2048])));
        }
        first.shipped(PATIENCE).unwrap();
        let mut times = (Vec::new(), Vec::new());
        for n in 0..200 {
            let began_at = Instant::now();
            first.change("agent-1", began(n + 2));
            times.0.push(began_at.elapsed());
            first.shipped(PATIENCE).unwrap();
            times.1.push(began_at.elapsed());
        }
        times.0.sort();
        times.1.sort();
        first.die();
        let second = world.start("b", 2);
        eprintln!("p50 node {:?}, fleet {:?}; {:?}", times.0[100], times.1[100], second.restored);
        second.end();
    }
}

/// The same of workspaces: small files and one large one.
#[test]
#[ignore = "a measurement"]
fn workspaces_of_three_sizes() {
    for world in World::both() {
        for (files, bytes) in [(10, 1_000), (1_000, 10_000), (100, 600_000)] {
            archives::figures(&world, files, bytes);
        }
    }
}
