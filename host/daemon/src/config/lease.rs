//! The lease of the town: `[lease]`.

use std::path::Path;

use bulkhead_lease::{Address, Kubernetes, Name, Settings, Ttl};
use bulkhead_net::{BaseUrl, Connector, Proxies};
use toml::Spanned;

use super::file;
use super::nats::NatsKeys;
use super::problem::{Problem, trust};
use super::s3::{Given, S3Keys, refuse};

/// A lease, and where this copy of the town is reached.
#[derive(Debug, Clone)]
pub struct LeaseSettings {
    pub settings: Settings,
    /// As the operator wants it shown. Empty: nothing is shown.
    pub advertise: String,
}

/// The variable that names a register.
pub(super) const VARIABLE: &str = "BULKHEAD_LEASE_REGISTER";

/// The lease. Without a register everything else of the table is a mistake.
pub(super) fn check_lease(
    lease: file::Lease,
    town_id: Option<&str>,
    base: &Path,
    outside: &Connector,
) -> Result<Option<LeaseSettings>, Problem> {
    let Some(register) = &lease.register else {
        let why = "is set without a register; set lease.register (BULKHEAD_LEASE_REGISTER)";
        refuse("lease", &of_s3(&lease).given(), why)?;
        refuse("lease", &of_nats(&lease).given_of_users(), why)?;
        refuse("lease", &of_nats(&lease).given(), why)?;
        return refuse("lease", &of_any(&lease), why).map(|()| None);
    };
    let span = register.span();
    let key = match span.is_empty() {
        true => VARIABLE.to_owned(),
        false => "lease.register".to_owned(),
    };
    let problem = |message: String| Problem::at(span.clone(), key.clone(), message);
    let mut address =
        Address::parse(register.get_ref()).map_err(|error| problem(error.to_string()))?;
    let town = match (&lease.name, town_id.filter(|id| !id.is_empty())) {
        (Some(name), _) => Name::parse(name.get_ref())
            .map_err(|error| Problem::at(name.span(), "lease.name".into(), error.to_string()))?,
        (None, Some(town)) => Name::parse(town).map_err(|error| {
            problem(format!("town.id cannot name the lease: {error}; set lease.name"))
        })?,
        (None, None) => {
            return Err(problem("needs a name for the town; set lease.name or town.id".into()));
        }
    };
    refuse_what_is_of_others(&address, &lease)?;
    match &mut address {
        // A directory that is away may come back, and is waited for.
        Address::File(_) => {}
        Address::S3(s3) => of_s3(&lease).set(s3, problem)?,
        Address::Etcd(etcd) => etcd.login = of_nats(&lease).user().map_err(problem)?,
        Address::Kubernetes(at) => {
            at.object(&town).map_err(|error| {
                problem(format!("cannot have a town with this name: {error}; set lease.name"))
            })?;
            reach(at, &lease)?;
        }
        Address::Nats(nats) => of_nats(&lease).set(nats, base, problem)?,
    }
    let mut connector = outside.clone();
    if matches!(&address, Address::Kubernetes(_)) && lease.endpoint.is_none() {
        // It is beside the pod, and no proxy is.
        connector.proxies = Proxies::default();
    }
    if let Some(file) = &lease.ca_file {
        connector.trust = trust("lease.ca_file", file, base)?;
    }
    let ttl = match &lease.ttl_ms {
        None => Ttl::default(),
        Some(ttl) => Ttl::new(ttl.get_ref().millis())
            .map_err(|error| Problem::at(ttl.span(), "lease.ttl_ms".into(), error.to_string()))?,
    };
    let advertise = lease.advertise.map(Spanned::into_inner).unwrap_or_default();
    let settings = Settings { town, register: address, ttl, connector };
    Ok(Some(LeaseSettings { settings, advertise }))
}

/// Keys that are for another register.
fn refuse_what_is_of_others(address: &Address, lease: &file::Lease) -> Result<(), Problem> {
    let (of_s3, of_nats) = (of_s3(lease).given(), of_nats(lease));
    let of_s3: Vec<_> = match address {
        Address::S3(_) => Vec::new(),
        Address::Kubernetes(_) => of_s3.into_iter().filter(|(key, _)| *key != "endpoint").collect(),
        _ => of_s3.into(),
    };
    refuse("lease", &of_s3, "is for a register in S3")?;
    if !matches!(address, Address::Etcd(_) | Address::Nats(_)) {
        refuse("lease", &of_nats.given_of_users(), "is for a register in etcd or NATS")?;
    }
    if !matches!(address, Address::Nats(_)) {
        refuse("lease", &of_nats.given(), "is for a register in NATS")?;
    }
    Ok(())
}

/// The API server, and how this pod is known to it.
fn reach(at: &mut Kubernetes, lease: &file::Lease) -> Result<(), Problem> {
    let token_file = Path::new(SERVICE_ACCOUNT).join("token");
    if let Some(endpoint) = &lease.endpoint {
        let server = BaseUrl::parse(endpoint.get_ref()).map_err(|error| {
            Problem::at(endpoint.span(), "lease.endpoint".into(), error.to_string())
        })?;
        at.server = Some(server);
        at.token_file = Some(token_file).filter(|file| file.exists());
        return Ok(());
    }
    at.server = match &lease.api_server {
        None => None,
        Some(url) => Some(BaseUrl::parse(url).map_err(|error| {
            Problem::at(0..0, "KUBERNETES_SERVICE_HOST".into(), error.to_string())
        })?),
    };
    at.token_file = Some(token_file);
    at.ca_file = lease.ca_file.is_none().then(|| Path::new(SERVICE_ACCOUNT).join("ca.crt"));
    Ok(())
}

/// What the kubelet puts into a pod.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

fn of_any(lease: &file::Lease) -> [Given; 4] {
    [
        ("name", lease.name.as_ref().map(Spanned::span)),
        ("advertise", lease.advertise.as_ref().map(Spanned::span)),
        ("ttl_ms", lease.ttl_ms.as_ref().map(Spanned::span)),
        ("ca_file", lease.ca_file.as_ref().map(Spanned::span)),
    ]
}

fn of_s3(lease: &file::Lease) -> S3Keys<'_> {
    S3Keys {
        table: "lease",
        region: &lease.region,
        endpoint: &lease.endpoint,
        access_key_id: &lease.access_key_id,
        secret_access_key: &lease.secret_access_key,
        aws: &lease.aws,
    }
}

fn of_nats(lease: &file::Lease) -> NatsKeys<'_> {
    NatsKeys {
        table: "lease",
        username: &lease.username,
        password: &lease.password,
        token: &lease.token,
        credentials_file: &lease.credentials_file,
    }
}
