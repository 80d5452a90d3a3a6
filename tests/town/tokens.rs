//! New tokens under load: no restart, no failed call of a guest, and the old token is not used any more.

use std::time::Duration;

use harness::{Trial, json, wait_until};
use town_server::tokens::Standing;
use town_server::{Call, Fault, TownServer};

use super::beside::{TOWN, builder, check, kept, registry_is, town};

fn generation(town: &TownServer) -> u64 {
    kept(town, |kept| kept.tokens.generation())
}

/// Waits until the newest token was used for calls that were answered.
#[track_caller]
fn is_used(town: &TownServer, number: usize) {
    let newest = generation(town);
    wait_until(&format!("token {newest} is used"), || {
        let used = |record: &town_server::Record| {
            record.generation == Some(newest) && record.status == Some(200)
        };
        town.calls_where(used).len() >= number
    });
}

/// A host whose agents work all the time, beside a town.
struct Load {
    trial: Trial,
    town: TownServer,
}

impl Load {
    fn begin(town: TownServer) -> Self {
        let trial = Trial::begin(builder(&town));
        trial.host().wait_until_ready();
        for agent in ["ann", "bob", "cyd"] {
            trial.client().start(agent, "remembers");
        }
        registry_is(&town, &["ann", "bob", "bystander", "cyd"]);
        Self { trial, town }
    }

    /// Some of everything that makes calls.
    fn work(&self) {
        let client = self.trial.client();
        for agent in ["ann", "bob", "cyd"] {
            assert_eq!(client.ask(agent, "hi"), "hi");
        }
        client.start("comes-and-goes", "echo");
        client.stop("comes-and-goes").expect(200);
    }

    fn finish(self) {
        let Self { trial, town } = self;
        for agent in ["ann", "bob", "cyd", "bystander"] {
            let status = trial.client().status(agent);
            assert_eq!(status.incarnation.0, 1, "it was started again: {status:?}");
            assert!(trial.host().events_of(agent, "agent.exit").is_empty());
        }
        let lines = trial.finish();
        let text = lines.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        kept(&town, |kept| {
            for token in kept.tokens.all() {
                assert!(!text.contains(token), "a token stands in the log");
            }
        });
        check(&town);
    }
}

#[test]
fn a_refused_token_is_replaced_under_load() {
    let load = Load::begin(town());
    for round in 1..=5 {
        load.work();
        kept(&load.town, |kept| kept.tokens.make_stale());
        load.work();
        wait_until("there is a new token", || generation(&load.town) == round + 1);
        is_used(&load.town, 5);
    }
    let refreshes = load.town.calls_of(Call::RefreshToken);
    assert_eq!(refreshes.len(), 5, "one caller asks for all: {refreshes:?}");
    load.trial.host().wait_for_number(&["town.token_refreshed"], 5);
    let logged = load.trial.host().events_named("town.token_refreshed");
    assert!(logged.iter().all(|line| line["why"] == "unauthorized"), "{logged:?}");
    let missed = load.trial.host().events_named("town.call_failed");
    assert!(missed.is_empty(), "no call was lost: {missed:?}");
    load.finish();
}

#[test]
fn a_token_that_is_about_to_end_is_replaced_before() {
    let town = town();
    kept(&town, |kept| kept.tokens.lifetime = Duration::from_secs(20 * 60));
    assert!(!town.token(TOWN).is_empty());
    kept(&town, |kept| kept.tokens.lifetime = Duration::from_secs(3600));
    let load = Load::begin(town);
    wait_until("there is a new token", || generation(&load.town) == 2);
    is_used(&load.town, 20);
    load.work();
    assert_eq!(generation(&load.town), 2, "the new one lasts");
    let logged = load
        .trial
        .host()
        .wait_for_line("the new token", |line| line["event"] == "town.token_refreshed");
    assert_eq!(logged["why"], "expiry", "{logged}");
    let refused = load.town.calls_where(|record| record.status == Some(401));
    assert!(refused.iter().all(|record| record.standing == Standing::Replaced), "{refused:?}");
    load.finish();
}

#[test]
fn tokens_that_live_shortly_never_end_in_use() {
    let town = town();
    kept(&town, |kept| kept.tokens.lifetime = Duration::from_secs(10));
    let load = Load::begin(town);
    let done = || generation(&load.town) >= 4;
    wait_until("it was replaced three times", || {
        load.work();
        done()
    });
    let expired = load.town.calls_where(|record| record.standing == Standing::Expired);
    assert!(expired.is_empty(), "an ended token was used: {:?}", expired.first());
    load.finish();
}

#[test]
fn a_token_that_the_control_plane_sends_is_used_at_once() {
    let load = Load::begin(town());
    for _ in 0..5 {
        load.work();
        // The town makes a new one, and from then on the old one is nobody's.
        let token = kept(&load.town, |kept| kept.tokens.issue(TOWN));
        let answer = load.trial.client().post("/refresh-token", &json!({"token": token}));
        assert_eq!(answer.expect(200), json!({"refreshed": true}));
        is_used(&load.town, 5);
        load.work();
    }
    load.trial.host().wait_for_number(&["refresh_token.received"], 5);
    load.finish();
}

#[test]
fn what_is_no_token_is_refused_and_the_old_one_stays() {
    let load = Load::begin(town());
    for body in [json!({"token": ""}), json!({"token": 7}), json!({}), json!({"token": "a b"})] {
        load.trial.client().post("/refresh-token", &body).expect_error(400, &["token"]);
    }
    let one = generation(&load.town);
    load.work();
    is_used(&load.town, 5);
    assert_eq!(generation(&load.town), one);
    load.finish();
}

#[test]
fn a_new_token_whose_answer_was_lost_is_put_right_by_the_control_plane() {
    let load = Load::begin(town());
    load.town.misbehave_times(Call::RefreshToken, Fault::HalfBody, 1);
    kept(&load.town, |kept| kept.tokens.make_stale());
    // The town has a new one that the host never heard of. Nothing that the host has is good now.
    wait_until("the answer was lost", || generation(&load.town) == 2);
    load.work();
    let token = load.town.token(TOWN);
    load.trial.client().post("/refresh-token", &json!({"token": token})).expect(200);
    is_used(&load.town, 5);
    load.work();
    registry_is(&load.town, &["ann", "bob", "bystander", "cyd"]);
    load.finish();
}
