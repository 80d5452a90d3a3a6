//! The server, over real sockets, on a backend that is played.

mod bounds;
mod client;
mod crashes;
mod document;
mod fake;
mod guarded;
mod life;
mod messages;
mod metrics;
mod nudges;
mod paths;
mod places;
mod probes;
mod settings;
mod starts;
mod town;
