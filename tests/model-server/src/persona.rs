//! Model names that answer in a way of their own.
//!
//! | model | how it answers |
//! | --- | --- |
//! | `stream-<chunks>-<rate>` | so many chunks of text, `rate` a second; 0: as fast as they are read. At most 100,000 |
//! | `usage-<prompt>-<completion>-<cached>-<reasoning>` | by the script, and reports these counts of tokens |
//! | `thinks` | by the script, after some reasoning, which it wants back with a message that called tools |
//!
//! Others report the words of the conversation and of the answer as tokens.

use crate::chat::{Answer, CHUNK_CHARS, Reply, Request, Usage};
use crate::script;

/// Of one answer.
const MAX_CHUNKS: u32 = 100_000;

/// The answer of the model that a request names.
pub fn answer(request: &Request) -> Answer {
    if let Some([chunks, _]) = numbers(&request.model, "stream") {
        let words = (0..chunks.min(MAX_CHUNKS)).map(|word| format!("{word:07} "));
        return Answer::of(request, Reply::Text(words.collect()));
    }
    let mut answer = Answer::of(request, script::reply(request));
    if let Some([prompt, completion, cached, reasoning]) = numbers(&request.model, "usage") {
        answer.usage = Usage { prompt, completion, cached, reasoning };
    }
    if request.model == "thinks" {
        let said = request.messages.iter().rfind(|message| message.role == "user");
        let said = said.map(crate::chat::Message::text).unwrap_or_default();
        let reasoning = format!("The user says: {said}");
        answer.usage.reasoning = reasoning.split_whitespace().count() as u32;
        answer.usage.completion += answer.usage.reasoning;
        answer.reasoning = Some(reasoning);
    }
    answer
}

/// Why a request is refused, if it is.
pub fn refuses(request: &Request) -> Option<&'static str> {
    let mut calls = request.messages.iter().filter(|message| !message.called().is_empty());
    let is_missing = request.model == "thinks" && calls.any(|it| it.reasoning_content.is_none());
    is_missing.then_some("the reasoning of a message with tool calls has to be passed back")
}

/// Chunks a second, if the model has a pace of its own.
pub fn rate(model: &str) -> Option<u32> {
    numbers(model, "stream").map(|[_, rate]| rate)
}

/// The numbers behind a word: `usage-1-2-3-4`.
fn numbers<const N: usize>(model: &str, word: &str) -> Option<[u32; N]> {
    // Eight characters and a blank make up one chunk.
    const { assert!(CHUNK_CHARS == 8) };
    let rest = model.strip_prefix(word)?.strip_prefix('-')?;
    let numbers: Result<Vec<u32>, _> = rest.split('-').map(str::parse).collect();
    numbers.ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn asked(model: &str) -> Request {
        let messages = json!([{"role": "user", "content": "hello there"}]);
        serde_json::from_value(json!({"model": model, "messages": messages})).unwrap()
    }

    #[test]
    fn a_stream_has_as_many_chunks_as_its_name_says() {
        let request = asked("stream-5-100");
        let answer = answer(&request);
        let chunks = crate::chat::chunks(&request, &answer);
        let text = |chunk: &&serde_json::Value| {
            !chunk["choices"][0]["delta"]["content"].as_str().unwrap_or("").is_empty()
        };
        assert_eq!(chunks.iter().filter(text).count(), 5);
        assert_eq!(rate("stream-5-100"), Some(100));
        assert_eq!(rate("scripted"), None);
    }

    #[test]
    fn usage_is_what_the_name_says() {
        let usage = answer(&asked("usage-100-20-60-5")).usage;
        assert_eq!(usage, Usage { prompt: 100, completion: 20, cached: 60, reasoning: 5 });
        let plain = answer(&asked("usage-100-20")).usage;
        assert_eq!((plain.prompt, plain.cached), (2, 0));
    }

    #[test]
    fn a_model_that_thinks_wants_its_reasoning_back() {
        let asked = |model: &str, reasoning: Option<&str>| {
            let call = json!({"id": "c", "type": "function", "function": {"name": "a", "arguments": "{}"}});
            let mut said = json!({"role": "assistant", "tool_calls": [call]});
            if let Some(reasoning) = reasoning {
                said["reasoning_content"] = reasoning.into();
            }
            serde_json::from_value(json!({"model": model, "messages": [said]})).unwrap()
        };
        assert!(refuses(&asked("thinks", None)).is_some());
        assert!(refuses(&asked("thinks", Some("hm"))).is_none());
        assert!(refuses(&asked("scripted", None)).is_none());
    }

    #[test]
    fn reasoning_counts_as_written() {
        let answer = answer(&asked("thinks"));
        assert_eq!(answer.reasoning.as_deref(), Some("The user says: hello there"));
        assert_eq!((answer.usage.reasoning, answer.usage.completion), (5, 11));
    }
}
