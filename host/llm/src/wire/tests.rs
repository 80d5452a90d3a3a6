use proptest::prelude::*;

use super::*;

/// What an answer comes to, text and calls joined, in pieces of each size.
fn read(answer: &[u8]) -> Result<Vec<Part>, Problem> {
    let whole = cut(answer, &[]);
    for size in [1, 2, 3, 7, 64] {
        let cuts: Vec<_> = (0..answer.len()).step_by(size).collect();
        assert_eq!(cut(answer, &cuts), whole, "pieces of {size} bytes");
    }
    whole
}

/// The same, cut at these places.
fn cut(answer: &[u8], cuts: &[usize]) -> Result<Vec<Part>, Problem> {
    let mut wire = Wire::default();
    let mut parts: Vec<Part> = Vec::new();
    let ends = cuts.iter().copied().chain([answer.len()]);
    let mut from = 0;
    for to in ends {
        wire.push(&answer[from..to])?;
        from = to;
        for part in wire.parts().drain(..) {
            match (parts.last_mut(), part) {
                (Some(Part::Text(text)), Part::Text(more)) => text.push_str(&more),
                (Some(Part::Reasoning(text)), Part::Reasoning(more)) => text.push_str(&more),
                (_, part) => parts.push(part),
            }
        }
        if wire.is_complete() {
            break;
        }
    }
    if !wire.is_complete() {
        wire.end()?;
    }
    let end = wire.finish(false)?;
    let mut last: Vec<_> = wire.parts().drain(..).collect();
    if let (Some(Part::Text(text)), Some(Part::Text(more))) = (parts.last_mut(), last.first()) {
        text.push_str(more);
        last.remove(0);
    }
    parts.extend(last);
    parts.push(Part::End(end));
    Ok(parts)
}

fn says(answer: &str) -> String {
    let parts = read(answer.as_bytes()).unwrap_or_else(|problem| panic!("{answer}: {problem:?}"));
    let text = |part: Part| match part {
        Part::Text(text) => text,
        _ => String::new(),
    };
    parts.into_iter().map(text).collect()
}

const CHUNK: &str =
    r#"{"choices":[{"index":0,"delta":{"content":"gr\u00fcn ✓"},"finish_reason":"stop"}]}"#;

#[test]
fn events_are_known_by_their_bytes() {
    for answer in [
        format!("data: {CHUNK}\n\ndata: [DONE]\n\n"),
        format!("data:{CHUNK}"),
        format!("\u{feff}: hi\r\n\r\nevent: message\r\ndata: {CHUNK}\r\n\r\n"),
        format!("id: 1\rdata: {CHUNK}\r\r"),
        format!("\n\n: PROCESSING\n\ndata: ping\n\ndata: {CHUNK}\n\ndata: {{torn"),
    ] {
        assert_eq!(says(&answer), "grün ✓");
    }
}

