//! Which host is asked, and with which token.
//!
//! | what | from, the first that says it |
//! | --- | --- |
//! | address | `--url`, `BULKHEAD_URL`, `BULKHEAD_LISTEN`, `[server] listen` of the configuration, `http://127.0.0.1:8080` |
//! | token | `--token-file`, `BULKHEAD_CONTROL_TOKEN`, `BULKHEAD_CONTROL_TOKEN_FILE`, `[server] token` or `token_file` of the configuration, the file that a host without one leaves in its state directory |
//!
//! A token is never an argument, because everybody on a machine sees arguments. The configuration's, and that of
//! the state directory, go only to the address where this host listens, also when `--url` or `BULKHEAD_URL` names it, and
//! never to another. At that address of this machine may also stand the end of a tunnel (`ssh -L 8080:town:8080`), whose
//! other end then gets the token: where a tunnel stands at that address, name `--token-file`.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use bulkhead_net::{BaseUrl, Connector, Proxies, Trust, UrlError, reachable};
use bulkhead_types::Secret;
use bulkhead_types::error::chain;
use http::header::HeaderValue;

use crate::args::HostArgs;
use crate::bounded::read_text;

/// Where a host listens that says nothing else.
const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);

/// The configuration file that is searched for where none is named.
pub(crate) const DEFAULT_CONFIG: &str = "bulkhead.toml";

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
    /// Where its API is.
    pub(crate) api: BaseUrl,
    /// Through which proxy, and which certificates are believed.
    pub(crate) connector: Connector,
    /// The `Authorization` header.
    pub(crate) authorization: Option<HeaderValue>,
    /// Nothing names a host: this is where one listens that was told nothing.
    pub(crate) is_default: bool,
}

impl Target {
    /// What a person should know before anything is sent.
    pub(crate) fn warning(&self) -> Option<String> {
        let to = &self.api.destination;
        let is_read = self.authorization.is_some() && !to.tls && !to.is_loopback();
        is_read.then(|| {
            let host = &to.host;
            format!(
                "warning: the token goes to {host} over plain HTTP, readable on the network; use https, \
                 or a tunnel (ssh -L) from a port that is not the one of the configuration"
            )
        })
    }
}

/// Finds out. An error is a wrong command line, environment or file.
pub(crate) fn find(
    args: &HostArgs,
    variable: impl Fn(&str) -> Option<OsString>,
    read_config: ReadConfig,
) -> Result<Target, String> {
    let mut token = match &args.token_file {
        Some(path) => Some(read_secret(path)?),
        None => token_of(&variable)?,
    };
    let named = args.url.as_deref().map(parse).transpose()?;
    let own = || Own::of(args, &variable, read_config, token.is_none());
    let (api, is_default) = match named {
        None => {
            let own = own()?;
            let (api, is_default) = (own.api()?, own.listen.is_none());
            token = token.or_else(|| own.token());
            (api, is_default)
        }
        Some(api) => {
            // What is wrong with the configuration of this host does not matter to another.
            if token.is_none()
                && let Ok(own) = own()
                && own.api().is_ok_and(|own| own.to_string() == api.to_string())
            {
                token = own.token();
            }
            (api, false)
        }
    };
    let connector = connector(&api, args, &variable)?;
    let url = api.to_string();
    let authorization = token.as_ref().map(authorization).transpose()?;
    Ok(Target { url, api, connector, authorization, is_default })
}

/// The host of this machine, as the environment and the configuration say.
struct Own {
    listen: Option<SocketAddr>,
    token: Option<Secret>,
    state_dir: Option<PathBuf>,
}

impl Own {
    fn of(
        args: &HostArgs,
        variable: &impl Fn(&str) -> Option<OsString>,
        read_config: ReadConfig,
        wants_token: bool,
    ) -> Result<Self, String> {
        let mut listen = match text(variable, "BULKHEAD_LISTEN")? {
            None => None,
            Some(text) => {
                let wrong = |_| format!("BULKHEAD_LISTEN: {text:?} is not an address");
                Some(text.parse::<SocketAddr>().map_err(wrong)?)
            }
        };
        let mut state_dir = variable("BULKHEAD_STATE_DIR").map(PathBuf::from);
        let mut token = None;
        if (listen.is_none() || wants_token)
            && let Some(configured) = configured(args, read_config)?
        {
            listen = listen.or(Some(configured.listen));
            token = configured.token;
            state_dir = state_dir.or(Some(configured.state_dir));
        }
        Ok(Self { listen, token, state_dir })
    }

    fn api(&self) -> Result<BaseUrl, String> {
        of_listener(self.listen.unwrap_or(DEFAULT_LISTEN))
    }

    /// Where that of the state directory is not there, or not for this user, the host says whether it wants one.
    fn token(self) -> Option<Secret> {
        self.token.or_else(|| read_secret(&self.state_dir?.join(TOKEN_FILE)).ok())
    }
}

