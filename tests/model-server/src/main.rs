//! `model-server --listen 127.0.0.1:0 [--api-key KEY]`: serves until SIGINT or SIGTERM.

use std::net::SocketAddr;
use std::process::ExitCode;

use clap::Parser;
use model_server::thread::until_signalled;
use model_server::{Options, serve};
use tokio::net::TcpListener;

/// An OpenAI-compatible server that answers from a script, without a network and without a key.
#[derive(Parser)]
struct Arguments {
    /// Where to listen. Port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:9100")]
    listen: SocketAddr,
    /// Refuse requests without this key.
    #[arg(long)]
    api_key: Option<String>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("model-server: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<(), String> {
    let listener = TcpListener::bind(arguments.listen)
        .await
        .map_err(|error| format!("listen on {}: {error}", arguments.listen))?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    let shutdown = until_signalled().map_err(|error| error.to_string())?;
    println!("model server on http://{address}/v1");
    let options = Options { api_key: arguments.api_key };
    serve(listener, options, shutdown).await.map_err(|error| error.to_string())
}
