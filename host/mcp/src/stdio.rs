//! The protocol over standard input and output.

use rmcp::ServiceExt;
use rmcp::transport::stdio;

use crate::Server;

/// Serves one client on stdin and stdout until it closes stdin. A line has at most 16 MiB.
///
/// # Errors
///
/// The client does not speak the protocol, or stdout is closed.
pub async fn serve(server: Server) -> Result<(), String> {
    let running = server.serve(stdio()).await;
    match running {
        Ok(running) => running.waiting().await.map(drop).map_err(|error| error.to_string()),
        // It came and went without a word.
        Err(rmcp::service::ServerInitializeError::ConnectionClosed(_)) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}
