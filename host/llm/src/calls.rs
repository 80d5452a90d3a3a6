//! The tool calls of an answer, assembled from their pieces.
//!
//! A piece names its call by an index, by an id, by both, or by neither. Servers leave either out, give all calls the
//! index 0, repeat id and name in every piece, or bring each call whole.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use serde_json::{Map, Value};

use crate::ToolCall;
use crate::brackets::Brackets;
use crate::problem::Problem;

/// More calls than this in one answer are a mistake of the model or of its server.
const MAX_TOOL_CALLS: usize = 64;

/// The calls so far, in the order in which they began.
#[derive(Debug, Default)]
pub(crate) struct Calls(Vec<Call>);

#[derive(Debug, Default)]
struct Call {
    id: String,
    index: Option<u64>,
    name: String,
    arguments: String,
    /// They came as a value and not as text, before pieces of text if there are some.
    is_value: bool,
    extent: Extent,
    /// A field that some servers want back.
    extra_content: Option<Value>,
    extra_bytes: usize,
}

/// How far the arguments are, known without reading them again for each piece.
#[derive(Debug, Default)]
struct Extent {
    brackets: Brackets,
    /// They are what they were when their brackets closed.
    is_closed: bool,
    /// They closed, went on, and are no object any more.
    is_broken: bool,
    /// Bytes that are no blanks.
    solid_bytes: usize,
    /// Whether what closed is an object.
    is_object: OnceLock<bool>,
}

impl Extent {
    fn add(&mut self, part: &str) {
        for byte in part.bytes() {
            let is_blank = byte.is_ascii_whitespace();
            self.solid_bytes += usize::from(!is_blank);
            self.is_broken |= self.is_closed && !is_blank;
            self.is_closed |= self.brackets.ends_value(byte);
        }
    }

    /// Nothing but blanks follows what closed.
    fn is_whole(&self) -> bool {
        self.is_closed && !self.is_broken
    }

    /// Nothing is there yet that the whole could not replace.
    fn is_bare(&self) -> bool {
        self.solid_bytes == 0 || self.is_placeholder()
    }

    /// `{}`, or `[]`.
    fn is_placeholder(&self) -> bool {
        self.is_whole() && self.solid_bytes == 2
    }
}

/// A piece as it came. An empty text is none.
struct Piece<'a> {
    id: &'a str,
    index: Option<u64>,
    name: &'a str,
    arguments: Arguments<'a>,
    extra_content: Option<&'a Value>,
}

