//! What `bulkhead check` finds out about the way out: names are looked up, addresses are judged as they will be for
//! agents, and the models and the town are tried.
//!
//! What an agent would be refused is wrong. What is not there now is a warning: a configuration may be checked where
//! the models cannot be reached.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bulkhead_evidence::Left;
use bulkhead_lease::{Holder, RegisterError};
use bulkhead_net::{
    Addresses, BaseUrl, Boxed, ConnectError, Connector, Destination, Judged, Step, System,
};
use bulkhead_ship::ShipError;
use bulkhead_types::error::chain;
use bulkhead_types::{HttpPolicy, HttpRule};
use parking_lot::Mutex;
use tokio::time::timeout;

use crate::config::{EvidenceSettings, LeaseSettings, ModelEndpoint, Settings};

/// How long one look-up or one connection may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// What was found, as a line.
#[derive(Debug, PartialEq, Eq)]
pub enum Finding {
    /// It is there.
    Fine(String),
    /// It is not there now.
    Warning(String),
    /// It cannot work.
    Wrong(String),
}

/// Looks at all that the configuration names; of its models only at these.
pub fn look(settings: &Settings, models: &[ModelEndpoint]) -> io::Result<Vec<Finding>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let found = runtime.block_on(async {
        let mut found = Vec::new();
        // Models and town are where the configuration says, at whatever address.
        for ModelEndpoint { settings: model, .. } in models {
            let what = format!("model {}", model.name);
            found.push(connected(&what, &model.base, &model.connector).await);
        }
        if let Some(town) = &settings.town {
            found.push(connected("town", &town.api, &town.connector).await);
        }
        if let Some(lease) = &settings.lease {
            found.push(tried(lease).await);
        }
        // A directory is looked at with the others of this machine.
        if let Some(ship) = settings.ship.as_ref().filter(|ship| ship.directory().is_none()) {
            found.push(shipped(ship).await);
        }
        let evidence = settings.evidence.as_ref();
        if let Some(evidence) = evidence.filter(|evidence| evidence.directory().is_none()) {
            found.push(sunk(evidence).await);
        }
        for (name, role) in &settings.catalog.roles {
            for rule in &role.http.allow {
                found.extend(judged(name, rule, &role.http, &settings.runtime.connector).await);
            }
        }
        found
    });
    // A look-up may still be under way.
    runtime.shutdown_background();
    Ok(found)
}

async fn connected(what: &str, url: &BaseUrl, connector: &Connector) -> Finding {
    let (to, mut step) = (&url.destination, Step::Resolving);
    let seen = Seen::default();
    let connecting = connector.connect(to, &seen, PATIENCE, &mut step);
    let way = connector.proxies.describe(to);
    match timeout(PATIENCE, connecting).await {
        Ok(Ok(_)) => Finding::Fine(format!("{what} {url}: ok{way}{}", seen.shown())),
        Ok(Err(error)) => Finding::Warning(format!("{what} {url}{way}: {}", chain(&error))),
        Err(_) => {
            let (s, doing) = (PATIENCE.as_secs(), step.doing());
            Finding::Warning(format!("{what} {url}{way}: no answer after {s} s, while {doing}"))
        }
    }
}

/// The register of the lease. One that is away may come back, and is waited for.
async fn tried(lease: &LeaseSettings) -> Finding {
    let LeaseSettings { settings, .. } = lease;
    let what = format!("lease {} of {}", settings.register, settings.town.as_str());
    match bulkhead_lease::try_register(settings).await {
        Ok(None) => Finding::Fine(format!("{what}: ok, never held")),
        Ok(Some(Holder { epoch, released: true, .. })) => {
            Finding::Fine(format!("{what}: ok, given back (epoch {epoch})"))
        }
        Ok(Some(Holder { name, epoch, .. })) => {
            Finding::Fine(format!("{what}: ok, last held by {name} (epoch {epoch})"))
        }
        Err(RegisterError::Unavailable(why)) => Finding::Warning(format!("{what}: {why}")),
        Err(error) => Finding::Wrong(format!("{what}: {error}")),
    }
}

