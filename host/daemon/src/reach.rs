//! What `bulkhead check` finds out about the way out: names are looked up, addresses are judged as they will be for
//! agents, and the model and the town are tried.
//!
//! What an agent would be refused is wrong. What is not there now is a warning: a configuration may be checked where
//! the model cannot be reached.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bulkhead_net::{
    Addresses, BaseUrl, Boxed, ConnectError, Connector, Destination, Judged, Step, System,
};
use bulkhead_types::error::chain;
use bulkhead_types::{HttpDenied, HttpPolicy, HttpRule};
use tokio::time::timeout;

use crate::config::Settings;

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

/// Looks at all that the configuration names.
pub fn look(settings: &Settings) -> io::Result<Vec<Finding>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let found = runtime.block_on(async {
        let mut found = Vec::new();
        if let Some(model) = &settings.model {
            // Every role that has the model has this rule.
            let rule = HttpRule::parse(&model.destination.host_and_port()).map(HttpRule::private);
            let policy = HttpPolicy { allow: rule.into_iter().collect() };
            found.push(tried("model", model, &settings.runtime.connector, &policy).await);
        }
        if let Some(town) = &settings.town {
            let admit = |_: &Destination, _: IpAddr| Ok::<_, HttpDenied>(());
            let judged = Judged { found: System, admit };
            found.push(connected("town", &town.api, &town.connector, judged).await);
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

async fn tried(what: &str, url: &BaseUrl, connector: &Connector, policy: &HttpPolicy) -> Finding {
    let admit = |to: &Destination, address| policy.admit_address(&to.host, to.port, address);
    connected(what, url, connector, Judged { found: System, admit }).await
}

async fn connected(
    what: &str,
    url: &BaseUrl,
    connector: &Connector,
    addresses: impl Addresses,
) -> Finding {
    let (to, mut step) = (&url.destination, Step::Resolving);
    let seen = Seen { addresses, last: Mutex::default() };
    let connecting = connector.connect(to, &seen, PATIENCE, &mut step);
    let way = connector.proxies.describe(to);
    match timeout(PATIENCE, connecting).await {
        Ok(Ok(_)) => Finding::Fine(format!("{what} {url}: ok{way}{}", seen.shown())),
        Ok(Err(ConnectError::Refused(why))) => Finding::Wrong(format!("{what} {url}: {why}")),
        Ok(Err(error)) => Finding::Warning(format!("{what} {url}{way}: {}", chain(&error))),
        Err(_) => {
            let (s, doing) = (PATIENCE.as_secs(), step.doing());
            Finding::Warning(format!("{what} {url}{way}: no answer after {s} s, while {doing}"))
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
struct Seen<A> {
    addresses: A,
    last: Mutex<Vec<SocketAddr>>,
}

impl<A: Addresses> Addresses for Seen<A> {
    fn of<'a>(&'a self, to: &'a Destination) -> Boxed<'a, Result<Vec<SocketAddr>, ConnectError>> {
        Box::pin(async move {
            let found = self.addresses.of(to).await?;
            self.last.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&found);
            Ok(found)
        })
    }
}

impl<A> Seen<A> {
    /// `, at 10.0.0.1 or 10.0.0.2`.
    fn shown(&self) -> String {
        let found = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let found: Vec<_> = found.iter().map(|address| address.ip().to_string()).collect();
        if found.is_empty() { String::new() } else { format!(", at {}", found.join(" or ")) }
    }
}
