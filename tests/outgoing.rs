//! What leaves the host: bodies of requests, URLs, proxies, private authorities, dead addresses, and servers that
//! attack whoever asks them.

mod attacks;
mod network;
mod requests;
mod secrets;
mod servers;
mod ways;
