//! Whether what came of a step is what was expected.

use bulkhead_terminal::words::{counted, duration, quoted};

use super::observed::{Emitted, End, Observed};
use super::script::{Event, Expected, Step};
use super::subset::is_subset;
use crate::author::crash;
use crate::author::fact::Thrown;
use crate::table::truncated;

/// Characters of a text that are shown.
const SHOWN_CHARS: usize = 2000;

/// Events that are shown.
const SHOWN_EVENTS: usize = 20;

/// What is not as it should be.
#[derive(Debug)]
pub(super) struct Problem {
    pub(super) expected: String,
    pub(super) came: String,
    /// What a script says where it is meant to be so.
    pub(super) write: Option<String>,
    /// What was thrown, and what happened to the agent then: for a page.
    pub(super) thrown: Option<(Box<Thrown>, String)>,
}

impl Problem {
    fn new(expected: impl Into<String>, came: impl Into<String>) -> Self {
        Self { expected: expected.into(), came: came.into(), write: None, thrown: None }
    }

    fn write(self, what: impl Into<String>) -> Self {
        Self { write: Some(what.into()), ..self }
    }

    fn thrown(self, thrown: Box<Thrown>, what: impl Into<String>) -> Self {
        Self { thrown: Some((thrown, what.into())), ..self }
    }
}

/// All that is wrong: the likely cause first.
pub(super) fn of(step: &Step, observed: Observed) -> Vec<Problem> {
    let Observed { end, events, events_lost, rejections, asked } = observed;
    let mut problems = Vec::new();
    if let Some(question) = &asked.unanswered {
        let answers = step.model.len();
        let expected =
            format!("no more questions to the model than `model` has answers: {answers}");
        let came = format!("the question {}", last_of(question));
        problems.push(Problem::new(expected, came).write("one more { text = \"...\" } in `model`"));
    }
    let rejections = rejected(step.rejection.as_deref(), rejections);
    let ending = ended(step, end);
    let is_as_expected = ending.is_none();
    problems.extend(ending);
    if is_as_expected {
        problems.extend(unasked(asked.left.len(), step.model.len()));
        problems.extend(asked_without(&step.asked, asked.last.as_deref()));
        problems.extend(missing(&step.events, &events, events_lost));
    }
    problems.extend(rejections);
    problems
}

fn ended(step: &Step, end: End) -> Option<Problem> {
    let is_expected = match (&step.end, &end) {
        (Expected::Success, End::Reply(_) | End::NoTurn) => true,
        (Expected::Reply(expected), End::Reply(reply)) => expected == reply,
        (Expected::Contains(parts), End::Reply(reply)) => {
            parts.iter().all(|part| reply.contains(part.as_str()))
        }
        (Expected::Error(expected), End::Failed { code, .. }) => expected == code,
        (Expected::Crash { what, at }, End::Ended { reason, thrown, .. }) => {
            is_crash(what, at.as_deref(), reason, thrown.as_deref())
        }
        _ => false,
    };
    if is_expected {
        return None;
    }
    let problem = Problem::new(expectation(step, &end), came(&end));
    Some(match end {
        End::Failed { code, .. } => problem.write(format!("error = {}", quoted(&code))),
        End::Ended { reason, thrown: None, .. } => {
            problem.write(format!("crash = {}", quoted(&reason)))
        }
        End::Ended { reason, thrown: Some(thrown), .. } => {
            let kind = thrown.exceptions.first().map_or(&reason, |it| &it.kind);
            let write = format!("crash = {}", quoted(kind));
            let what = crash::what(&thrown);
            problem.write(write).thrown(thrown, what)
        }
        End::Reply(_) | End::Refused(_) | End::Late(_) | End::NoTurn => problem,
    })
}

fn is_crash(what: &str, at: Option<&str>, reason: &str, thrown: Option<&Thrown>) -> bool {
    let kind = thrown.and_then(|it| it.exceptions.first()).map(|it| &*it.kind);
    let place = thrown.and_then(Thrown::place);
    // A column may be left out.
    let is_at = |at: &str| {
        let rest = place.as_deref().and_then(|place| place.strip_prefix(at));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
    };
    (what == reason || Some(what) == kind) && at.is_none_or(is_at)
}

