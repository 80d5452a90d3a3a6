//! What becomes of one agent at boot, as a function of what the store, the town and the configuration say of it.
//!
//! First the town. Each row of the store knows whether the last registry that the town acknowledged had the
//! agent (*knows*), or whether the town was notified and has not acknowledged it (*was notified*):
//!
//! | the store says | the town lists it | the town | then |
//! | --- | --- | --- | --- |
//! | nothing, or failed | yes | | it is started as the town says |
//! | it runs | yes | | it is started as the town says; what was changed while it lived counts on when the town asks for what ran |
//! | it runs | no | knows | the town took it out: it stays down and counts as stopped |
//! | it runs | no | was notified, or not | a start that the town never heard of: it is started, and reported |
//! | stopped, or done | yes | knows, or was notified | an end that the town never heard of: it stays down, and is reported |
//! | stopped, or done | yes | was not notified | the town wants it again: it is started |
//! | quarantined | yes | | it stays in quarantine, unless the town asks for something else than it had |
//! | stopped, failed, quarantined | no | | as without a town |
//! | something that cannot be read | yes | | it is started as the town says |
//!
//! A town that is silent changes nothing, now or later, and neither does its row of an agent that cannot be read.
//!
//! Then the configuration:
//!
//! | so far | the configuration says | then |
//! | --- | --- | --- |
//! | it runs | nothing, or what it said then | it is started as it last was |
//! | it runs | something else than then | it is started as the configuration says |
//! | stopped, or done | anything | it stays down; a start brings it back |
//! | failed | to start it | it is started: a boot is a new chance |
//! | quarantined | nothing, or what it said then | it stays in quarantine |
//! | quarantined | something else than then | it is started: a new spec is a new chance |
//! | nothing, or something that cannot be read | to start it | it is started |
//! | its history on another disk | to start it | it is started, and its history goes on |

use std::collections::BTreeMap;

use bulkhead_agent::{SettingsChange, StartError};
use bulkhead_api::{StartRequest, TownAgent, TownEnv};
use bulkhead_store::database::TownKnows;
use bulkhead_types::Secret;

use crate::order::{self, Origin};

/// What becomes of an agent; before anybody was asked, what the store says of it.
pub(super) enum Fate {
    /// Nothing is known of it.
    Unknown,
    /// Nothing but its number and its history: it ran on another disk.
    History,
    /// It is started.
    Start(Box<PlannedStart>),
    /// It was stopped, or did what it was there for.
    Stopped,
    /// It ended abnormally, and its policy leaves it down.
    Failed,
    /// It stays in quarantine.
    Quarantined(Box<Quarantined>),
    /// What is known of it cannot be read.
    Unreadable(StartError),
}

/// How an agent is started.
pub(super) struct PlannedStart {
    pub request: StartRequest,
    pub origin: Origin,
    /// What was changed while it lived.
    pub settings: Option<SettingsChange>,
    /// The host died while it was at work: it is restarted alone.
    pub is_suspect: bool,
    /// It is in quarantine for what it was before. Its first incarnation ends that.
    pub is_quarantined: bool,
}

/// An agent that is in quarantine.
pub(super) struct Quarantined {
    /// What the configuration wanted, when it wanted it.
    pub configured: Option<String>,
    /// What it was started with.
    pub request: StartRequest,
    /// Why it could not be started in any case.
    pub error: Option<StartError>,
}

/// What the town says of an agent.
pub(super) enum Listing {
    /// It wants it.
    Lists(Box<TownAgent>),
    /// It does not have it.
    Omits,
    /// It was not asked, does not answer, or has something that cannot be read.
    Silent,
}

/// What the town changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TownChange {
    /// It wants an agent that the store has.
    Wants,
    /// It wants an agent whose start the store does not have.
    WantsNew,
    /// It took the agent out.
    TookOut,
}

impl TownChange {
    pub(super) fn wants_agent(self) -> bool {
        match self {
            Self::Wants | Self::WantsNew => true,
            Self::TookOut => false,
        }
    }
}

impl PlannedStart {
    /// Of an agent of which earlier runs left nothing that counts.
    fn new(request: StartRequest, origin: Origin) -> Self {
        let (settings, is_suspect, is_quarantined) = (None, false, false);
        Self { request, origin, settings, is_suspect, is_quarantined }
    }
}

/// Nobody asked for it in this run: the first start stays.
const OF_THE_TOWN: Origin = Origin::EarlierRun { configured: None };

/// By both tables.
pub(super) fn decide(
    left: Fate,
    knows: TownKnows,
    town: Listing,
    configured: Option<StartRequest>,
) -> (Fate, Option<TownChange>) {
    let (fate, change) = by_town(left, knows, town);
    match configured {
        Some(configured) => (by_configuration(fate, configured), change),
        None => (fate, change),
    }
}

