use serde_json::json;

use super::*;

fn assemble(chunks: &[Value]) -> Result<Reply, Problem> {
    let mut assembly = Assembly::default();
    for chunk in chunks {
        assembly.event("message", &chunk.to_string())?;
    }
    assembly.event("message", "[DONE]")?;
    assembly.finish(false)
}

fn delta(delta: Value) -> Value {
    json!({"choices": [{"index": 0, "delta": delta, "finish_reason": null}]})
}

fn end(reason: &str) -> Value {
    json!({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
}

fn text(chunks: &[Value]) -> String {
    assemble(chunks).unwrap().message.text().to_owned()
}

#[test]
fn text_is_joined_and_handed_on_as_it_comes() {
    let mut assembly = Assembly::default();
    let mut event = |chunk: Value| assembly.event("message", &chunk.to_string()).unwrap();
    assert_eq!(event(delta(json!({"role": "assistant", "content": "Hel"}))), "Hel");
    assert_eq!(event(delta(json!({"content": "lo"}))), "lo");
    event(json!({"choices": [{"delta": {}, "finish_reason": "stop"}],
                 "usage": {"prompt_tokens": 3, "completion_tokens": 2}}));
    let reply = assembly.finish(false).unwrap();
    assert_eq!(reply.message.text(), "Hello");
    assert_eq!((reply.finish_reason.as_deref(), reply.cut), (Some("stop"), None));
    assert_eq!(reply.usage.unwrap().prompt_tokens, 3);
}

#[test]
fn content_has_many_forms() {
    for content in [
        json!("fine"),
        json!(["fi", {"type": "text", "text": "ne"}]),
        json!([{"type": "reasoning", "text": "hm"}, {"type": "text", "text": {"value": "fine"}}, 7, null]),
        json!([{"type": "thinking", "text": "hm"}, {"type": "redacted_thinking", "text": "hm"}, "fine"]),
        json!({"type": "text", "text": "fine"}),
    ] {
        assert_eq!(text(&[delta(json!({"content": content}))]), "fine", "{content}");
    }
    assert_eq!(text(&[json!({"choices": {"text": "fine"}})]), "fine");
    assert_eq!(text(&[delta(json!({"content": null, "refusal": "no"}))]), "no");
    let message = |text: &str| json!({"choices": [{"message": {"content": text}}]});
    assert_eq!(text(&[message("fi"), message("ne")]), "fine");
    let both = json!({"choices": [{"delta": {}, "message": {"content": "fine"}, "finish_reason": "stop"}]});
    assert_eq!(text(std::slice::from_ref(&both)), "fine");
    assert_eq!(text(&[delta(json!({"content": "fine"})), both]), "fine");
}

#[test]
fn only_one_choice_counts_and_none_is_no_harm() {
    let second = json!({"choices": [{"index": 1, "delta": {"content": "no"}}]});
    let both = json!({"choices": [{"index": 1, "delta": {"content": "no"}}, {"index": 0, "delta": {"content": "e"}}]});
    let none = [Value::Null, json!([]), json!(1)].map(|choices| json!({"choices": choices}));
    let chunks = [delta(json!({"content": "fin"})), second, both, delta(Value::Null)];
    assert_eq!(text(&[chunks.to_vec(), none.to_vec()].concat()), "fine");
}

#[test]
fn usage_is_read_from_wherever_it_stands() {
    let usage = |chunk: Value| assemble(&[delta(json!({"content": "x"})), chunk]).unwrap().usage;
    let of = |prompt_tokens, completion_tokens| Some(Usage { prompt_tokens, completion_tokens });
    assert_eq!(usage(json!({"usage": null})), None);
    assert_eq!(
        usage(json!({"choices": null, "usage": {"prompt_tokens": null, "completion_tokens": "2"}})),
        of(0, 2)
    );
    assert_eq!(
        usage(json!({"usage": {"input_tokens": 3.0, "output_tokens": 4, "more": {}}})),
        of(3, 4)
    );
    assert_eq!(usage(json!({"choices": [{"delta": {}, "usage": {"prompt_tokens": 5}}]})), of(5, 0));
}

#[test]
fn an_empty_finish_reason_is_none() {
    for reason in ["", " ", "null"] {
        let mut assembly = Assembly::default();
        assembly.value(delta(json!({"content": "half"}))).unwrap();
        assembly.value(end(reason)).unwrap();
        assert_eq!(assembly.finish(false), Err(Problem::CutOff), "{reason:?}");
    }
}

#[test]
fn an_answer_that_was_cut_says_so() {
    for reason in ["length", "MAX_TOKENS", "content_filter"] {
        let reply = assemble(&[delta(json!({"content": "half"})), end(reason)]).unwrap();
        assert!(reply.text().starts_with("half\n\n[cut off: "), "{}", reply.text());
        assert_eq!(reply.message.text(), "half");
    }
    let thinking = delta(json!({"reasoning_content": "long thought"}));
    let problem = assemble(&[thinking, end("length")]).unwrap_err();
    assert!(
        matches!(&problem, Problem::Malformed(text) if text.contains("cut off")),
        "{problem:?}"
    );
}

#[test]
fn nothing_more_to_say_is_an_answer_only_where_it_may_be_one() {
    let silent = |reason: &str, may_be_silent: bool| {
        let mut assembly = Assembly::default();
        assembly.value(end(reason)).unwrap();
        assembly.finish(may_be_silent)
    };
    assert_eq!(silent("stop", true).unwrap().message.content.as_deref(), Some(""));
    assert!(silent("stop", false).is_err() && silent("length", true).is_err());
}

#[test]
fn an_error_is_an_error_and_its_status_counts() {
    for (chunk, message, status) in [
        (json!({"error": {"message": "overloaded", "code": 502}}), "overloaded", Some(502)),
        (json!({"error": "overloaded"}), "overloaded", None),
        (
            json!({"error": {"message": "too long", "type": "invalid_request_error"}}),
            "too long",
            Some(400),
        ),
        (json!({"object": "error", "message": "died", "code": "500"}), "died", Some(500)),
        (json!({"type": "error", "error": {"type": "x", "message": "died"}}), "died", None),
        (json!({"detail": "not known"}), "not known", None),
        (
            json!({"choices": [{"delta": {}, "error": {"message": "died", "code": 429}, "finish_reason": "error"}]}),
            "died",
            Some(429),
        ),
    ] {
        let expected = Problem::Reported(message.into(), status);
        assert_eq!(assemble(std::slice::from_ref(&chunk)), Err(expected), "{chunk}");
    }
    assert!(matches!(assemble(&[end("error")]), Err(Problem::Reported(..))));
    let none = [json!(null), json!(""), json!({}), json!(false)];
    for error in none {
        let chunk =
            json!({"error": error, "choices": [{"delta": {"content": "fine"}, "error": null}]});
        assert_eq!(text(&[chunk]), "fine");
    }
}

#[test]
fn nonsense_is_malformed() {
    for chunk in [json!({"choices": 1}), json!([]), json!({"choices": []})] {
        let error = assemble(std::slice::from_ref(&chunk)).unwrap_err();
        assert!(matches!(error, Problem::Malformed(_)), "{chunk}: {error:?}");
    }
    let many: Vec<_> = (0..65).map(|n| json!({"index": n, "function": {"name": "x"}})).collect();
    assert!(assemble(&[delta(json!({"tool_calls": many}))]).is_err());
}