fn expectation(step: &Step, end: &End) -> String {
    match &step.end {
        Expected::Success if step.restart && step.send.is_none() => "a restart".to_owned(),
        Expected::Success if step.send.is_none() => "a stop".to_owned(),
        Expected::Success => "a turn that succeeds".to_owned(),
        Expected::Reply(reply) => format!("the reply {}", shown(reply)),
        Expected::Contains(parts) => {
            let reply = match end {
                End::Reply(reply) => reply,
                _ => "",
            };
            let missing = parts.iter().filter(|part| !reply.contains(part.as_str()));
            let missing: Vec<_> = missing.map(|part| shown(part)).collect();
            format!("a reply with {}", missing.join(" and "))
        }
        Expected::Crash { what, at: None } => format!("a crash: {what}"),
        Expected::Crash { what, at: Some(at) } => format!("a crash: {what} at {at}"),
        Expected::Error(code) => format!("the error {code}"),
    }
}

fn came(end: &End) -> String {
    match end {
        End::Reply(reply) => format!("the reply {}", shown(reply)),
        End::Failed { code, message } => format!("the error {code}: {}", cut(message)),
        End::Ended { reason, message, thrown } => {
            let place = thrown.as_ref().and_then(|thrown| thrown.place());
            let place = place.map_or_else(String::new, |place| format!(" at {place}"));
            // The message of an exception begins with its kind.
            let is_exception = thrown.as_ref().is_some_and(|thrown| !thrown.exceptions.is_empty());
            let lead = if is_exception { String::new() } else { format!("{reason}: ") };
            format!("a crash: {lead}{}{place}", cut(message))
        }
        End::Refused(words) => words.clone(),
        End::Late(time) => format!("no end of the turn in {}", duration(*time)),
        End::NoTurn => "no turn".to_owned(),
    }
}

fn unasked(left: usize, answers: usize) -> Option<Problem> {
    if left == 0 {
        return None;
    }
    let expected = format!("as many questions to the model as `model` has answers: {answers}");
    let problem = Problem::new(expected, counted(answers - left, "question"));
    Some(match answers - left {
        0 => problem.write("`models = [\"default\"]` in the role: without it no model is asked"),
        _ => problem,
    })
}

fn asked_without(parts: &[String], last: Option<&str>) -> Option<Problem> {
    let text = last.unwrap_or_default();
    let missing = parts.iter().filter(|part| !text.contains(part.as_str()));
    let missing: Vec<_> = missing.map(|part| shown(part)).collect();
    let expected = format!("a question to the model with {}", missing.join(" and "));
    (!missing.is_empty()).then(|| Problem::new(expected, format!("the question {}", last_of(text))))
}

fn missing(expected: &[Event], events: &[Emitted], lost: bool) -> Option<Problem> {
    let mut left = events.iter();
    let missing = expected.iter().find(|event| !left.any(|found| is_event(event, found)))?;
    let data = missing.data.as_ref().map_or_else(String::new, |data| format!(" {data}"));
    let order = if expected.len() > 1 { ", in the order of `events`" } else { "" };
    Some(Problem::new(format!("the event {}{data}{order}", missing.name), listed(events, lost)))
}

fn listed(events: &[Emitted], lost: bool) -> String {
    let mut lines = Vec::new();
    if lost {
        lines.push("more than the host keeps; the last:".to_owned());
    }
    let skipped = events.len().saturating_sub(SHOWN_EVENTS);
    if skipped > 0 {
        lines.push(format!("{skipped} before"));
    }
    let shown = events.iter().skip(skipped);
    lines.extend(shown.map(|it| format!("{} {}", it.name, cut(&it.data.to_string()))));
    if lines.is_empty() { "no event".to_owned() } else { lines.join("\n") }
}

fn is_event(expected: &Event, found: &Emitted) -> bool {
    let has_data = || expected.data.as_ref().is_none_or(|data| is_subset(data, &found.data));
    expected.name == found.name && has_data()
}

fn rejected(expected: Option<&str>, rejections: Vec<Thrown>) -> Vec<Problem> {
    let is_expected = |it: &Thrown| expected == it.exceptions.first().map(|it| &*it.kind);
    let is_there = rejections.iter().any(is_expected);
    let others = rejections.into_iter().filter(|it| !is_expected(it));
    let mut problems: Vec<_> = others.map(unexpected).collect();
    if let (Some(expected), false) = (expected, is_there) {
        let came = if problems.is_empty() { "none" } else { "others" };
        problems.insert(0, Problem::new(format!("an unhandled rejection: {expected}"), came));
    }
    problems
}

fn unexpected(rejection: Thrown) -> Problem {
    let kind = rejection.exceptions.first().map_or("", |it| &it.kind);
    let write = format!("rejection = {}", quoted(kind));
    let came = format!("one: {}", cut(&rejection.message));
    let problem = Problem::new("no unhandled rejection", came).write(write);
    problem.thrown(Box::new(rejection), crash::REJECTED)
}

