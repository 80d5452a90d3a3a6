//! `town-server --listen 127.0.0.1:0 --town demo`: serves until SIGINT or SIGTERM.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use model_server::thread::until_signalled;
use tokio::net::TcpListener;
use town_server::{Options, TownServer, admin};

/// A stand-in for the town API that keeps what it is sent and misbehaves on demand.
#[derive(Parser)]
struct Arguments {
    /// Where to listen. Port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:9200")]
    listen: SocketAddr,
    /// Where to take orders. Port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    admin: SocketAddr,
    /// The town whose variables are printed.
    #[arg(long, default_value = "demo")]
    town: String,
    /// Stands before the paths of the API, for example /v1.
    #[arg(long, default_value = "")]
    prefix: String,
    /// Speak TLS, with a certificate that nobody signed.
    #[arg(long)]
    tls: bool,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("town-server: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<(), String> {
    let Arguments { listen, admin, town, prefix, tls } = arguments;
    let prefix = prefix.trim_end_matches('/').to_owned();
    let shutdown = until_signalled().map_err(|error| error.to_string())?;
    let server = TownServer::start(Options { listen, prefix, tls })
        .map_err(|error| format!("listen on {listen}: {error}"))?;
    let server = Arc::new(server);
    let listener =
        TcpListener::bind(admin).await.map_err(|error| format!("listen on {admin}: {error}"))?;
    let admin = listener.local_addr().map_err(|error| error.to_string())?;
    println!("town server on {}", server.api_url());
    println!("orders on http://{admin}");
    println!("GASTOWN_API_URL={}", server.api_url());
    println!("GASTOWN_TOWN_ID={town}");
    println!("GASTOWN_CONTAINER_TOKEN={}", server.token(&town));
    tokio::select! {
        served = axum::serve(listener, admin::routes(server)).into_future() => {
            served.map_err(|error| error.to_string())
        }
        () = shutdown => Ok(()),
    }
}