/// A host that this process started, which listens there and has the same environment.
pub(crate) fn own(listen: SocketAddr, configured: &Configured) -> Result<Target, String> {
    let token = match token_of(&|name| std::env::var_os(name))? {
        Some(token) => Some(token),
        None => configured.token.clone(),
    };
    let token = token.or_else(|| read_secret(&configured.state_dir.join(TOKEN_FILE)).ok());
    let api = of_listener(listen)?;
    let authorization = token.as_ref().map(authorization).transpose()?;
    let url = api.to_string();
    Ok(Target { url, api, connector: Connector::default(), authorization, is_default: false })
}

/// What a variable says. One that is empty says nothing.
fn text(
    variable: &impl Fn(&str) -> Option<OsString>,
    name: &str,
) -> Result<Option<String>, String> {
    match variable(name).map(OsString::into_string) {
        None => Ok(None),
        Some(Ok(text)) => Ok(Some(text).filter(|text| !text.is_empty())),
        Some(Err(_)) => Err(format!("{name} is not valid UTF-8")),
    }
}

/// The token of the environment.
fn token_of(variable: &impl Fn(&str) -> Option<OsString>) -> Result<Option<Secret>, String> {
    match text(variable, "BULKHEAD_CONTROL_TOKEN")?.map(Secret::from) {
        Some(token) => Ok(Some(token)),
        None => variable("BULKHEAD_CONTROL_TOKEN_FILE")
            .filter(|path| !path.is_empty())
            .map(|path| read_secret(Path::new(&path)))
            .transpose(),
    }
}

fn authorization(token: &Secret) -> Result<HeaderValue, String> {
    let value = HeaderValue::try_from(format!("Bearer {}", token.expose()));
    let mut value = value.map_err(|_| "the token contains characters that no header can carry")?;
    value.set_sensitive(true);
    Ok(value)
}

/// The host of a machine on which nothing says otherwise.
pub(crate) fn default() -> Result<Target, String> {
    let api = of_listener(DEFAULT_LISTEN)?;
    let connector = Connector::default();
    let url = api.to_string();
    Ok(Target { url, api, connector, authorization: None, is_default: true })
}

/// The way there. What the environment says of proxies and certificates is not read where it has no part.
fn connector(
    api: &BaseUrl,
    args: &HostArgs,
    variable: &impl Fn(&str) -> Option<OsString>,
) -> Result<Connector, String> {
    let to = &api.destination;
    if to.is_loopback() && !to.tls {
        return Ok(Connector::default());
    }
    let proxies = Proxies::from_env(variable).map_err(|error| error.to_string())?;
    let trust = match &args.ca_file {
        Some(file) => {
            Trust::from_file(file).map_err(|error| format!("--ca-file: {}", chain(&error)))?
        }
        None => Trust::from_env(variable)
            .map_err(|(name, error)| format!("{name}: {}", chain(&error)))?,
    };
    Ok(Connector { proxies, trust })
}

fn configured(args: &HostArgs, read_config: ReadConfig) -> Result<Option<Configured>, String> {
    let path = match &args.config {
        Some(path) => path.clone(),
        None => PathBuf::from(DEFAULT_CONFIG),
    };
    if args.config.is_none() && !path.exists() {
        return Ok(None);
    }
    let problem = |error| format!("{error}; name the host with --url instead");
    read_config(&path).map(Some).map_err(problem)
}

/// Largest file of a secret.
pub const MAX_SECRET_BYTES: u64 = 64 * 1024;

/// Reads a secret from a file: its first line, which must be all of it, without space around it. An error names the
/// file and shows nothing of it.
pub fn read_secret(path: &Path) -> Result<Secret, String> {
    let shown = path.display();
    let text = read_text(path, MAX_SECRET_BYTES)
        .map_err(|error| format!("cannot read the secret in {shown}: {error}"))?;
    match text.trim() {
        "" => Err(format!("there is no secret in {shown}")),
        token if token.lines().count() > 1 => Err(format!("{shown} has more than one line")),
        token => Ok(Secret::from(token.to_owned())),
    }
}

/// A host on this machine that listens there.
fn of_listener(listen: SocketAddr) -> Result<BaseUrl, String> {
    if listen.port() == 0 {
        return Err("the configured port is 0, any free port; name the host with --url".into());
    }
    parse(&format!("http://{}", reachable(listen)))
}

/// Reads an address. What stands before an `@` is never repeated: it may be a password, also where the scheme is missing.
fn parse(url: &str) -> Result<BaseUrl, String> {
    let error = match BaseUrl::parse(url) {
        Ok(url) => return Ok(url),
        Err(error) => error,
    };
    let with_scheme = format!("http://{url}");
    let completed = (!url.contains("://")).then(|| BaseUrl::parse(&with_scheme));
    if error == UrlError::Credentials || matches!(completed, Some(Err(UrlError::Credentials))) {
        return Err("the address must not contain a user or password; the token comes from \
                    BULKHEAD_CONTROL_TOKEN or --token-file"
            .into());
    }
    let expected = match completed {
        Some(Ok(_)) => &*with_scheme,
        _ => "http://127.0.0.1:8080",
    };
    Err(format!("{url:?} is not a host address: {error}; expected {expected}"))
}

#[cfg(test)]
mod tests;