fn shown(text: &str) -> String {
    quoted(&cut(text))
}

fn cut(text: &str) -> String {
    truncated(text, SHOWN_CHARS)
}

/// The end of a conversation, which is what is new.
fn last_of(conversation: &str) -> String {
    let skipped = conversation.chars().count().saturating_sub(SHOWN_CHARS);
    let end: String = conversation.chars().skip(skipped).collect();
    let lead = if skipped > 0 { "… " } else { "" };
    format!("{lead}{}", quoted(&end))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::test::model::Asked;
    use crate::test::script;

    fn step(text: &str) -> Step {
        let script = script::parse(&format!("[[step]]\nsend = \"x\"\n{text}"));
        script.unwrap().steps.remove(0)
    }

    fn observed(end: End) -> Observed {
        let (events, rejections, asked) = (Vec::new(), Vec::new(), Asked::default());
        Observed { end, events, events_lost: false, rejections, asked }
    }

    fn reply(text: &str) -> Observed {
        observed(End::Reply(text.to_owned()))
    }

    fn thrown() -> Thrown {
        let json = r#"{"agentId":"a","role":"r","message":"no","phase":"handle","exceptions":[
            {"kind":"TypeError","message":"no","frames":[{"file":"agent.js","line":18,"column":3}]}]}"#;
        serde_json::from_str(json).unwrap()
    }

    fn crash(reason: &str, thrown: Option<Thrown>) -> Observed {
        let message = if thrown.is_some() { "TypeError: no" } else { "no" };
        let thrown = thrown.map(Box::new);
        observed(End::Ended { reason: reason.into(), message: message.into(), thrown })
    }

    /// `expected / came / write` of each problem.
    fn problems(text: &str, observed: Observed) -> Vec<String> {
        let line = |it: Problem| {
            let write = it.write.map_or_else(String::new, |write| format!(" / {write}"));
            format!("{} / {}{write}", it.expected, it.came)
        };
        of(&step(text), observed).into_iter().map(line).collect()
    }

    #[test]
    fn a_reply_is_the_same_or_has_all_parts() {
        for text in
            ["", "reply = \"a\\nb\"", "reply_contains = \"a\"", "reply_contains = [\"b\", \"a\"]"]
        {
            assert_eq!(problems(text, reply("a\nb")), Vec::<String>::new(), "{text}");
        }
        let came = r#"the reply "a\nb""#;
        assert_eq!(problems("reply = \"a\"", reply("a\nb")), [format!("the reply \"a\" / {came}")]);
        let missing = problems("reply_contains = [\"a\", \"c\"]", reply("a\nb"));
        assert_eq!(missing, [format!("a reply with \"c\" / {came}")]);
        assert_eq!(
            problems("reply = \"\"", reply("")),
            Vec::<String>::new(),
            "no reply is an empty one"
        );
    }

    #[test]
    fn a_crash_goes_by_kind_or_reason_and_by_place() {
        for text in [
            "crash = \"TypeError\"",
            "crash = \"exception\"",
            "crash = \"TypeError\"\ncrash_at = \"agent.js:18\"",
            "crash = \"TypeError\"\ncrash_at = \"agent.js:18:3\"",
        ] {
            assert_eq!(
                problems(text, crash("exception", Some(thrown()))),
                Vec::<String>::new(),
                "{text}"
            );
        }
        assert_eq!(
            problems("crash = \"cpu_deadline\"", crash("cpu_deadline", None)),
            Vec::<String>::new()
        );
        let text = "crash = \"TypeError\"\ncrash_at = \"agent.js:1\"";
        let expected = "a crash: TypeError at agent.js:1 / a crash: TypeError: no at agent.js:18:3 / crash = \"TypeError\"";
        assert_eq!(problems(text, crash("exception", Some(thrown()))), [expected]);
        let expected = "a turn that succeeds / a crash: TypeError: no at agent.js:18:3 / crash = \"TypeError\"";
        assert_eq!(problems("", crash("exception", Some(thrown()))), [expected]);
        let page = of(&step(""), crash("exception", Some(thrown()))).remove(0).thrown.unwrap();
        assert_eq!((&*page.0.exceptions[0].kind, &*page.1), ("TypeError", "crashed"));
        let expected =
            "a turn that succeeds / a crash: cpu_deadline: no / crash = \"cpu_deadline\"";
        assert_eq!(problems("", crash("cpu_deadline", None)), [expected]);
        assert_eq!(
            problems("crash = \"TypeError\"", reply("x")),
            ["a crash: TypeError / the reply \"x\""]
        );
    }

    #[test]
    fn an_error_goes_by_its_code() {
        let failed = || observed(End::Failed { code: "bad-prompt".into(), message: "no".into() });
        assert_eq!(problems("error = \"bad-prompt\"", failed()), Vec::<String>::new());
        let expected = "a turn that succeeds / the error bad-prompt: no / error = \"bad-prompt\"";
        assert_eq!(problems("", failed()), [expected]);
        assert_eq!(problems("error = \"x\"", reply("")), ["the error x / the reply \"\""]);
        let late = observed(End::Late(std::time::Duration::from_secs(60)));
        assert_eq!(problems("", late), ["a turn that succeeds / no end of the turn in 1 min"]);
    }

    #[test]
    fn events_come_in_the_order_of_the_script_and_others_between_them() {
        let events = || {
            let event =
                |name: &str, n: u64| Emitted { name: name.into(), data: json!({"n": n, "m": 0}) };
            Observed { events: vec![event("a", 1), event("b", 2), event("a", 3)], ..reply("") }
        };
        for text in ["[{ name = \"a\" }, { name = \"a\" }]", "[{ name = \"a\", data = { n = 3 } }]"]
        {
            assert_eq!(
                problems(&format!("events = {text}"), events()),
                Vec::<String>::new(),
                "{text}"
            );
        }
        let text = "events = [{ name = \"b\" }, { name = \"a\", data = { n = 1 } }]";
        let all = "a {\"m\":0,\"n\":1}\nb {\"m\":0,\"n\":2}\na {\"m\":0,\"n\":3}";
        let expected = format!("the event a {{\"n\":1}}, in the order of `events` / {all}");
        assert_eq!(problems(text, events()), [expected]);
        assert_eq!(problems("events = [{ name = \"a\" }]", reply("")), ["the event a / no event"]);
        let lost = Observed { events_lost: true, ..reply("") };
        let expected = "the event a / more than the host keeps; the last:";
        assert_eq!(problems("events = [{ name = \"a\" }]", lost), [expected]);
    }

    #[test]
    fn the_model_is_asked_as_often_as_it_has_answers() {
        let asked = |left: usize, unanswered: Option<&str>| {
            let left = std::iter::repeat_n(script::Answer::Status(500), left).collect();
            let unanswered = unanswered.map(str::to_owned);
            Observed {
                asked: Asked { left, last: Some("be brief\nbread".into()), unanswered },
                ..reply("")
            }
        };
        let text = "model = [{ text = \"x\" }, { text = \"y\" }]\nasked_contains = \"bread\"";
        assert_eq!(problems(text, asked(0, None)), Vec::<String>::new());
        let expected = "as many questions to the model as `model` has answers: 2 / 1 question";
        assert_eq!(problems(text, asked(1, None)), [expected]);
        let write = problems(text, asked(2, None));
        assert!(
            write[0].contains("/ 0 questions / `models = [\"default\"]` in the role"),
            "{write:?}"
        );
        let text = "model = [{ text = \"x\" }]\nasked_contains = [\"bread\", \"wine\"]";
        let expected = r#"a question to the model with "wine" / the question "be brief\nbread""#;
        assert_eq!(problems(text, asked(0, None)), [expected]);
        let failed = observed(End::Failed { code: "model-refused".into(), message: "no".into() });
        let failed = Observed { asked: asked(0, Some("hello")).asked, ..failed };
        let both = problems("", failed);
        let expected = "no more questions to the model than `model` has answers: 0 / the question \"hello\" / one more { text = \"...\" } in `model`";
        assert_eq!((both.len(), &*both[0]), (2, expected), "the cause comes first");
    }

    #[test]
    fn rejections_are_expected_by_their_kind() {
        let rejections = |number: usize| {
            let rejections = std::iter::repeat_with(thrown).take(number).collect();
            Observed { rejections, ..reply("") }
        };
        assert_eq!(problems("rejection = \"TypeError\"", rejections(2)), Vec::<String>::new());
        let expected = "an unhandled rejection: TypeError / none";
        assert_eq!(problems("rejection = \"TypeError\"", rejections(0)), [expected]);
        let expected = "no unhandled rejection / one: no / rejection = \"TypeError\"";
        assert_eq!(problems("", rejections(1)), [expected]);
        assert_eq!(problems("rejection = \"KeyError\"", rejections(1)).len(), 2);
    }
}
