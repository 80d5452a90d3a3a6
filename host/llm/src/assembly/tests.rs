use serde_json::json;

use super::*;
use crate::{End, Finish, Part, Usage};

/// What a stream of chunks comes to: text, reasoning, end.
fn assemble(chunks: &[Value]) -> Result<(String, String, End), Problem> {
    let mut draft = Draft::default();
    for chunk in chunks {
        event(&mut draft, "message", &chunk.to_string())?;
    }
    event(&mut draft, "message", "[DONE]")?;
    let end = draft.finish(false)?;
    let (mut text, mut reasoning) = (String::new(), String::new());
    for part in draft.parts().drain(..) {
        match part {
            Part::Text(more) => text += &more,
            Part::Reasoning(more) => reasoning += &more,
            other => panic!("{other:?}"),
        }
    }
    Ok((text, reasoning, end))
}

fn delta(delta: Value) -> Value {
    json!({"choices": [{"index": 0, "delta": delta, "finish_reason": null}]})
}

fn end(reason: &str) -> Value {
    json!({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
}

fn text(chunks: &[Value]) -> String {
    assemble(chunks).unwrap().0
}

#[test]
fn text_is_joined_and_handed_on_as_it_comes() {
    let mut draft = Draft::default();
    let mut take = |chunk: Value| {
        event(&mut draft, "message", &chunk.to_string()).unwrap();
        draft.parts().drain(..).collect::<Vec<_>>()
    };
    let said = |text: &str| vec![Part::Text(text.into())];
    assert_eq!(take(delta(json!({"role": "assistant", "content": "Hel"}))), said("Hel"));
    assert_eq!(take(delta(json!({"content": "lo"}))), said("lo"));
    take(json!({"choices": [{"delta": {}, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 3, "completion_tokens": 2}}));
    let end = draft.finish(false).unwrap();
    assert_eq!(end.finish, Finish::Stop);
    assert_eq!(end.usage.unwrap().input, 3);
}

#[test]
fn reasoning_is_no_text_and_comes_once() {
    for reasoning in [
        json!({"reasoning_content": "hm", "content": "fine"}),
        json!({"reasoning": "hm", "content": "fine"}),
        json!({"reasoning": "hm", "reasoning_content": "hm", "content": "fine"}),
        json!({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, "fine"]}),
        json!({"content": [{"type": "reasoning", "text": "hm"}, {"type": "text", "text": "fine"}]}),
    ] {
        let (text, thought, _) = assemble(&[delta(reasoning.clone())]).unwrap();
        assert_eq!((text.as_str(), thought.as_str()), ("fine", "hm"), "{reasoning}");
    }
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
    let usage = |chunk: Value| assemble(&[delta(json!({"content": "x"})), chunk]).unwrap().2.usage;
    let of = |input, output| Some(Usage { input, output, ..Usage::default() });
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
    assert_eq!(usage(json!({"x_groq": {"usage": {"prompt_tokens": 5}}})), of(5, 0));
    let fine =
        json!({"base_resp": {"status_code": 0, "status_msg": ""}, "usage": {"prompt_tokens": 5}});
    assert_eq!(usage(fine), of(5, 0));
}

#[test]
fn an_empty_finish_reason_is_none() {
    for reason in ["", " ", "null"] {
        let mut draft = Draft::default();
        value_of(&mut draft, &delta(json!({"content": "half"}))).unwrap();
        value_of(&mut draft, &end(reason)).unwrap();
        assert_eq!(draft.finish(false), Err(Problem::CutOff), "{reason:?}");
    }
}

#[test]
fn an_answer_that_was_cut_says_so() {
    for (reason, finish) in [
        ("length", Finish::Length),
        ("MAX_TOKENS", Finish::Length),
        ("content_filter", Finish::ContentFilter),
    ] {
        let (text, _, end) = assemble(&[delta(json!({"content": "half"})), end(reason)]).unwrap();
        assert_eq!((text.as_str(), end.finish), ("half", finish), "{reason}");
    }
    let thinking = delta(json!({"reasoning_content": "long thought"}));
    let problem = assemble(&[thinking, end("length")]).unwrap_err();
    assert!(
        matches!(&problem, Problem::Malformed(text) if text.contains("truncated")),
        "{problem:?}"
    );
}

#[test]
fn nothing_more_to_say_is_an_answer_only_where_it_may_be_one() {
    let silent = |reason: &str, may_be_silent: bool| {
        let mut draft = Draft::default();
        value_of(&mut draft, &end(reason)).unwrap();
        draft.finish(may_be_silent)
    };
    assert_eq!(silent("stop", true).unwrap().finish, Finish::Stop);
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
        (
            json!({"type": "error", "error": {"type": "overloaded_error", "message": "died"}}),
            "died",
            Some(529),
        ),
        (json!({"detail": "not known"}), "not known", None),
        (
            json!({"choices": [{"index": 0, "delta": {}, "finish_reason": null}],
                   "x_groq": {"id": "r", "error": "over_capacity: later"}}),
            "over_capacity: later",
            None,
        ),
        (
            json!({"choices": null, "base_resp": {"status_code": 1008, "status_msg": "no money"}}),
            "no money",
            Some(402),
        ),
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
