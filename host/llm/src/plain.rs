//! The chunk that most of a stream is made of: text for the one choice, and nothing else that counts. It is read without
//! a tree of values, which takes several times as long. What differs in anything goes the general way.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::IgnoredAny;

/// The index of the choice, and its text.
pub(crate) fn text(data: &str) -> Option<(u64, Cow<'_, str>)> {
    let Chunk { choices: [Choice { index, delta, .. }], .. } = serde_json::from_str(data).ok()?;
    Some((index.unwrap_or(0), delta.content))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "what else may stand there says nothing of the answer")]
struct Chunk<'a> {
    #[serde(borrow)]
    choices: [Choice<'a>; 1],
    #[serde(default)]
    object: Option<Object>,
    #[serde(default)]
    usage: (),
    #[serde(default)]
    error: (),
    #[serde(default)]
    id: IgnoredAny,
    #[serde(default)]
    created: IgnoredAny,
    #[serde(default)]
    model: IgnoredAny,
    #[serde(default)]
    system_fingerprint: IgnoredAny,
    #[serde(default)]
    service_tier: IgnoredAny,
    #[serde(default)]
    obfuscation: IgnoredAny,
    #[serde(default)]
    provider: IgnoredAny,
}

#[derive(Deserialize)]
enum Object {
    #[serde(rename = "chat.completion.chunk")]
    Chunk,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "what else may stand there says nothing of the answer")]
struct Choice<'a> {
    #[serde(default)]
    index: Option<u64>,
    #[serde(borrow)]
    delta: Delta<'a>,
    #[serde(default)]
    finish_reason: (),
    #[serde(default)]
    native_finish_reason: (),
    #[serde(default)]
    logprobs: IgnoredAny,
    #[serde(default)]
    stop_reason: IgnoredAny,
    #[serde(default)]
    token_ids: IgnoredAny,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "what else may stand there says nothing of the answer")]
struct Delta<'a> {
    #[serde(borrow)]
    content: Cow<'a, str>,
    #[serde(default)]
    role: IgnoredAny,
    #[serde(default)]
    reasoning: (),
    #[serde(default)]
    reasoning_content: (),
    #[serde(default)]
    refusal: (),
    #[serde(default)]
    tool_calls: (),
    #[serde(default)]
    function_call: (),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_of_text_are_read_as_servers_write_them() {
        for (chunk, index, expected) in [
            (r#"{"choices":[{"delta":{"content":"a"}}]}"#, 0, "a"),
            (r#"{"choices":[{"index":1,"delta":{"role":"assistant","content":""}}]}"#, 1, ""),
            // OpenAI, vLLM, OpenRouter, the server of the tests.
            (
                r#"{"id":"c","object":"chat.completion.chunk","created":1,"model":"m","service_tier":"default","system_fingerprint":"f","choices":[{"index":0,"delta":{"content":"gr\u00fcn\n"},"logprobs":null,"finish_reason":null}],"usage":null,"obfuscation":"x"}"#,
                0,
                "grün\n",
            ),
            (
                r#"{"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"content":"a","reasoning_content":null},"logprobs":null,"finish_reason":null,"stop_reason":null,"token_ids":null}]}"#,
                0,
                "a",
            ),
            (
                r#"{"id":"c","provider":"p","model":"m","object":"chat.completion.chunk","created":1,"choices":[{"index":0,"delta":{"role":"assistant","content":"a","reasoning":null},"finish_reason":null,"native_finish_reason":null,"logprobs":null}]}"#,
                0,
                "a",
            ),
        ] {
            assert_eq!(text(chunk), Some((index, expected.into())), "{chunk}");
        }
    }

    #[test]
    fn what_differs_is_none_of_them() {
        for chunk in [
            "",
            "{",
            r#"{"choices":[]}"#,
            r#"{"choices":[{"delta":{"content":"a"}}]} {}"#,
            r#"{"choices":[{"delta":{"content":"a"}},{"index":1,"delta":{"content":"b"}}]}"#,
            r#"{"choices":[{"delta":{"content":"a"},"finish_reason":"stop"}]}"#,
            r#"{"choices":[{"delta":{"content":"a"},"finish_reason":""}]}"#,
            r#"{"choices":[{"delta":{"content":"a"},"message":{"content":"ab"}}]}"#,
            r#"{"choices":[{"delta":{"content":null}}]}"#,
            r#"{"choices":[{"delta":{"content":[{"text":"a"}]}}]}"#,
            r#"{"choices":[{"delta":{"content":"a","reasoning":"b"}}]}"#,
            r#"{"choices":[{"delta":{"content":"a","tool_calls":[{}]}}]}"#,
            r#"{"choices":[{"delta":{"content":"a"},"error":{"message":"b"}}]}"#,
            r#"{"choices":[{"delta":{"content":"a"}}],"usage":{"prompt_tokens":1}}"#,
            r#"{"choices":[{"delta":{"content":"a"}}],"error":"b"}"#,
            r#"{"choices":[{"delta":{"content":"a"}}],"object":"error"}"#,
            r#"{"choices":[{"delta":{"content":"a"}}],"type":"error"}"#,
        ] {
            assert_eq!(text(chunk), None, "{chunk}");
        }
    }
}