/// Where the state of the town is shipped. Without it no run begins.
async fn shipped(settings: &bulkhead_ship::Settings) -> Finding {
    let what = format!("ship {}/{}", settings.to, settings.town.as_str());
    match timeout(PATIENCE, bulkhead_ship::look(settings)).await {
        Ok(Ok(None)) => Finding::Fine(format!("{what}: ok, nothing shipped yet")),
        Ok(Ok(Some(epoch))) => Finding::Fine(format!("{what}: ok, last shipped in epoch {epoch}")),
        Ok(Err(ShipError::Unavailable(why))) => Finding::Warning(format!("{what}: {why}")),
        Ok(Err(error)) => Finding::Wrong(format!("{what}: {error}")),
        Err(_) => Finding::Warning(format!("{what}: no answer after {} s", PATIENCE.as_secs())),
    }
}

/// The evidence sink.
async fn sunk(EvidenceSettings { settings, .. }: &EvidenceSettings) -> Finding {
    let what = format!("evidence of {}", settings.name.as_str());
    match timeout(PATIENCE, bulkhead_evidence::look(settings)).await {
        Ok(Ok(left)) => at_sink(&what, &left),
        Ok(Err(fault)) if fault.cause == bulkhead_evidence::Cause::Refused => {
            Finding::Wrong(format!("{what}: {fault}"))
        }
        Ok(Err(fault)) => Finding::Warning(format!("{what}: {fault}")),
        Err(_) => Finding::Warning(format!("{what}: no answer after {} s", PATIENCE.as_secs())),
    }
}

/// What the sink has. One of which nothing can be read answers, and is no sink.
fn at_sink(what: &str, left: &Left) -> Finding {
    match (&left.damaged[..], left.epoch) {
        ([], 0) => Finding::Fine(format!("{what}: ok, of no run yet")),
        ([], run) => Finding::Fine(format!("{what}: ok, last of run {run}")),
        (damaged, 0) => Finding::Wrong(format!("{what}: {}", damaged.join("; "))),
        (damaged, run) => {
            Finding::Warning(format!("{what}: last of run {run}; {}", damaged.join("; ")))
        }
    }
}

/// A name that a rule lists, and leads only to addresses that the rule refuses.
async fn judged(
    role: &str,
    rule: &HttpRule,
    policy: &HttpPolicy,
    connector: &Connector,
) -> Option<Finding> {
    if rule.host.starts_with("*.") {
        return None;
    }
    let to = Destination { host: rule.host.clone(), port: rule.port.unwrap_or(443), tls: false };
    if !connector.proxies.describe(&to).is_empty() {
        return None;
    }
    let admit = |to: &Destination, address| policy.admit_address(&to.host, to.port, address);
    let looked_up = Judged { found: System, admit };
    match timeout(PATIENCE, looked_up.of(&to)).await {
        Ok(Err(ConnectError::Refused(why))) => {
            Some(Finding::Wrong(format!("roles.{role}.http_allow: {why}")))
        }
        Ok(Err(error)) => Some(Finding::Warning(format!("roles.{role}.http_allow: {error}"))),
        Ok(Ok(_)) | Err(_) => None,
    }
}

/// Remembers what was found.
#[derive(Default)]
struct Seen {
    last: Mutex<Vec<SocketAddr>>,
}

impl Addresses for Seen {
    fn of<'a>(&'a self, to: &'a Destination) -> Boxed<'a, Result<Vec<SocketAddr>, ConnectError>> {
        Box::pin(async move {
            let found = System.of(to).await?;
            self.last.lock().clone_from(&found);
            Ok(found)
        })
    }
}

impl Seen {
    /// `, at 10.0.0.1 or 10.0.0.2`.
    fn shown(&self) -> String {
        let found = self.last.lock();
        let found: Vec<_> = found.iter().map(|address| address.ip().to_string()).collect();
        if found.is_empty() { String::new() } else { format!(", at {}", found.join(" or ")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sink_of_which_nothing_can_be_read_is_none() {
        let left = |damaged: &[&str], epoch| {
            let damaged = damaged.iter().map(|it| (*it).to_owned()).collect();
            at_sink("evidence of a", &Left { damaged, epoch, ..Left::default() })
        };
        assert!(matches!(left(&[], 0), Finding::Fine(_)));
        assert!(matches!(left(&[], 3), Finding::Fine(_)));
        assert!(matches!(left(&["run-1.json is torn"], 3), Finding::Warning(_)));
        let wrong = Finding::Wrong("evidence of a: run-0.json is torn; run-1.json is torn".into());
        assert_eq!(left(&["run-0.json is torn", "run-1.json is torn"], 0), wrong);
    }
}
