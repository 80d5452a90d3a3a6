//! Where the state of a leased town is shipped: `[ship]`.

use std::path::Path;
use std::time::Duration;

use bulkhead_net::Connector;
use bulkhead_ship::{Address, Settings};
use toml::Spanned;

use super::file::{self, set_ms};
use super::lease::LeaseSettings;
use super::nats::NatsKeys;
use super::problem::{Problem, trust};
use super::s3::{Given, S3Keys, refuse};

/// How long a commit waits for others that are shipped with it.
const INTERVAL: Duration = Duration::from_secs(1);

/// One object.
const CALL: Duration = Duration::from_secs(10);

/// What a boot may take to restore.
const RESTORE: Duration = Duration::from_secs(120);

/// What an answer waits for that has to be shipped, and an end.
const WAIT: Duration = Duration::from_secs(5);

/// Files of one workspace. It is written while a stop waits.
const WORKSPACE_BYTES: u64 = 64 * 1024 * 1024;

/// The shipping. Without a place everything else of the table is a mistake, and without a lease the place is one.
pub(super) fn check_ship(
    ship: file::Ship,
    lease: Option<&LeaseSettings>,
    state_dir: &Path,
    base: &Path,
    outside: &Connector,
) -> Result<Option<Settings>, Problem> {
    let keys = S3Keys {
        table: "ship",
        region: &ship.region,
        endpoint: &ship.endpoint,
        access_key_id: &ship.access_key_id,
        secret_access_key: &ship.secret_access_key,
        aws: &ship.aws,
    };
    let of_nats = NatsKeys {
        table: "ship",
        username: &ship.username,
        password: &ship.password,
        token: &ship.token,
        credentials_file: &ship.credentials_file,
    };
    let [users, others] = [of_nats.given_of_users(), of_nats.given()];
    let Some(to) = &ship.to else {
        let why = "is set without a place; set ship.to (BULKHEAD_SHIP_TO)";
        let given = |is_given: bool| is_given.then_some(0..0);
        let of_any: [Given; 7] = [
            ("ca_file", ship.ca_file.as_ref().map(Spanned::span)),
            ("restore_ms", given(ship.restore_ms.is_some())),
            ("interval_ms", given(ship.interval_ms.is_some())),
            ("call_ms", given(ship.call_ms.is_some())),
            ("wait_ms", given(ship.wait_ms.is_some())),
            ("workspaces", given(ship.workspaces.is_some())),
            ("workspace_mb", given(ship.workspace_mb.is_some())),
        ];
        refuse("ship", &of_any, why)?;
        refuse("ship", &users, why)?;
        refuse("ship", &others, why)?;
        return refuse("ship", &keys.given(), why).map(|()| None);
    };
    let span = to.span();
    let key = match span.is_empty() {
        true => "BULKHEAD_SHIP_TO",
        false => "ship.to",
    };
    let problem = |message: String| Problem::at(span.clone(), key.to_owned(), message);
    let mut address = Address::parse(to.get_ref()).map_err(|error| problem(error.to_string()))?;
    let Some(lease) = lease else {
        let why = "needs a lease, so that one copy of the town ships at a time; set lease.register";
        return Err(problem(why.into()));
    };
    if !matches!(address, Address::S3(_)) {
        refuse("ship", &keys.given(), "is for a place in S3")?;
    }
    if !matches!(address, Address::Nats(_)) {
        refuse("ship", &users, "is for a place in NATS")?;
        refuse("ship", &others, "is for a place in NATS")?;
    }
    match &mut address {
        Address::File(dir) if dir.starts_with(state_dir) => {
            return Err(problem("is in the state directory, and would be lost with it".into()));
        }
        Address::File(_) => {}
        Address::S3(s3) => keys.set(s3, problem)?,
        Address::Nats(nats) => of_nats.set(nats, base, problem)?,
    }
    let mut connector = outside.clone();
    if let Some(file) = &ship.ca_file {
        connector.trust = trust("ship.ca_file", file, base)?;
    }
    let mut settings = Settings {
        town: lease.settings.town.clone(),
        to: address,
        connector,
        restore: RESTORE,
        every: INTERVAL,
        call: CALL,
        wait: WAIT,
        workspace_bytes: ship
            .workspaces
            .unwrap_or(true)
            .then(|| ship.workspace_mb.map_or(WORKSPACE_BYTES, |mb| mb.mebibytes())),
    };
    set_ms(&mut settings.restore, ship.restore_ms);
    set_ms(&mut settings.every, ship.interval_ms);
    set_ms(&mut settings.call, ship.call_ms);
    set_ms(&mut settings.wait, ship.wait_ms);
    Ok(Some(settings))
}
