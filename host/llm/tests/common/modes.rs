//! What a server does, and what becomes of it, in rows.

use bulkhead_llm::Bounds;

use super::{Asked, NARROW, Server, Step, WIDE, ask, endpoint, outcome, question};

/// What a server does, and what a chat of it comes to.
pub struct Mode {
    pub name: &'static str,
    pub steps: Vec<Step>,
    pub expected: &'static str,
    pub bounds: Bounds,
}

pub fn mode(name: &'static str, steps: Vec<Step>, expected: &'static str) -> Mode {
    Mode { name, steps, expected, bounds: Bounds { retries: 0, ..WIDE } }
}

pub fn narrow(name: &'static str, steps: Vec<Step>, expected: &'static str) -> Mode {
    Mode { bounds: NARROW, ..mode(name, steps, expected) }
}

pub async fn check(modes: Vec<Mode>) {
    let mut wrong = Vec::new();
    for Mode { name, steps, expected, bounds } in modes {
        let server = Server::start(move |_: &Asked| steps.clone());
        let found = outcome(&mut ask(&endpoint(server.address, bounds), question())).await;
        // An end is the whole; of an error its beginning counts.
        let is_error = expected.contains(" main: ");
        if !(found == expected || is_error && found.starts_with(expected)) {
            wrong.push(format!("{name}\n  expected {expected}\n  found    {found}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
