//! `bulkhead crashes`, when it asks a host. The daemon reads the state directory itself; both show the
//! same.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bulkhead_api::CrashesPage;
use bulkhead_api::crashes::MAX_CRASHES;
use bulkhead_types::{AgentId, CrashRecord};
use clap::{Args, Subcommand};

use crate::args::{HostArgs, parse_agent};
use crate::failure::Failure;
use crate::session::{Call, Session};
use crate::target::DEFAULT_CONFIG;
use bulkhead_terminal::words::parse_some_time;
use bulkhead_terminal::{crash_json, crash_list, crash_markdown, crash_page};

/// How many records are shown where nothing else is said.
const DEFAULT_LIMIT: NonZeroUsize = NonZeroUsize::new(20).expect("it is not 0");

/// Arguments of `crashes`.
#[derive(Debug, Args)]
#[command(after_help = CRASHES_HELP)]
pub struct CrashesArgs {
    /// What to show [default: list].
    #[command(subcommand)]
    pub what: Option<CrashesCommand>,
    /// Read the records of the host at this address. Without it, read the state directory of this machine,
    /// whether a host is running or not. BULKHEAD_URL is ignored.
    #[arg(long, value_name = "URL", global = true, help_heading = "Host")]
    pub url: Option<String>,
    /// With --url: file with the control token [default: BULKHEAD_CONTROL_TOKEN, else the host's own where --url is
    /// the address of the configuration]. Where a tunnel stands at that address, name the file of the host at its other end.
    #[arg(long, value_name = "FILE", global = true, requires = "url", help_heading = "Host")]
    pub token_file: Option<PathBuf>,
    /// With --url: PEM file with the CA certificates to trust for https:// [default: SSL_CERT_FILE and
    /// SSL_CERT_DIR, else the public CAs].
    #[arg(long, value_name = "FILE", global = true, requires = "url", help_heading = "Host")]
    pub ca_file: Option<PathBuf>,
    /// With --url: timeout of a request [default: 10s].
    #[arg(long, value_name = "TIME", global = true, requires = "url", value_parser = parse_some_time, help_heading = "Host")]
    pub timeout: Option<Duration>,
    /// The configuration file that names the state directory; with --url: that names the host's own token.
    #[arg(
        long,
        short,
        global = true,
        env = "BULKHEAD_CONFIG",
        hide_env_values = true,
        default_value = DEFAULT_CONFIG
    )]
    pub config: PathBuf,
    /// Print JSON, one object per line.
    #[arg(long, global = true)]
    pub json: bool,
}

const CRASHES_HELP: &str = "\
Without --url the records come from the state directory of this machine, whether a host is running or not. With
--url they come from a running host, local or remote. One whose disk is full or slow has records that are not in its
directory yet; where a host uses the directory, a line on stderr says so.

Exit codes:
  0  success, also with an empty list
  1  --url: the host is unreachable, timed out, or sent an invalid response;
     else: the records cannot be read
  2  invalid command line or configuration; without --url also: no such crash
  3  --url: the host refused the request: no such crash, invalid token
  130  --url: interrupted with Ctrl-C";

/// What `crashes` shows.
#[derive(Debug, Clone, Subcommand)]
pub enum CrashesCommand {
    /// List the newest records, one per line.
    List {
        /// Only records of this agent.
        #[arg(long, value_parser = parse_agent)]
        agent: Option<AgentId>,
        /// Maximum number of records.
        #[arg(long, default_value_t = DEFAULT_LIMIT)]
        limit: NonZeroUsize,
    },
    /// Show one record: what crashed, where, why, and what was done about it.
    Show {
        /// The crash id or a prefix of it [default: the newest record].
        crash_id: Option<String>,
        /// Print Markdown, to paste into an issue.
        #[arg(long, conflicts_with = "json")]
        markdown: bool,
    },
}

impl Default for CrashesCommand {
    fn default() -> Self {
        Self::List { agent: None, limit: DEFAULT_LIMIT }
    }
}