#[test]
fn json_is_known_by_its_bytes_also_one_value_after_the_other() {
    let half = |text: &str| format!(r#"{{"choices":[{{"delta":{{"content":"{text}"}}}}]}}"#);
    for answer in [
        r#" {"choices":[{"message":{"content":"grün ✓"}}]} "#.to_owned(),
        format!("[{CHUNK}]"),
        format!("{}\n{}\n", half("grün"), half(" ✓")),
        format!("{}{}", half("gr\\u00fcn"), half(" ✓")),
    ] {
        assert_eq!(says(&answer), "grün ✓");
    }
    let odd = r#"{"choices":[{"delta":{"content":"}\\\"]{"}}]}"#;
    assert_eq!(says(odd), "}\\\"]{");
}

#[test]
fn what_ends_in_the_middle_is_cut_off_and_what_is_no_answer_says_so() {
    let half = r#"{"choices":[{"index":0,"delta":{"content":"half"}}]}"#;
    for answer in ["", "data: {\"choi", ": ping\n\n", &format!("data: {half}\n\n")] {
        assert_eq!(read(answer.as_bytes()), Err(Problem::CutOff), "{answer}");
    }
    assert_eq!(read(b"{\"choices\":["), Err(Problem::CutDocument));
    for (answer, part) in [
        ("<!doctype html>", "page"),
        ("\u{1f}\u{8b}", "compressed"),
        ("upstream is away", "upstream is away"),
        ("data: [1, x]\n\n", "not a completion"),
        ("{} and more", "not a completion"),
        ("{]", "not a completion"),
    ] {
        let Err(Problem::Malformed(text)) = read(answer.as_bytes()) else { panic!("{answer}") };
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn an_error_is_reported_wherever_it_stands() {
    let error = r#"{"error":{"message":"overloaded","code":503}}"#;
    for answer in [
        error.to_owned(),
        format!("[{error}]"),
        format!("data: {error}\n\n"),
        "event: error\ndata: {\"message\":\"overloaded\",\"status\":503}\n\n".to_owned(),
        format!(": hi\n\n{error}\n"),
        format!(": hi\n\n{}\n", error.replace(',', ",\n  ").replace('{', "{\n\n")),
    ] {
        let expected = Problem::Reported("overloaded".into(), Some(503));
        assert_eq!(read(answer.as_bytes()), Err(expected), "{answer}");
    }
}

#[test]
fn words_that_are_no_part_of_an_answer_do_not_end_it() {
    let part = "data: {\"choices\":[{\"delta\":{\"content\":\"part\"}}]}\n\n";
    let done = "data: [DONE]\n\n";
    for strange in [
        "Internal Server Error",
        "<html><body>502</body></html>",
        "{\"error_code\":50001,\"text\":\"NETWORK ERROR\"}",
    ] {
        let expected = Err(Problem::CutAfter(strange.into()));
        let after = format!("{part}data: {strange}\n\n");
        assert_eq!(read(format!("{after}{done}").as_bytes()), expected);
        assert_eq!(read(after.as_bytes()), expected);
        // What follows shows that the answer went on, and a reason that it came to its end.
        assert_eq!(says(&format!("{after}{part}{done}")), "partpart");
        let stop = "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
        assert_eq!(says(&format!("{after}{stop}")), "part");
    }
    let bare = format!("{part}upstream connect error: reset\n\n{done}");
    let expected = Problem::CutAfter("upstream connect error: reset".into());
    assert_eq!(read(bare.as_bytes()), Err(expected));
    for beat in ["ping", "", "null", "{}", "{\"type\":\"ping\"}", "{\"choices\":[]}"] {
        assert_eq!(says(&format!("{part}data: {beat}\n\n{done}")), "part");
    }
    // JSON in lines of its own that is torn.
    assert_eq!(read(format!("{part}{{\"a\":\n\n{part}").as_bytes()), Err(Problem::CutOff));
    assert_eq!(read(format!("{part}{{\"a\":\n").as_bytes()), Err(Problem::CutOff));
}

#[test]
fn a_number_that_is_none_costs_no_answer() {
    let delta = r#"{"choices":[{"delta":{"content":"NaN"},"logprobs":[-Infinity,NaN]}]}"#;
    assert_eq!(says(&format!("data: {delta}\n\ndata: {CHUNK}\n\n")), "NaNgrün ✓");
    assert_eq!(says(&format!("{delta}\n{CHUNK}")), "NaNgrün ✓");
}

#[test]
fn what_comes_after_an_answer_changes_nothing_of_it() {
    for more in ["data: {\"error\":\"late\"}\n\n", "data: [1, x]\n\n", "noise"] {
        assert_eq!(says(&format!("data: {CHUNK}\n\n{more}")), "grün ✓");
    }
}

const STREAMS: [&str; 4] = [
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"reasoning_content\":\"hm ✓\"}}]}\r\n\r\n: ping\r\n\r\n\
     data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"grün 🚧\"}}]}\r\n\r\n\
     data: {\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"a\",\"function\":{\"name\":\"read\",\"arguments\":\"{\"}}]}}]}\r\n\r\n\
     data: {\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\"}\"}}]},\"finish_reason\":\"tool_calls\"}]}\r\n\r\n\
     data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":2}}\r\n\r\ndata: [DONE]\r\n\r\n",
    "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":2}}}\n\n\
     event: ping\ndata: {\"type\":\"ping\"}\n\n\
     event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n\
     event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"grün 🚧\"}}\n\n\
     event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":2}}\n\n\
     event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
    "{\"choices\":[{\"message\":{\"content\":\"grün \\\"}\\\" 🚧\"},\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":3}}\n",
    "data: {\"choices\":[{\"delta\":{\"content\":\"half\"}}]}\n\ndata: {\"error\":{\"message\":\"died\",\"code\":500}}\n\n",
];

#[test]
fn a_stream_means_the_same_wherever_it_is_cut() {
    for stream in STREAMS {
        let bytes = stream.as_bytes();
        let whole = cut(bytes, &[]);
        for at in 0..=bytes.len() {
            assert_eq!(cut(bytes, &[at]), whole, "cut at {at}: {stream}");
        }
    }
}

proptest! {
    #[test]
    fn a_stream_means_the_same_in_any_pieces(
        which in 0..STREAMS.len(),
        cuts in proptest::collection::vec(0.0..=1.0_f64, 0..20),
    ) {
        let bytes = STREAMS[which].as_bytes();
        let mut cuts: Vec<_> = cuts.iter().map(|at| (at * bytes.len() as f64) as usize).collect();
        cuts.sort_unstable();
        prop_assert_eq!(cut(bytes, &cuts), cut(bytes, &[]));
    }
}
