//! What leaves the host: bodies of requests, URLs, proxies, private authorities, dead addresses, and servers that
//! attack whoever asks them.

#[path = "outgoing/attacks.rs"]
mod attacks;
#[path = "outgoing/network.rs"]
mod network;
#[path = "outgoing/requests.rs"]
mod requests;
#[path = "outgoing/servers.rs"]
mod servers;
#[path = "outgoing/ways.rs"]
mod ways;