enum Arguments<'a> {
    /// The next part of the text.
    Part(&'a str),
    /// All of them, not as text.
    Whole(&'a Value),
}

impl Calls {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What their texts take.
    pub(crate) fn bytes(&self) -> u64 {
        let of =
            |call: &Call| call.id.len() + call.name.len() + call.arguments.len() + call.extra_bytes;
        self.0.iter().map(of).sum::<usize>() as u64
    }

    /// Takes a piece.
    pub(crate) fn piece(&mut self, json: &Value) -> Result<(), Problem> {
        if !json.is_object() {
            return Ok(());
        }
        let piece = Piece::of(json);
        let at = self.of(&piece).unwrap_or(self.0.len());
        if at >= MAX_TOOL_CALLS {
            return Err(Problem::Malformed(format!("more than {MAX_TOOL_CALLS} tool calls")));
        }
        if at == self.0.len() {
            self.0.push(Call::default());
        }
        self.0[at].take(&piece);
        Ok(())
    }

    /// Which call a piece goes on with; none: it begins one.
    fn of(&self, piece: &Piece<'_>) -> Option<usize> {
        let at_index = |call: &&Call| piece.index.is_none_or(|index| call.index == Some(index));
        let latest = self.0.iter().rposition(|call| at_index(&call))?;
        if piece.id.is_empty() {
            return (!self.0[latest].is_followed_by(piece)).then_some(latest);
        }
        let known = self.0.iter().rposition(|call| {
            call.id == piece.id
                && (call.index.is_none() || piece.index.is_none() || call.index == piece.index)
        });
        // One that names itself only now, or a server that gives every piece an id of its own.
        let goes_on = || {
            let call = &self.0[latest];
            let is_unnamed = call.id.is_empty() && !call.is_followed_by(piece);
            let is_same = piece.index.is_some() && piece.name.is_empty();
            (is_unnamed || is_same).then_some(latest)
        };
        known.or_else(goes_on)
    }

    /// The calls that have a name. Of an answer that was `cut`, only those whose arguments are whole: the model did not
    /// come to say the rest. With them, by id, what the server wants back.
    pub(crate) fn finish(self, cut: bool) -> (Vec<ToolCall>, BTreeMap<String, Value>) {
        let mut finished: Vec<ToolCall> = Vec::new();
        let mut extra_content = BTreeMap::new();
        for call in self.0 {
            let is_whole = || call.is_whole();
            if call.name.is_empty() || (cut && !is_whole()) {
                continue;
            }
            let at = finished.len();
            let mut id = call.id;
            if id.is_empty() {
                id = made_up();
            }
            // A result names its call by the id alone.
            while finished.iter().any(|other| other.id == id) {
                id = format!("{id}_{at}");
            }
            if let Some(extra) = call.extra_content {
                extra_content.insert(id.clone(), extra);
            }
            finished.push(ToolCall { id, name: call.name, arguments: call.arguments });
        }
        (finished, extra_content)
    }
}

/// An id that no other answer of a conversation has. Mistral takes exactly so many letters and digits.
fn made_up() -> String {
    "call".chars().chain(std::iter::repeat_with(fastrand::alphanumeric).take(5)).collect()
}

impl Call {
    /// Whether a piece that names neither it nor another is the beginning of the next.
    fn is_followed_by(&self, piece: &Piece<'_>) -> bool {
        let is_other = !piece.name.is_empty()
            && !self.name.is_empty()
            && piece.name != self.name
            && !self.is_named_further(piece);
        // Each call comes whole: what begins after a whole one is another.
        let begins = match piece.arguments {
            Arguments::Part(part) => part.trim_start().starts_with('{'),
            Arguments::Whole(_) => true,
        };
        is_other || (!piece.name.is_empty() && begins && self.is_whole())
    }

    /// Whether a piece has more of the name. It has the call's index, no id of its own, and comes before arguments.
    fn is_named_further(&self, piece: &Piece<'_>) -> bool {
        piece.index.is_some()
            && piece.id.is_empty()
            && !self.id.is_empty()
            && self.arguments.is_empty()
    }

    /// Whether a part replaces the arguments that are there: they were whole, and it begins them again.
    fn is_replaced_by(&self, part: &str) -> bool {
        let part = part.trim_start();
        let is_placeholder = self.extent.is_placeholder();
        !part.is_empty() && (self.is_value || is_placeholder && part.starts_with('{'))
    }

    /// Whether a part is what is there already, the whole after its pieces.
    fn is_repeated_by(&self, part: &str) -> bool {
        let object = |text: &str| serde_json::from_str::<Map<String, Value>>(text).ok();
        self.extent.is_whole()
            && part.trim_start().starts_with('{')
            && object(part).is_some_and(|whole| object(&self.arguments) == Some(whole))
    }

    /// Whether its arguments are an object.
    fn is_whole(&self) -> bool {
        let is_object = || is_object(&self.arguments);
        self.extent.is_whole() && *self.extent.is_object.get_or_init(is_object)
    }

    fn take(&mut self, piece: &Piece<'_>) {
        // What is repeated in each piece replaces nothing and adds nothing.
        if self.id.is_empty() {
            piece.id.clone_into(&mut self.id);
        }
        if self.name.is_empty() {
            piece.name.clone_into(&mut self.name);
        } else if self.arguments.is_empty() && piece.name != self.name {
            match piece.name.strip_prefix(&*self.name) {
                // All of it so far.
                Some(more) => self.name += more,
                None if self.is_named_further(piece) => self.name += piece.name,
                None => {}
            }
        }
        self.index = self.index.or(piece.index);
        if let Some(extra) = piece.extra_content {
            self.extra_bytes = extra.to_string().len();
            self.extra_content = Some(extra.clone());
        }
        match piece.arguments {
            Arguments::Part(part) if self.is_repeated_by(part) => {
                // The shorter one stays, so that no repetition reads more than what came since.
                if part.len() < self.arguments.len() {
                    part.clone_into(&mut self.arguments);
                }
            }
            Arguments::Part(part) => {
                if self.is_replaced_by(part) {
                    (self.arguments, self.extent) = Default::default();
                    self.is_value = false;
                }
                self.arguments += part;
                self.extent.add(part);
            }
            Arguments::Whole(value) if self.extent.is_bare() => {
                self.is_value = true;
                self.arguments = value.to_string();
                self.extent = Extent::default();
                self.extent.add(&self.arguments);
            }
            Arguments::Whole(_) => {}
        }
    }
}

impl<'a> Piece<'a> {
    fn of(json: &'a Value) -> Self {
        let function = if json["function"].is_object() { &json["function"] } else { json };
        let text = |value: &'a Value| value.as_str().unwrap_or_default();
        let index = match &json["index"] {
            Value::String(text) => text.trim().parse().ok(),
            index => index.as_u64(),
        };
        let arguments = match &function["arguments"] {
            Value::String(part) => Arguments::Part(part),
            whole @ (Value::Object(_) | Value::Array(_)) => Arguments::Whole(whole),
            _ => Arguments::Part(""),
        };
        let extra_content = Some(&json["extra_content"]).filter(|extra| extra.is_object());
        Self {
            id: text(&json["id"]),
            index,
            name: text(&function["name"]),
            arguments,
            extra_content,
        }
    }
}

fn is_object(arguments: &str) -> bool {
    serde_json::from_str::<Map<String, Value>>(arguments).is_ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn calls(pieces: &[Value]) -> Vec<(String, String, String)> {
        let mut calls = Calls::default();
        pieces.iter().for_each(|piece| calls.piece(piece).unwrap());
        let finished = calls.finish(false).0.into_iter().enumerate();
        let id = |at: usize, id: String| match is_made_up(&id) {
            true => format!("made up {at}"),
            false => id,
        };
        finished.map(|(at, call)| (id(at, call.id), call.name, call.arguments)).collect()
    }

    fn is_made_up(id: &str) -> bool {
        id.len() == 9 && id.starts_with("call") && id.bytes().all(|it| it.is_ascii_alphanumeric())
    }

    fn is(pieces: &[Value], expected: &[(&str, &str, &str)]) {
        let found = calls(pieces);
        let found: Vec<_> = found
            .iter()
            .map(|(id, name, arguments)| (id.as_str(), name.as_str(), arguments.as_str()))
            .collect();
        assert_eq!(found, expected, "{pieces:?}");
    }

    fn function(name: &str, arguments: &str) -> Value {
        json!({"name": name, "arguments": arguments})
    }

    #[test]
    fn interleaved_calls_are_told_apart_by_index() {
        let pieces = [
            json!({"index": 0, "id": "a", "function": {"name": "read"}}),
            json!({"index": 1, "id": "b", "function": function("list", "{")}),
            json!({"index": 0, "function": {"arguments": "{\"path\":"}}),
            json!({"index": 1, "function": {"name": null, "arguments": "}"}}),
            json!({"index": "0", "id": null, "function": {"arguments": "\"x\"}"}}),
        ];
        is(&pieces, &[("a", "read", "{\"path\":\"x\"}"), ("b", "list", "{}")]);
    }

    #[test]
    fn calls_without_index_are_told_apart_by_id() {
        let pieces = [
            json!({"id": "a", "function": function("read", "{")}),
            json!({"function": {"arguments": "}"}}),
            json!({"id": "b", "function": function("list", "{")}),
            json!({"id": "a", "function": {"arguments": " "}}),
            json!({"id": "b", "function": {"arguments": "}"}}),
        ];
        is(&pieces, &[("a", "read", "{} "), ("b", "list", "{}")]);
    }

    #[test]
    fn one_index_for_all_is_told_apart_by_id_and_one_id_for_all_by_index() {
        let of = |id: &str, index: u64| json!({"id": id, "index": index, "function": function("read", "{}")});
        is(&[of("a", 0), of("b", 0)], &[("a", "read", "{}"), ("b", "read", "{}")]);
        is(&[of("a", 0), of("a", 1)], &[("a", "read", "{}"), ("a_1", "read", "{}")]);
        // A server that counts from somewhere else.
        is(&[of("a", 7), of("b", 1_000_000)], &[("a", "read", "{}"), ("b", "read", "{}")]);
    }

    #[test]
    fn an_id_that_is_made_up_is_not_that_of_another_call() {
        let of = |id: &str, index: u64| json!({"id": id, "index": index, "function": function("read", "{}")});
        let (first, third) = (of("call_1", 0), of("call_1_2", 1));
        is(&[first.clone(), of("", 1)], &[("call_1", "read", "{}"), ("made up 1", "read", "{}")]);
        is(
            &[first, third, of("call_1", 2)],
            &[("call_1", "read", "{}"), ("call_1_2", "read", "{}"), ("call_1_2_2", "read", "{}")],
        );
    }

    #[test]
    fn an_id_that_is_made_up_is_not_that_of_another_answer() {
        let id = || {
            let mut calls = Calls::default();
            calls.piece(&function("read", "{}")).unwrap();
            calls.finish(false).0.remove(0).id
        };
        let (one, other) = (id(), id());
        assert!(is_made_up(&one) && one != other, "{one} {other}");
    }

    #[test]
    fn whole_calls_need_neither() {
        for id in [json!(null), json!("")] {
            let of = |text: &str| json!({"id": id, "function": function("read", text)});
            is(
                &[of("{\"n\":1}"), of("{\"n\":2}")],
                &[("made up 0", "read", "{\"n\":1}"), ("made up 1", "read", "{\"n\":2}")],
            );
            let of = |text: &str| json!({"id": id, "index": 0, "function": function("read", text)});
            assert_eq!(calls(&[of("{}"), of("{}")]).len(), 2);
        }
        is(
            &[function("read", ""), function("list", "{}")],
            &[("made up 0", "read", ""), ("made up 1", "list", "{}")],
        );
    }

    #[test]
    fn a_repeated_name_or_a_changing_id_is_the_same_call() {
        let piece = |text: &str| json!({"function": function("list", text)});
        is(&[piece(""), piece("{"), piece("}"), piece("")], &[("made up 0", "list", "{}")]);
        let pieces = [
            json!({"index": 0, "id": "x1", "function": function("list", "{")}),
            json!({"index": 0, "id": "x2", "function": {"arguments": "}"}}),
        ];
        is(&pieces, &[("x1", "list", "{}")]);
    }

    #[test]
    fn arguments_may_be_an_object() {
        let piece = json!({"index": 0, "function": {"name": "read", "arguments": {"path": "x"}}});
        is(std::slice::from_ref(&piece), &[("made up 0", "read", "{\"path\":\"x\"}")]);
        assert!(calls(&[json!({"function": {"arguments": "{}"}}), json!(7)]).is_empty());
    }

    #[test]
    fn arguments_that_come_again_count_once() {
        let piece = |text: &str| json!({"index": 0, "function": {"arguments": text}});
        let begins = |arguments: Value| {
            let function = json!({"name": "read", "arguments": arguments});
            json!({"index": 0, "id": "a", "function": function})
        };
        let whole = "{\"path\":\"x\"}";
        for pieces in [
            // A placeholder, and then the whole.
            vec![begins(json!("{}")), piece(whole)],
            vec![begins(json!({})), piece("{\"path\":"), piece("\"x\"}")],
            vec![begins(json!({"path": "x"})), piece("{\"path\":"), piece("\"x\"}")],
            vec![begins(json!("{}")), begins(json!({"path": "x"}))],
            vec![begins(json!({})), begins(json!({"path": "x"})), begins(json!({"path": "x"}))],
            vec![begins(json!("{ }")), begins(json!({"path": "x"}))],
            vec![begins(json!([])), begins(json!({"path": "x"}))],
            vec![begins(json!(" ")), begins(json!({"path": "x"}))],
            // The pieces, and then the whole.
            vec![begins(json!("{\"path\":")), piece("\"x\"}"), piece("{ \"path\": \"x\" }")],
            vec![begins(json!("{\"path\":")), piece("\"x\"}"), begins(json!(whole))],
            vec![begins(json!({"path": "x"})), begins(json!({"path": "x"})), piece("")],
        ] {
            is(&pieces, &[("a", "read", whole)]);
        }
    }

    #[test]
    fn a_name_may_come_in_pieces() {
        let piece = |id: Value, name: &str, text: &str| json!({"index": 0, "id": id, "function": function(name, text)});
        let (a, none) = (json!("a"), Value::Null);
        for pieces in [
            [
                piece(a.clone(), "re", ""),
                piece(none.clone(), "ad", ""),
                piece(none.clone(), "", "{}"),
            ],
            [piece(a.clone(), "re", ""), piece(none.clone(), "ad", "{"), piece(none, "", "}")],
            [piece(a.clone(), "re", ""), piece(a.clone(), "read", ""), piece(a, "read", "{}")],
        ] {
            is(&pieces, &[("a", "read", "{}")]);
        }
    }

    #[test]
    fn what_the_model_did_not_come_to_say_is_not_done() {
        let mut cut = Calls::default();
        for (at, text) in ["{}", "", "{\"path\":"].into_iter().enumerate() {
            cut.piece(&json!({"index": at, "function": function("read", text)})).unwrap();
        }
        assert_eq!(cut.finish(true).0.len(), 1);
    }

    #[test]
    fn the_number_of_calls_is_bounded() {
        let mut calls = Calls::default();
        let mut piece =
            |index: usize| calls.piece(&json!({"index": index, "id": format!("{index}")}));
        (0..MAX_TOOL_CALLS).for_each(|index| piece(index).unwrap());
        assert!(matches!(piece(MAX_TOOL_CALLS), Err(Problem::Malformed(_))));
    }
}
