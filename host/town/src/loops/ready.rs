//! Acknowledges a drain nonce, once, when the container takes starts.

use std::time::Duration;

use serde::Serialize;
use tokio::time::sleep;

use super::{Loop, Woken, backoff};
use crate::call::{Call, Payload, Request};

/// Between two checks whether the container is ready.
const LOOK: Duration = Duration::from_millis(50);

#[derive(Serialize)]
struct Ready<'a> {
    nonce: &'a str,
}

pub(super) async fn run(this: Loop) {
    loop {
        let work = async {
            this.shared.heard.nonce.notified().await;
            while !this.container.is_ready() {
                sleep(LOOK).await;
            }
        };
        if this.wait(work).await != Woken::Work {
            return;
        }
        for nonce in this.shared.heard.take_nonces() {
            if !this.acknowledge(&nonce).await {
                return;
            }
        }
    }
}

impl Loop {
    /// Says whether there is anybody to go on for.
    async fn acknowledge(&self, nonce: &str) -> bool {
        let path = self.client().paths.town("container-ready");
        for failures in 1.. {
            let payload = Payload::json(&Ready { nonce });
            match self
                .client()
                .send(Request::new(Call::ContainerReady, path.clone(), payload))
                .await
            {
                Err(fault) if !fault.is_final() => {
                    if self.wait(sleep(backoff(failures))).await != Woken::Work {
                        return false;
                    }
                }
                // One that was refused is not asked for again.
                _ => break,
            }
        }
        true
    }
}
