//! What comes from outside and is wrong: each gets a clear error that names the thing, one log line,
//! and changes nothing else.

#[path = "bad_input/components.rs"]
mod components;
#[path = "bad_input/configuration.rs"]
mod configuration;
#[path = "bad_input/requests.rs"]
mod requests;