/// By the first table.
fn by_town(left: Fate, knows: TownKnows, town: Listing) -> (Fate, Option<TownChange>) {
    match (left, town) {
        (Fate::Start(planned), Listing::Lists(listed)) => {
            (Fate::Start(Box::new(as_listed(*planned, *listed))), Some(TownChange::Wants))
        }
        (Fate::Start(_), Listing::Omits) if knows == TownKnows::Yes => {
            (Fate::Stopped, Some(TownChange::TookOut))
        }
        (Fate::Stopped, Listing::Lists(listed)) if knows != TownKnows::No => {
            let agent = &listed.request.agent_id;
            tracing::info!(%agent, "the town lists an agent that was stopped; it stays down");
            (Fate::Stopped, None)
        }
        (Fate::Quarantined(quarantined), Listing::Lists(listed)) => {
            let request = with_env(*listed, Some(&quarantined.request));
            if order::is_same(&request, &quarantined.request) {
                return (Fate::Quarantined(quarantined), None);
            }
            // Another spec is another chance.
            starts_new(request, Origin::Asked(None))
        }
        (
            Fate::Unknown | Fate::History | Fate::Stopped | Fate::Failed | Fate::Unreadable(_),
            Listing::Lists(listed),
        ) => starts_new(with_env(*listed, None), OF_THE_TOWN),
        (left, Listing::Omits | Listing::Silent) => (left, None),
    }
}

fn starts_new(request: StartRequest, origin: Origin) -> (Fate, Option<TownChange>) {
    let planned = PlannedStart::new(request, origin);
    (Fate::Start(Box::new(planned)), Some(TownChange::WantsNew))
}

/// What ran, as the town says.
fn as_listed(before: PlannedStart, listed: TownAgent) -> PlannedStart {
    let request = with_env(listed, Some(&before.request));
    if order::is_same(&request, &before.request) {
        return PlannedStart { request, ..before };
    }
    PlannedStart { request, settings: None, origin: OF_THE_TOWN, ..before }
}

/// By the second table.
fn by_configuration(fate: Fate, request: StartRequest) -> Fate {
    let digest = order::digest(&request);
    let is_known = |known: Option<&str>| known.is_none_or(|known| known == digest);
    match fate {
        Fate::Start(planned) if is_known(planned.origin.digest()) => Fate::Start(planned),
        Fate::Start(before) => {
            let origin = Origin::Configured { digest };
            Fate::Start(Box::new(PlannedStart { request, origin, settings: None, ..*before }))
        }
        Fate::Stopped => {
            tracing::info!(agent = %request.agent_id, "a configured agent stays down: it was stopped, or is done");
            Fate::Stopped
        }
        Fate::Quarantined(before) if is_known(before.configured.as_deref()) => {
            tracing::info!(agent = %request.agent_id, "a configured agent stays in quarantine");
            Fate::Quarantined(before)
        }
        Fate::Quarantined(_) => {
            let new = PlannedStart::new(request, Origin::Configured { digest });
            Fate::Start(Box::new(PlannedStart { is_quarantined: true, ..new }))
        }
        // Its history goes on, as that of an agent that ran here.
        Fate::History => {
            let origin = Origin::EarlierRun { configured: Some(digest) };
            Fate::Start(Box::new(PlannedStart::new(request, origin)))
        }
        Fate::Unknown | Fate::Failed | Fate::Unreadable(_) => {
            Fate::Start(Box::new(PlannedStart::new(request, Origin::Configured { digest })))
        }
    }
}

/// The town's request with the values of its environment. Where the town has only names, they are those of the
/// start that is known; a name without a value is reported.
fn with_env(agent: TownAgent, known: Option<&StartRequest>) -> StartRequest {
    let TownAgent { mut request, env, .. } = agent;
    let TownEnv::Names(names) = env else { return request };
    for name in names {
        let known = |of: fn(&StartRequest) -> &BTreeMap<String, Secret>| of(known?).get(&name);
        let (secret, value) = (known(|start| &start.secrets), known(|start| &start.env_vars));
        match secret.or(value) {
            Some(value) => {
                let values = match secret.is_some() {
                    true => &mut request.secrets,
                    false => &mut request.env_vars,
                };
                values.entry(name).or_insert_with(|| value.clone());
            }
            None if request.env_vars.contains_key(&name) => {}
            None => {
                let agent = &request.agent_id;
                tracing::warn!(%agent, name, "nobody has a value for a name of the agent's environment");
            }
        }
    }
    request
}

#[cfg(test)]
mod tests;
