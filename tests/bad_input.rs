//! What comes from outside and is wrong: each gets a clear error that names the thing, one log line,
//! and changes nothing else.

mod components;
mod configuration;
mod requests;