impl CrashesArgs {
    pub(crate) fn host(&self) -> HostArgs {
        HostArgs {
            url: self.url.clone(),
            token_file: self.token_file.clone(),
            ca_file: self.ca_file.clone(),
            // Where nobody named one and there is none, the environment says all.
            config: Some(self.config.clone())
                .filter(|path| path.as_os_str() != DEFAULT_CONFIG || path.exists()),
            timeout: self.timeout,
        }
    }
}

pub(crate) async fn run(args: &CrashesArgs, session: &Session) -> Result<(), Failure> {
    match args.what.clone().unwrap_or_default() {
        CrashesCommand::List { agent, limit } => {
            let records = newest(agent.as_ref(), limit.get(), session).await?;
            session.screen.print(&crash_list(&records, session.json))
        }
        CrashesCommand::Show { crash_id, markdown } => {
            let record = match crash_id {
                None => newest(None, 1, session).await?.into_iter().next().ok_or_else(|| {
                    Failure::NotThere("the host keeps no crash records".to_owned())
                })?,
                Some(crash_id) => one(&crash_id, session).await?,
            };
            session.screen.print(&crash_text(
                &record,
                session.json,
                markdown,
                session.screen.colours,
            ))
        }
    }
}

/// A record as JSON, as Markdown, or as a page.
pub fn crash_text(record: &CrashRecord, json: bool, markdown: bool, colours: bool) -> String {
    match (json, markdown) {
        (true, _) => crash_json(record) + "\n",
        (false, true) => crash_markdown(record),
        (false, false) => crash_page(record, colours),
    }
}

/// The newest records, as many pages as it takes.
async fn newest(
    agent: Option<&AgentId>,
    limit: usize,
    session: &Session,
) -> Result<Vec<Arc<CrashRecord>>, Failure> {
    let mut records: Vec<Arc<CrashRecord>> = Vec::new();
    while records.len() < limit {
        let wanted = (limit - records.len()).min(MAX_CRASHES as usize);
        let mut path = format!("/crashes?limit={wanted}");
        if let Some(agent) = agent {
            path += &format!("&agent={agent}");
        }
        if let Some(last) = records.last() {
            path += &format!("&before={}", in_a_url(&last.crash_id)?);
        }
        let answer = session.call(Call::get(path, "crash records")).await?;
        let page: CrashesPage = session.read(&answer)?;
        let came = page.crashes.len();
        records.extend(page.crashes);
        if !page.more || came == 0 {
            break;
        }
    }
    records.truncate(limit);
    Ok(records)
}

/// The record of an id, or of the only one that begins so.
async fn one(crash_id: &str, session: &Session) -> Result<Arc<CrashRecord>, Failure> {
    let call = Call::get(format!("/crashes/{}", in_a_url(crash_id)?), format!("crash {crash_id}"));
    let refused = match session.call(call).await {
        Ok(answer) => return session.read(&answer),
        Err(Failure::Refused(refused)) if refused.status == 404 => refused,
        Err(failure) => return Err(failure),
    };
    let all = newest(None, usize::MAX, session).await?;
    let mut found = all.into_iter().filter(|record| record.crash_id.starts_with(crash_id));
    match (found.next(), found.next()) {
        (Some(record), None) => Ok(record),
        (Some(_), Some(_)) => {
            Err(Failure::Usage(format!("more than one crash begins with {crash_id}")))
        }
        (None, _) => Err(Failure::Refused(refused)),
    }
}

/// Crash ids are UUIDs: nothing in them means something in a URL.
pub(super) fn in_a_url(crash_id: &str) -> Result<&str, Failure> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    if !crash_id.is_empty() && crash_id.bytes().all(is_plain) {
        return Ok(crash_id);
    }
    Err(Failure::Usage(format!("{crash_id:?} is not a crash id: letters, digits and - only")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_default_configuration_that_is_not_there_is_not_asked_for() {
        let config = |path: &str| {
            let (what, url, token_file, ca_file, timeout) = (None, None, None, None, None);
            let config = PathBuf::from(path);
            CrashesArgs { what, url, token_file, ca_file, timeout, config, json: false }
                .host()
                .config
        };
        assert_eq!(config(DEFAULT_CONFIG), None);
        assert_eq!(config("gone.toml"), Some(PathBuf::from("gone.toml")));
    }
}
