//! `bulkhead check --models`: whether each endpoint answers with its key and its model.

use std::sync::Arc;
use std::time::Instant;

use bulkhead_llm::{Content, Dialect, Error, Message, Model, Part, Request, Role, Settings, Usage};
use bulkhead_net::System;
use bulkhead_types::time::millis;

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
            Some(Err(error)) => {
                let remedy = remedy(&error, settings);
                return Err(format!("{what}: {}; {remedy}", words(&error, settings)));
            }
            None => return Err(format!("{what}: the answer has no end")),
        }
    };
    Ok(format!("{what}: ok, {} ms, {}", millis(began.elapsed()), tokens(usage)))
}

fn ping(model: &str) -> Request {
    let message = Message {
        role: Role::User,
        content: vec![Content::Text("ping".into())],
        tool_calls: Vec::new(),
        tool_call_id: None,
    };
    Request {
        model: model.to_owned(),
        messages: vec![message],
        tools: Vec::new(),
        tool_choice: None,
        response_format: None,
        temperature: None,
        max_tokens: Some(1),
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
                idle: second,
                retries: 0,
                max_wait: second,
                max_answer_bytes: 1024,
            },
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
                attempt: second,
        ] {
            let remedy = remedy(&error, &settings(Dialect::Anthropic));
            assert!(remedy.contains(part), "{error:?}: {remedy}");
        }
    }
}
