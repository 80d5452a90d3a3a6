//! Arguments that the commands share.

use std::path::PathBuf;
use std::time::Duration;

use bulkhead_types::AgentId;
use clap::Args;

use bulkhead_terminal::words::parse_some_time;

/// The end of the help of commands that only look.
pub(crate) const CODES_OF_QUESTIONS: &str = "\
Exit codes:
  0    success
  1    the host is unreachable, timed out, or sent an invalid response
  2    invalid command line, or a file it names cannot be read; no request was sent
  3    the host refused the request: no such agent, invalid token, too many connections
  130  interrupted with Ctrl-C";

/// Which host to call, and how long to wait for it.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Host")]
pub struct HostArgs {
    /// Address of the control API [default: BULKHEAD_LISTEN or `listen` of the configuration,
    /// else http://127.0.0.1:8080].
    #[arg(long, value_name = "URL", env = "BULKHEAD_URL", hide_env_values = true)]
    pub url: Option<String>,
    /// File with the control token [default: BULKHEAD_CONTROL_TOKEN, else `token` of the configuration, else
    /// the one in the host's state directory; the last two are only sent to the address where the configuration has
    /// the host listen, also if --url names it]. Where a tunnel (ssh -L) stands at that address, name the file of the
    /// host at its other end, which else gets the token of this one.
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// PEM file with the CA certificates to trust for https:// [default: SSL_CERT_FILE and SSL_CERT_DIR,
    /// else the public CAs].
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// Configuration file with the host's address [default: bulkhead.toml, if it exists].
    #[arg(long, short, value_name = "FILE", env = "BULKHEAD_CONFIG", hide_env_values = true)]
    pub config: Option<PathBuf>,
    /// Timeout of a request, for example 30s [default: 10s; 10m for a start or a stop].
    #[arg(long, value_name = "TIME", value_parser = parse_some_time)]
    pub timeout: Option<Duration>,
}

/// Output format.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct OutputArgs {
    /// Print the response of the host as one JSON document. Errors are JSON as well; those without
    /// `status` are of this program, for example that the host does not answer (`no-answer`).
    #[arg(long)]
    pub json: bool,
}

/// An agent id of the command line.
pub(crate) fn parse_agent(text: &str) -> Result<AgentId, String> {
    AgentId::parse(text).map_err(|error| error.to_string())
}
