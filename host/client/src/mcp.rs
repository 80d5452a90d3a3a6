//! `bulkhead mcp`: the tools for models, on stdin and stdout.
//!
//! stdout carries the protocol and nothing else. A host that is down, or has another token since, fails a tool and not
//! the program: which host is asked is found out again for each call.

use bulkhead_mcp::{Access, Answer, Api, Call, Server};
use clap::Args;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::time::timeout;

use crate::args::HostArgs;
use crate::http::{Ask, JSON, open};
use crate::target::{self, ReadConfig, Target};
use bulkhead_terminal::words;

/// How changes are allowed.
const ALLOW: &str = "bulkhead mcp --allow-changes allows it";

/// Arguments of `mcp`.
#[derive(Debug, Args)]
#[command(after_help = MCP_HELP)]
pub struct McpArgs {
    /// Also offer tools that change something: send a message, start an agent, stop an agent.
    #[arg(long)]
    pub allow_changes: bool,
    /// The host to call.
    #[command(flatten)]
    pub host: HostArgs,
}

const MCP_HELP: &str = "\
Exit codes:
  0    stdin was closed
  1    the client does not speak the protocol, or closed stdout
  2    invalid command line";

pub(crate) fn serve(args: McpArgs, read_config: ReadConfig) -> Result<(), String> {
    let access = if args.allow_changes { Access::Change } else { Access::Read };
    let host = Host { args: args.host, read_config };
    if let Some(warning) = host.target().ok().and_then(|target| target.warning()) {
        eprintln!("bulkhead: {warning}");
    }
    let server = Server::new(host, access, ALLOW).with_files();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("cannot run: {error}"))?;
    let done = runtime.block_on(bulkhead_mcp::serve(server));
    // A read of stdin may still be under way.
    runtime.shutdown_background();
    done
}

/// The host that is asked.
struct Host {
    args: HostArgs,
    read_config: ReadConfig,
}

impl Host {
    fn target(&self) -> Result<Target, String> {
        target::find(&self.args, |name| std::env::var_os(name), self.read_config)
    }
}

impl Api for Host {
    fn call(&self, call: Call) -> BoxFuture<'_, Result<Answer, String>> {
        async move {
            let Call { method, path, body, patience } = call;
            let target = self.target()?;
            let patience = self.args.timeout.unwrap_or(patience);
            let ask =
                Ask { method, path: &path, body, content: JSON, accept: JSON, last_event_id: None };
            let answer = async { open(&target, ask, || ()).await?.answer().await };
            let answer = timeout(patience, answer).await;
            let url = &target.url;
            let answer = answer
                .map_err(|_| format!("{url} did not answer in {}", words::duration(patience)))?;
            let answer = answer.map_err(|problem| format!("{url}: {problem}"))?;
            Ok(Answer { status: answer.status, body: answer.body })
        }
        .boxed()
    }
}
