//! `git-server DIR [--listen 127.0.0.1:0]`: serves the repositories below a directory until SIGINT or SIGTERM, and makes the
//! one of the demo if it is not there.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use git_server::{GitServer, demo};
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};

/// A git server over HTTP, for everybody on this machine who reaches it: fetch and push, without a credential.
#[derive(Parser)]
struct Arguments {
    /// The directory with the repositories.
    dir: PathBuf,
    /// Where to listen. Port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("git-server: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> io::Result<()> {
    demo::make(&arguments.dir)?;
    // Signals are waited for before anybody learns that the server is there.
    Builder::new_current_thread().enable_all().build()?.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let server = GitServer::listen(arguments.listen, &arguments.dir.canonicalize()?)?;
        println!("git server on {}", server.base());
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        Ok(())
    })
}
