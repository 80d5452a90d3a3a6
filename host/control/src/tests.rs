//! The server, over real sockets, on a backend that is played.

mod bounds;
mod client;
mod connection_slots;
mod contract;
mod crashes;
mod document;
mod fake;
mod guarded;
mod lifecycle;
mod messages;
mod metrics;
mod nudges;
mod paths;
mod probes;
mod settings;
mod starts;
mod town;
