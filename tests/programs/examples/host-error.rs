//! Asks its host for a fault. Exit reason: `host_error`, where the role allows fault injection.
//!
//! | body | the key that it looks up |
//! | --- | --- |
//! | `panic` | `fault-injection/panic`: the host function panics |
//! | `error` | `fault-injection/error`: the host function fails |
//! | `abort` | `fault-injection/abort`: the host aborts, once there is a file `/workspace/abort` |
//! | `block` | `fault-injection/block`: the host function blocks its thread for 30 s. A log line comes before |
//!
//! When nothing happens, the reply says what was returned. Any other body is answered with itself.

use bulkhead_guest::{Agent, AgentError, Message, Outcome, config};

/// Its presence lets a turn abort the host.
const ABORT: &str = "/workspace/abort";

#[derive(Default)]
struct HostError;

impl Agent for HostError {
    fn handle(&mut self, message: Message) -> Result<Outcome, AgentError> {
        let key = match message.body.as_str() {
            "panic" => "fault-injection/panic",
            "error" => "fault-injection/error",
            "abort" => {
                while !std::path::Path::new(ABORT).exists() {
                    std::thread::sleep(std::time::Duration::from_millis(2));
                }
                "fault-injection/abort"
            }
            "block" => {
                println!("about to block");
                "fault-injection/block"
            }
            _ => return Ok(Outcome::reply(message.body)),
        };
        Ok(Outcome::reply(match config::text(key) {
            Some(value) => format!("host returned: {value}"),
            None => "host returned nothing".to_owned(),
        }))
    }
}

bulkhead_guest::export!(HostError);
