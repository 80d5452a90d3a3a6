//! What the town answers, read.
//!
//! All of it comes from outside. It was bounded in bytes before it came here, and what is wrong with it is logged
//! without a word of it, because it may hold a secret.

use bulkhead_api::{TownRegistry, town_snapshot};
use bulkhead_types::Secret;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::fault::{Cause, Fault};
use crate::nudge::Nudge;

/// The shape of an answer.
#[derive(Deserialize)]
struct Envelope<T> {
    success: Option<bool>,
    error: Option<String>,
    data: Option<T>,
}

/// What a refusal says.
#[derive(Default)]
pub(crate) struct Refusal {
    pub(crate) error: Option<String>,
    /// Of the fence: the run that serves the town.
    pub(crate) newer_run_id: Option<String>,
}

/// The `data` of an answer.
pub(crate) fn data<T: DeserializeOwned>(body: &[u8]) -> Result<Option<T>, Fault> {
    match serde_json::from_slice::<Envelope<T>>(body) {
        Ok(Envelope { success: Some(false), .. }) => {
            Err(Fault::new(Cause::NotJson, "the answer says that it is no success"))
        }
        Ok(Envelope { data, .. }) => Ok(data),
        Err(error) => {
            // Where it is wrong, and not what stands there: the parser may quote a secret.
            let (line, column) = (error.line(), error.column());
            let text = match error.classify() {
                serde_json::error::Category::Data => "the answer has another shape",
                _ => "the answer is no JSON",
            };
            Err(Fault::new(Cause::NotJson, format!("{text}, at {line}:{column}")))
        }
    }
}

/// What a refusal says, as far as it can be read.
pub(crate) fn refusal(body: &[u8]) -> Refusal {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Data {
        run_id: Option<String>,
    }
    let envelope = serde_json::from_slice::<Envelope<Data>>(body);
    envelope.map_or_else(
        |_| Refusal::default(),
        |Envelope { error, data, .. }| Refusal {
            error,
            newer_run_id: data.and_then(|data| data.run_id),
        },
    )
}

/// Whether an answer is one of the town API, whatever is in it; and what it says if it is no success.
pub(crate) fn outcome(body: &[u8]) -> Result<(), Option<String>> {
    match serde_json::from_slice::<Envelope<serde::de::IgnoredAny>>(body) {
        Ok(Envelope { success: Some(false), error, .. }) => Err(Some(error.unwrap_or_default())),
        Ok(_) => Ok(()),
        Err(_) => Err(None),
    }
}

/// The nonce in the answer to a heartbeat. An answer without one, or of another shape, is as good as any.
pub(crate) fn drain_nonce(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Data {
        drain_nonce: Option<String>,
    }
    data::<Data>(body).ok()??.drain_nonce
}

/// The token in the answer to a refresh.
pub(crate) fn token(body: &[u8]) -> Result<Option<Secret>, Fault> {
    #[derive(Deserialize)]
    struct Data {
        token: Secret,
    }
    Ok(data::<Data>(body)?.map(|data| data.token))
}

/// Reads bytes as every answer that there is. For tests and fuzzing: nothing comes of it.
pub fn read_any(bytes: &[u8]) {
    let _ = (refusal(bytes), outcome(bytes), drain_nonce(bytes));
    let _ =
        token(bytes).map(|token| token.is_some_and(|token| crate::token::check(&token).is_ok()));
    let nudges = data::<Vec<Nudge>>(bytes).ok().flatten().unwrap_or_default();
    nudges.into_iter().for_each(|nudge| _ = nudge.request());
    if let Ok(Some(rows)) = data::<Vec<Box<RawValue>>>(bytes) {
        let _ = TownRegistry::parse(&rows);
    }
    let _ = (town_snapshot::open(bytes, true), town_snapshot::open(bytes, false));
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEEDS: [&str; 6] = [
        r#"{"success":true,"data":[{"nudge_id":"n1","message":"look","mode":"m","priority":"p","source":"s"}]}"#,
        r#"{"data":[{"agentId":"a","request":{"agentId":"a","role":"r","envVars":{"K":"v"}},"workdir":"/","env":{"K":"v"}}]}"#,
        r#"{"success":false,"error":"fenced","data":{"runId":"019bc0f4-2a40-7c11-9d7e-5b1f6a3c8e02"}}"#,
        r#"{"success":true,"data":{"drainNonce":"nonce"}}"#,
        r#"{"data":{"token":"e30.eyJleHAiOjE3MDAwMDAwMDB9.sig"}}"#,
        "\u{89}BHSNAP\n\u{1}\u{0}state",
    ];

    #[test]
    fn the_seeds_are_what_they_are_meant_to_be() {
        let seed = |at: usize| SEEDS[at].as_bytes();
        assert_eq!(data::<Vec<Nudge>>(seed(0)).unwrap().unwrap().len(), 1);
        assert_eq!(data::<Vec<Box<RawValue>>>(seed(1)).unwrap().unwrap().len(), 1);
        assert!(refusal(seed(2)).newer_run_id.is_some() && outcome(seed(2)).is_err());
        assert_eq!(drain_nonce(seed(3)).as_deref(), Some("nonce"));
        assert!(token(seed(4)).unwrap().is_some());
    }

    #[test]
    fn noise_in_answers_is_survived() {
        let mut random = fastrand::Rng::with_seed(7);
        for round in 0..20_000 {
            let mut bytes = SEEDS[round % SEEDS.len()].as_bytes().to_vec();
            for _ in 0..=random.usize(..4) {
                let at = random.usize(..bytes.len());
                match random.u8(..4) {
                    0 => bytes[at] = random.u8(..),
                    1 if bytes.len() > 1 => _ = bytes.remove(at),
                    2 => bytes.truncate(at.max(1)),
                    _ => {
                        let other = SEEDS[random.usize(..SEEDS.len())].as_bytes();
                        bytes.splice(at..at, other[random.usize(..other.len())..].iter().copied());
                    }
                }
            }
            read_any(&bytes);
        }
    }
}
