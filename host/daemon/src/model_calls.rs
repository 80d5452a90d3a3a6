//! `bulkhead check --models`: whether each endpoint answers with its key and its model.

use std::sync::Arc;
use std::time::Instant;

use bulkhead_llm::{
    Content, Dialect, Error, Finish, Message, Model, Part, Request, Role, Settings, Usage,
};
use bulkhead_net::System;
use bulkhead_types::time::millis;

/// Of an answer. Some servers refuse less from a model that thinks.
const MAX_TOKENS: u32 = 16;

/// Asks for as little as possible. The line says which endpoint and model, and either what the call took or what is
/// wrong and what to do about it.
pub async fn call(
    settings: &Settings,
    Model { endpoint, default_model, .. }: &Model,
) -> Result<String, String> {
    let what = format!("model {} {}, {default_model}", settings.name, endpoint.url());
    let began = Instant::now();
    let deadline = tokio::time::Instant::now() + settings.bounds.whole;
    let mut chat = endpoint.chat(ping(default_model), None, deadline, Arc::new(System));
    let usage = loop {
        match chat.next().await {
            Some(Ok(Part::End(end))) => break end.usage,
            Some(Ok(_)) => {}
            Some(Err(error)) if is_short(&error, chat.ended_by()) => {
                let text = format!("no text within {MAX_TOKENS} tokens, the model thinks");
                return Ok(format!("{what}: ok, {} ms, {text}", millis(began.elapsed())));
            }
            Some(Err(error)) => {
                let remedy = remedy(&error, settings);
                return Err(format!("{what}: {}; {remedy}", words(&error, settings)));
            }
            None => return Err(format!("{what}: the answer has no end")),
        }
    };
    Ok(format!("{what}: ok, {} ms, {}", millis(began.elapsed()), tokens(usage)))
}

/// Whether the model ran, and its answer came to nothing because it may say so little: thinking alone takes more.
/// Address, key and model are right.
fn is_short(error: &Error, ended_by: Option<Finish>) -> bool {
    match error {
        Error::BadAnswer { .. } => ended_by == Some(Finish::Length),
        // OpenAI's words, in place of an answer.
        Error::Rejected { status: 400, message } => message.contains("output limit was reached"),
        _ => false,
    }
}

fn ping(model: &str) -> Request {
    let message = Message {
        role: Role::User,
        content: vec![Content::Text("ping".into())],
        tool_calls: Vec::new(),
        tool_call_id: None,
        reasoning_state: None,
    };
    Request {
        model: model.to_owned(),
        messages: vec![message],
        tools: Vec::new(),
        tool_choice: None,
        response_format: None,
        temperature: None,
        max_tokens: Some(MAX_TOKENS),
        extra: Default::default(),
        headers: Default::default(),
    }
}

fn tokens(usage: Option<Usage>) -> String {
    match usage {
        Some(Usage { input, output, .. }) => format!("tokens: {input} in, {output} out"),
        None => "no usage".into(),
    }
}

/// What an error says, without the name of the endpoint, which begins the line.
fn words(error: &Error, settings: &Settings) -> String {
    let text = error.to_string();
    let text = text.strip_prefix(&format!("{}: ", settings.name)).unwrap_or(&text);
    match error {
        Error::Rejected { status, .. } => format!("status {status}: {text}"),
        _ => text.to_owned(),
    }
}

/// What a person can do about an error.
fn remedy(error: &Error, settings: &Settings) -> String {
    let table = format!("models.{}", settings.name);
    let dialect = match settings.dialect {
        Dialect::OpenAi => "openai",
        Dialect::Anthropic => "anthropic",
    };
    match error {
        Error::Unavailable(_) => {
            format!("check that the server runs, {table}.base_url and the proxy")
        }
        Error::RateLimited { .. } => "try again later, or raise the limit of the key".into(),
        Error::Rejected { status: 401 | 403, .. } => {
            format!("check {table}.api_key, api_key_file or api_key_env, and what the key may do")
        }
        Error::Rejected { status: 404 | 405, .. } => {
            format!(
                "check {table}.base_url, which often ends in /v1 for the dialect \"openai\", and {table}.model"
            )
        }
        Error::Rejected { .. } => {
            format!("check {table}.model, headers and dialect, which is {dialect:?}")
        }
        Error::BadAnswer { .. } => {
            format!("check {table}.base_url and whether the server speaks the dialect {dialect:?}")
        }
        Error::Timeout(_) => format!(
            "check the server; while it loads a model, {table}.first_byte_ms and timeout_ms may have to be longer"
        ),
    }
}

#[cfg(test)]
mod tests {
    use bulkhead_net::{BaseUrl, Connector};
    use std::time::Duration;

    use super::*;

    fn settings(dialect: Dialect) -> Settings {
        let second = Duration::from_secs(1);
        Settings {
            name: "big".into(),
            base: BaseUrl::parse("http://127.0.0.1:9/v1").unwrap(),
            dialect,
            headers: Vec::new(),
            connector: Connector::default(),
            bounds: bulkhead_llm::Bounds {
                whole: second,
                first_byte: second,
                attempt: second,
                idle: second,
                retries: 0,
                max_wait: second,
                max_answer_bytes: 1024,
            },
        }
    }

    #[test]
    fn an_answer_that_is_all_thought_is_one() {
        let rejected = |status, message: &str| Error::Rejected { status, message: message.into() };
        let bad = || Error::BadAnswer { message: "big: empty answer".into(), cut_off: false };
        let openai = "big: Could not finish the message because max_tokens or model output limit was reached. \
                      Please try again with higher max_tokens.";
        assert!(is_short(&rejected(400, openai), None));
        assert!(is_short(&bad(), Some(Finish::Length)));
        for (error, ended_by) in [
            (rejected(400, "big: no such model"), None),
            (rejected(401, openai), None),
            (bad(), Some(Finish::Stop)),
            (bad(), None),
            (Error::Timeout("x".into()), Some(Finish::Length)),
        ] {
            assert!(!is_short(&error, ended_by), "{error:?}");
        }
    }

    #[test]
    fn every_error_has_a_remedy_that_names_the_keys() {
        let rejected = |status| Error::Rejected { status, message: "no".into() };
        for (error, part) in [
            (Error::Unavailable("x".into()), "models.big.base_url"),
            (Error::RateLimited { retry_after: None, message: "x".into() }, "later"),
            (rejected(401), "models.big.api_key"),
            (rejected(403), "api_key_env"),
            (rejected(404), "models.big.model"),
            (rejected(400), "\"anthropic\""),
            (Error::BadAnswer { message: "x".into(), cut_off: false }, "\"anthropic\""),
            (Error::Timeout("x".into()), "models.big.first_byte_ms"),
        ] {
            let remedy = remedy(&error, &settings(Dialect::Anthropic));
            assert!(remedy.contains(part), "{error:?}: {remedy}");
        }
    }
}
