//! The interface `model`, seen from an agent.

use harness::{Host, HostBuilder, Value, files, json, model_server};

fn builder() -> HostBuilder {
    Host::builder().component("models", &files::component("models")).role(
        "models",
        "models",
        "models = [\"default\"]",
    )
}

fn reply(host: &Host, order: &Value) -> Value {
    let reply = host.client().ask("models", &order.to_string());
    serde_json::from_str(&reply).unwrap_or_else(|error| panic!("{error}: {reply}"))
}

#[test]
fn a_streamed_answer_is_the_whole_answer() {
    let model = model_server();
    let host = builder().model(&model, "").start();
    host.client().start("models", "models");
    let whole = reply(&host, &json!({"do": "complete", "say": "hello"}));
    assert_eq!(whole["text"], "Hello. I answer from a script.", "{whole}");
    let streamed = reply(&host, &json!({"do": "stream", "say": "hello"}));
    assert_eq!((&streamed["text"], &streamed["end"]["end"]), (&whole["text"], &json!("stop")));
    assert_eq!(model.asked(), 2);
    host.finish();
}
