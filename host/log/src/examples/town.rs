//! The town: what the container calls, and what comes of it.

use bulkhead_types::event::{
    RefreshTokenReceived, TownCallFailed, TownCallGivenUp, TownCallSwitchedOff, TownConfigIgnored,
    TownDropped, TownFenced, TownReachable, TownTokenRefreshed, TownUnreachable,
};
use bulkhead_types::{AgentId, Event, Timestamp};

pub(super) fn all() -> [Event; 10] {
    [
        Event::TownConfigIgnored(TownConfigIgnored {
            path: "env_vars.PATH=".into(),
            problem: "key must not have = or NUL".into(),
        }),
        Event::TownCallFailed(TownCallFailed {
            call: "heartbeat",
            cause: "status",
            status: Some(503),
            attempts: 3,
            message: "the town answered 503 Service Unavailable: overloaded".into(),
            agent_id: Some(AgentId::parse("furiosa").expect("an id")),
            fingerprint: "town:heartbeat:status:503".into(),
            repeated: 4,
        }),
        Event::TownUnreachable(TownUnreachable {
            cause: "connect",
            message: "connect to 10.0.0.7:443: Connection refused (os error 111)".into(),
        }),
        Event::TownReachable(TownReachable { down_ms: 93_412 }),
        Event::TownFenced(TownFenced {
            newer_run_id: Some("019bc0f9-11c2-7d70-b8a1-6e0d5f2c9a31".into()),
            action: "another container serves this town; stop this one, or restart it to take over",
        }),
        Event::TownTokenRefreshed(TownTokenRefreshed {
            why: "expiry",
            expires_at: Some(Timestamp(super::AT.0 + 3_600_000)),
        }),
        Event::RefreshTokenReceived(RefreshTokenReceived {
            expires_at: Some(Timestamp(super::AT.0 + 7_200_000)),
        }),
        Event::TownDropped(TownDropped { what: "events", dropped: 312, total: 1_204 }),
        Event::TownCallGivenUp(TownCallGivenUp {
            call: "completed",
            agent_id: AgentId::parse("furiosa").expect("an id"),
            attempts: 24,
            tried_ms: 602_118,
            message: "status: the town answered 500 Internal Server Error".into(),
        }),
        Event::TownCallSwitchedOff(TownCallSwitchedOff {
            call: "pending_nudges",
            status: Some(404),
            agent_id: None,
        }),
    ]
}
