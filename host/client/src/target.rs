//! Which host is asked, and with which token.
//!
//! | what | from, the first that says it |
//! | --- | --- |
//! | address | `--url`, `BULKHEAD_URL`, `BULKHEAD_LISTEN`, `[server] listen` of the configuration, `http://127.0.0.1:8080` |
//! | token | `--token-file`, `BULKHEAD_CONTROL_TOKEN`, `[server] token` of the configuration, the file that a host without one leaves in its state directory |
//!
//! A token is never an argument, because everybody on a machine sees arguments. The configuration's, and that of
//! the state directory, go only to the address of this host, never to one that `--url` or `BULKHEAD_URL` names.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use bulkhead_model::Secret;
use http::Uri;
use http::header::HeaderValue;

use crate::command::HostArgs;

/// Where a host listens that says nothing else.
const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);

/// The configuration file that is looked for where none is named.
const DEFAULT_CONFIG: &str = "bulkhead.toml";

/// The file in its state directory in which a host that was given no token leaves one.
pub const TOKEN_FILE: &str = "control-token";

/// What a configuration file says about the control server.
#[derive(Debug)]
pub struct Configured {
    /// Where it listens.
    pub listen: SocketAddr,
    /// What it wants to hear.
    pub token: Option<Secret>,
    /// Where the host keeps what it keeps.
    pub state_dir: PathBuf,
}

/// Reads the control server's part of a configuration file. The error names the file.
pub type ReadConfig = fn(&Path) -> Result<Configured, String>;

/// A host that can be asked.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// As a person writes it, without a slash at the end.
    pub(crate) url: String,
    /// Name or address to connect to, without the brackets of IPv6.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// What stands in the `Host` header.
    pub(crate) authority: String,
    /// Before every path of the API; empty or with a leading slash.
    pub(crate) prefix: String,
    /// The `Authorization` header.
    pub(crate) authorization: Option<HeaderValue>,
}

/// Finds out. An error is a wrong command line, environment or file.
pub(crate) fn find(
    args: &HostArgs,
    variable: impl Fn(&str) -> Option<OsString>,
    read_config: ReadConfig,
) -> Result<Target, String> {
    let text = |name: &str| match variable(name).map(OsString::into_string) {
        None => Ok(None),
        Some(Ok(text)) => Ok(Some(text).filter(|text| !text.is_empty())),
        Some(Err(_)) => Err(format!("{name} is no UTF-8")),
    };
    let mut token = match &args.token_file {
        Some(path) => Some(token_in(path)?),
        None => text("BULKHEAD_CONTROL_TOKEN")?.map(Secret::from),
    };
    let mut target = if let Some(url) = &args.url {
        parse(url)?
    } else {
        let mut listen = match text("BULKHEAD_LISTEN")? {
            None => None,
            Some(text) => {
                let wrong = |_| format!("BULKHEAD_LISTEN: {text:?} is no address");
                Some(text.parse::<SocketAddr>().map_err(wrong)?)
            }
        };
        let mut state_dir = variable("BULKHEAD_STATE_DIR").map(PathBuf::from);
        if (listen.is_none() || token.is_none())
            && let Some(configured) = configured(args, read_config)?
        {
            listen = listen.or(Some(configured.listen));
            token = token.or(configured.token);
            state_dir = state_dir.or(Some(configured.state_dir));
        }
        // Where it is not there, or not for this user, the host says whether it wants one.
        token = token.or_else(|| token_in(&state_dir?.join(TOKEN_FILE)).ok());
        of_listener(listen.unwrap_or(DEFAULT_LISTEN))?
    };
    if let Some(token) = token {
        let value = HeaderValue::try_from(format!("Bearer {}", token.expose()));
        let mut value = value.map_err(|_| "the token has characters that no header may have")?;
        value.set_sensitive(true);
        target.authorization = Some(value);
    }
    Ok(target)
}

/// The host of a machine on which nothing says otherwise.
pub(crate) fn default() -> Result<Target, String> {
    of_listener(DEFAULT_LISTEN)
}

fn configured(args: &HostArgs, read_config: ReadConfig) -> Result<Option<Configured>, String> {
    let path = match &args.config {
        Some(path) => path.clone(),
        None => PathBuf::from(DEFAULT_CONFIG),
    };
    if args.config.is_none() && !path.exists() {
        return Ok(None);
    }
    let problem = |error| format!("{error}; name the host with --url to do without");
    read_config(&path).map(Some).map_err(problem)
}

/// The first line of a file, which must be all of it.
fn token_in(path: &Path) -> Result<Secret, String> {
    let shown = path.display();
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("cannot read the token in {shown}: {error}"))?;
    match text.trim() {
        "" => Err(format!("there is no token in {shown}")),
        token if token.lines().count() > 1 => Err(format!("{shown} has more than one line")),
        token => Ok(Secret::from(token.to_owned())),
    }
}

/// A host on this machine that listens there.
fn of_listener(listen: SocketAddr) -> Result<Target, String> {
    if listen.port() == 0 {
        return Err("the configured port is 0, which means any; name the host with --url".into());
    }
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    parse(&format!("http://{}", SocketAddr::new(ip, listen.port())))
}

/// Reads an address. What stands before an `@` is never repeated: it may be a password.
fn parse(url: &str) -> Result<Target, String> {
    if url.contains('@') {
        return Err("the address must have no user or password; a token comes from \
                    BULKHEAD_CONTROL_TOKEN or --token-file"
            .into());
    }
    let wrong = |why: &str| format!("{url:?} {why}; write http://127.0.0.1:8080");
    let uri: Uri = url.parse().map_err(|_| wrong("is no address of a host"))?;
    match uri.scheme_str() {
        Some("http") => {}
        Some("https") => {
            return Err(wrong("is https, which the control server does not speak"));
        }
        _ => return Err(wrong("does not begin with http://")),
    }
    if uri.query().is_some() {
        return Err(wrong("has a query"));
    }
    let authority = uri.authority().ok_or_else(|| wrong("names no host"))?;
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    if host.is_empty() {
        return Err(wrong("names no host"));
    }
    // A port that is too large has no number.
    let port = match (authority.port_u16(), authority.as_str().strip_prefix(authority.host())) {
        (Some(0), _) => return Err(wrong("has port 0")),
        (Some(port), _) => port,
        (None, Some("")) => 80,
        (None, _) => return Err(wrong("has a wrong port")),
    };
    let prefix = uri.path().trim_end_matches('/').to_owned();
    Ok(Target {
        url: format!("http://{authority}{prefix}"),
        host: host.to_owned(),
        port,
        authority: authority.to_string(),
        prefix,
        authorization: None,
    })
}

#[cfg(test)]
mod tests;
