use bulkhead_api::TownRegistry;
use bulkhead_types::AgentId;
use serde_json::json;

use super::*;
use crate::earlier;

fn request(prompt: &str) -> StartRequest {
    let mut request = StartRequest::new(AgentId::parse("a").unwrap(), "polecat");
    request.prompt = prompt.into();
    request
}

fn listed(prompt: &str) -> Listing {
    let request = json!({"agentId": "a", "role": "polecat", "prompt": prompt});
    Listing::Lists(Box::new(town_agent(json!({"agentId": "a", "request": request}))))
}

fn town_agent(row: serde_json::Value) -> TownAgent {
    let row = serde_json::value::to_raw_value(&row).unwrap();
    TownRegistry::parse(&[row]).unwrap().agents.remove(0)
}

/// What the store says, by the words of the tables.
fn left(word: &str) -> Fate {
    let (request, origin) = (request("store"), Origin::EarlierRun { configured: None });
    match word {
        "nothing" => Fate::Unknown,
        "history" => Fate::History,
        "runs" => Fate::Start(Box::new(PlannedStart {
            is_suspect: true,
            settings: SettingsChange::from_record("{}"),
            ..PlannedStart::new(request, origin)
        })),
        "stopped" => Fate::Stopped,
        "failed" => Fate::Failed,
        "quarantined" => {
            let (configured, error) = (None, None);
            Fate::Quarantined(Box::new(Quarantined { configured, request, error }))
        }
        "unreadable" => Fate::Unreadable(earlier::unreadable()),
        other => panic!("no such word: {other}"),
    }
}

/// The same, wanted by a configuration that said this.
fn left_by(word: &str, configured: &str) -> Fate {
    let digest = Some(order::digest(&request(configured)));
    match left(word) {
        Fate::Start(planned) => Fate::Start(Box::new(PlannedStart {
            origin: Origin::EarlierRun { configured: digest },
            ..*planned
        })),
        Fate::Quarantined(quarantined) => {
            Fate::Quarantined(Box::new(Quarantined { configured: digest, ..*quarantined }))
        }
        other => other,
    }
}

/// In words: what it is, and whose start.
fn outcome(fate: &Fate) -> String {
    match fate {
        Fate::Unknown => "nothing".into(),
        Fate::History => "history".into(),
        Fate::Start(planned) => format!("starts as the {} says", planned.request.prompt),
        Fate::Stopped => "stopped".into(),
        Fate::Failed => "failed".into(),
        Fate::Quarantined(_) => "quarantined".into(),
        Fate::Unreadable(_) => "unreadable".into(),
    }
}

#[test]
fn the_town_by_its_table() {
    use TownChange::{TookOut, Wants, WantsNew};
    use TownKnows::{No, Notified, Yes};
    let silent = || Listing::Silent;
    let omits = || Listing::Omits;
    let lists = || listed("town");
    let same = || listed("store");
    type Row<'a> = (&'a str, &'a [TownKnows], fn() -> Listing, &'a str, Option<TownChange>);
    let any: &[TownKnows] = &[No, Notified, Yes];
    let rows: &[Row] = &[
        ("nothing", any, lists, "starts as the town says", Some(WantsNew)),
        ("nothing", any, omits, "nothing", None),
        ("history", any, lists, "starts as the town says", Some(WantsNew)),
        ("history", any, omits, "history", None),
        ("history", any, silent, "history", None),
        ("runs", any, lists, "starts as the town says", Some(Wants)),
        ("runs", any, same, "starts as the store says", Some(Wants)),
        ("runs", &[Yes], omits, "stopped", Some(TookOut)),
        ("runs", &[No, Notified], omits, "starts as the store says", None),
        ("stopped", &[Yes, Notified], lists, "stopped", None),
        ("stopped", &[No], lists, "starts as the town says", Some(WantsNew)),
        ("stopped", any, omits, "stopped", None),
        ("failed", any, lists, "starts as the town says", Some(WantsNew)),
        ("failed", any, omits, "failed", None),
        ("quarantined", any, same, "quarantined", None),
        ("quarantined", any, lists, "starts as the town says", Some(WantsNew)),
        ("quarantined", any, omits, "quarantined", None),
        ("unreadable", any, lists, "starts as the town says", Some(WantsNew)),
        ("unreadable", any, omits, "unreadable", None),
        ("nothing", any, silent, "nothing", None),
        ("runs", any, silent, "starts as the store says", None),
        ("stopped", any, silent, "stopped", None),
        ("failed", any, silent, "failed", None),
        ("quarantined", any, silent, "quarantined", None),
        ("unreadable", any, silent, "unreadable", None),
    ];
    for (store, knows, town, expected, change) in rows {
        for knows in *knows {
            let (fate, changed) = decide(left(store), *knows, town(), None);
            let got = (outcome(&fate).as_str(), changed) == (expected, *change);
            assert!(got, "{store}, {knows:?}: {} {changed:?}, not {expected}", outcome(&fate));
        }
    }
}

