//! The server, over real sockets, on a backend that is played.

mod bounds;
mod client;
mod connection_slots;
mod console;
mod contract;
mod crashes;
mod document;
mod fake;
mod guarded;
mod lifecycle;
mod long;
mod mcp;
mod messages;
mod metrics;
mod nudges;
mod openai;
mod paths;
mod probes;
mod settings;
mod sockets;
mod starts;
mod streams;
mod town;
mod town_header;
mod upgrade;
mod workspaces;
