//! What leaves the host: bodies of requests, URLs, proxies, private authorities, dead addresses, and servers that
//! attack their clients.

mod attacks;
mod names;
mod network;
mod requests;
mod secrets;
pub(crate) mod servers;
mod ways;