#[test]
fn the_configuration_by_its_table() {
    let rows = [
        // What the store says, what the configuration said then and says now.
        ("nothing", None, "starts as the configuration says"),
        ("history", None, "starts as the configuration says"),
        ("runs", None, "starts as the store says"),
        ("runs", Some("configuration"), "starts as the store says"),
        ("runs", Some("something else"), "starts as the configuration says"),
        ("stopped", None, "stopped"),
        ("failed", None, "starts as the configuration says"),
        ("quarantined", None, "quarantined"),
        ("quarantined", Some("configuration"), "quarantined"),
        ("quarantined", Some("something else"), "starts as the configuration says"),
        ("unreadable", None, "starts as the configuration says"),
    ];
    for (store, then, expected) in rows {
        let left = then.map_or_else(|| left(store), |then| left_by(store, then));
        let configured = Some(request("configuration"));
        let (fate, change) = decide(left, TownKnows::Yes, Listing::Silent, configured);
        assert_eq!((outcome(&fate).as_str(), change), (expected, None), "{store}, {then:?}");
    }
}

#[test]
fn what_the_configuration_does_not_want_stays_as_the_town_left_it() {
    for store in ["nothing", "runs", "stopped", "failed", "quarantined", "unreadable"] {
        let (fate, _) = decide(left(store), TownKnows::No, Listing::Silent, None);
        let (same, _) = by_town(left(store), TownKnows::No, Listing::Silent);
        assert_eq!(outcome(&fate), outcome(&same));
    }
}

#[test]
fn an_agent_that_the_town_took_out_stays_down_for_the_configuration() {
    let configured = Some(request("configuration"));
    let (fate, change) = decide(left("runs"), TownKnows::Yes, Listing::Omits, configured);
    assert_eq!((outcome(&fate).as_str(), change), ("stopped", Some(TownChange::TookOut)));
}

fn planned(fate: Fate) -> PlannedStart {
    let Fate::Start(planned) = fate else { panic!("it is not started: {}", outcome(&fate)) };
    *planned
}

#[test]
fn what_was_changed_while_it_lived_counts_on_for_the_same_spec_only() {
    let with = |town| planned(decide(left("runs"), TownKnows::Yes, town, None).0);
    assert!(with(listed("store")).settings.is_some());
    assert!(with(listed("town")).settings.is_none());
    let left = left_by("runs", "something else");
    let configured = Some(request("configuration"));
    let other = planned(decide(left, TownKnows::No, Listing::Silent, configured).0);
    assert!(other.settings.is_none());
}

#[test]
fn a_suspect_is_one_no_matter_who_wants_it() {
    let by_town = decide(left("runs"), TownKnows::Yes, listed("town"), None).0;
    assert!(planned(by_town).is_suspect);
    let (left, configured) = (left_by("runs", "something else"), Some(request("configuration")));
    let by_configuration = decide(left, TownKnows::No, Listing::Silent, configured).0;
    assert!(planned(by_configuration).is_suspect);
}

#[test]
fn only_the_first_incarnation_ends_a_quarantine_that_the_configuration_frees() {
    let (left, configured) =
        (left_by("quarantined", "something else"), Some(request("configuration")));
    let freed = planned(decide(left, TownKnows::No, Listing::Silent, configured).0);
    assert!(freed.is_quarantined);
}

#[test]
fn values_of_the_environment_are_those_that_are_known() {
    let mut known = request("store");
    known.env_vars.insert("KEY".into(), "value".to_owned().into());
    known.secrets.insert("TOKEN".into(), "hunter2".to_owned().into());
    let request = json!({"agentId": "a", "role": "polecat"});
    let names = json!(["KEY", "TOKEN", "NOBODY"]);
    let listed = town_agent(json!({"agentId": "a", "request": request, "env": names}));
    let request = with_env(listed, Some(&known));
    assert_eq!(request.env_vars.keys().collect::<Vec<_>>(), ["KEY"]);
    assert_eq!(request.secrets["TOKEN"].expose(), "hunter2");
}

#[test]
fn a_history_from_another_disk_goes_on_whoever_wants_the_agent() {
    let resumes = |fate| match fate {
        Fate::Start(planned) => matches!(planned.origin, Origin::EarlierRun { .. }),
        _ => false,
    };
    let configured = || Some(request("configuration"));
    let (fate, _) = decide(left("history"), TownKnows::No, Listing::Silent, configured());
    assert!(resumes(fate));
    let (fate, _) = decide(left("history"), TownKnows::No, listed("town"), None);
    assert!(resumes(fate));
    let (fate, _) = decide(left("nothing"), TownKnows::No, Listing::Silent, configured());
    assert!(!resumes(fate));
}
