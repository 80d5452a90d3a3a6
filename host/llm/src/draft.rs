//! An answer that is being received: the parts that nobody took yet, and what its end will need.

use std::borrow::Cow;
use std::collections::VecDeque;

use serde_json::Value;

use crate::calls::Calls;
use crate::halves::Halves;
use crate::problem::{Problem, number};
use crate::reasoning::Collected;
use crate::{End, Finish, Part, Usage};

/// Words that keep a connection busy.
const BEATS: [&str; 7] = ["", "null", "ping", "pong", "keepalive", "keep-alive", "heartbeat"];

/// Of words that are no part of an answer.
const STRANGE_CHARS: usize = 200;

/// An answer that is being received.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    parts: VecDeque<Part>,
    text: Digest,
    has_reasoning: bool,
    /// What the server wants back.
    pub(crate) reasoned: Collected,
    /// What the model says in place of an answer.
    refusal: String,
    calls: Calls,
    halves: Halves,
    /// The choice that counts: only one is ever asked for.
    choice: Option<u64>,
    reason: Option<String>,
    counts: Counts,
    is_complete: bool,
    /// How often something was said.
    said: u64,
    /// What came last and is no part of an answer.
    strange: Option<String>,
    /// Something stood beside a finish reason, as at servers that give each chunk one.
    is_said_beside: bool,
    /// Something was said after a finish reason, which ended nothing.
    is_said_after: bool,
}

impl Draft {
    /// The parts that were received and not taken. Adjacent text is one part, and so is adjacent reasoning.
    pub(crate) fn parts(&mut self) -> &mut VecDeque<Part> {
        &mut self.parts
    }

    /// Whether there are some.
    pub(crate) fn has_parts(&self) -> bool {
        !self.parts.is_empty()
    }

    pub(crate) fn add_text(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        self.saying();
        self.text.add(text);
        match self.parts.back_mut() {
            Some(Part::Text(last)) => last.push_str(text),
            _ => self.parts.push_back(Part::Text(text.to_owned())),
        }
    }

    pub(crate) fn add_reasoning(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        self.saying();
        self.has_reasoning = true;
        match self.parts.back_mut() {
            Some(Part::Reasoning(last)) => last.push_str(text),
            _ => self.parts.push_back(Part::Reasoning(text.to_owned())),
        }
    }

    pub(crate) fn add_refusal(&mut self, text: &str) {
        if !text.is_empty() {
            self.saying();
            self.refusal += text;
        }
    }

    fn saying(&mut self) {
        self.said += 1;
        self.is_said_after |= self.reason.is_some();
        self.strange = None;
    }

    /// Takes what is no part of an answer. It counts where the answer ends after it, and without a reason.
    pub(crate) fn note(&mut self, words: &str) {
        let words = words.trim();
        let beat = words.trim_matches('"').to_ascii_lowercase();
        if self.strange.is_none() && !BEATS.contains(&beat.as_str()) {
            self.strange = Some(words.chars().take(STRANGE_CHARS).collect());
        }
    }

    /// How often something was said so far.
    pub(crate) fn said(&self) -> u64 {
        self.said
    }

    /// What was said since then has a finish reason beside it.
    pub(crate) fn said_beside_reason(&mut self, since: u64) {
        self.is_said_beside |= self.reason.is_some() && self.said > since;
    }

    /// More may follow the finish reason.
    pub(crate) fn may_go_on(&self) -> bool {
        self.is_said_beside || self.is_said_after
    }

    /// More followed the finish reason, so that a reason is no end.
    pub(crate) fn goes_on(&self) -> bool {
        self.is_said_after
    }

    /// Whether the choice with this index counts: the one that came first does.
    pub(crate) fn takes_choice(&mut self, index: u64) -> bool {
        *self.choice.get_or_insert(index) == index
    }

    /// Takes a piece of a tool call.
    pub(crate) fn add_call(&mut self, piece: &Value) -> Result<(), Problem> {
        if piece.is_object() {
            self.saying();
        }
        self.calls.piece(piece)
    }

    /// Takes the usage, as far as there is any.
    pub(crate) fn count(&mut self, usage: &Value) {
        self.counts.take(usage);
    }

    /// Takes the finish reason, if it is one.
    pub(crate) fn end(&mut self, reason: &Value) -> Result<(), Problem> {
        let reason = reason.as_str().map(str::trim).unwrap_or_default();
        if reason == "error" {
            return Err(Problem::Reported("the answer ends with an error".into(), None));
        }
        let is_cut = |reason: &str| cut_by(reason).is_some();
        // One that says that something is missing stays.
        let stays = self.reason.as_deref().is_some_and(is_cut) && !is_cut(reason);
        if !stays && !matches!(reason, "" | "null" | "none") {
            self.reason = Some(reason.to_owned());
        }
        Ok(())
    }

    /// The end of what was sent is the end of the answer.
    pub(crate) fn complete(&mut self) {
        self.is_complete = true;
    }

    /// Nothing that could still come belongs to the answer.
    pub(crate) fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// There is an answer; the usage may still come.
    pub(crate) fn is_answered(&self) -> bool {
        self.is_complete || self.reason.is_some()
    }

    /// Something of the answer is here.
    pub(crate) fn has_begun(&self) -> bool {
        !self.text.is_empty() || self.has_reasoning || !self.calls.is_empty() || self.is_answered()
    }

    /// What takes room until the end: tool calls, and what the server wants back.
    pub(crate) fn unfinished_bytes(&self) -> u64 {
        self.calls.bytes() + self.reasoned.bytes()
    }

    /// Whether exactly this text was received so far.
    pub(crate) fn has_text(&self, text: &str) -> bool {
        self.text == Digest::of(text)
    }

    /// What the server counted so far.
    pub(crate) fn usage(&self) -> Option<Usage> {
        self.counts.usage()
    }

    /// Why the model ended the answer, if it said so.
    pub(crate) fn ended_by(&self) -> Option<Finish> {
        self.reason.as_deref().map(finish_of)
    }

    /// Puts the halves of characters together that stand in two chunks.
    pub(crate) fn mend<'a>(&mut self, json: &'a str) -> Result<Cow<'a, str>, Problem> {
        self.halves.mend(json)
    }

    /// Ends the answer: its tool calls become parts. An answer without text and calls is one if the model
    /// `may_be_silent`.
    pub(crate) fn finish(&mut self, may_be_silent: bool) -> Result<End, Problem> {
        if self.reason.is_none()
            && let Some(words) = self.strange.take()
        {
            return Err(Problem::CutAfter(words));
        }
        if !self.is_answered() {
            return Err(Problem::CutOff);
        }
        let reason = self.reason.as_deref();
        let cut = reason.and_then(cut_by);
        if cut.is_none() {
            self.halves.finish()?;
        }
        let (calls, extra_content) = std::mem::take(&mut self.calls).finish(cut.is_some());
        if self.text.is_empty() {
            let refusal = std::mem::take(&mut self.refusal);
            self.add_text(&refusal);
        }
        let reason = self.reason.as_deref().unwrap_or("none");
        if self.text.is_empty() && calls.is_empty() {
            let is_over = matches!(finish_of(reason), Finish::Stop);
            if !may_be_silent || !is_over {
                let cut = cut.map_or_else(String::new, |by| format!("; {by}"));
                let text = format!("empty answer, finish reason: {reason}{cut}");
                return Err(Problem::Malformed(text));
            }
        }
        let finish = match finish_of(reason) {
            // Some servers end every answer with `stop`, or with nothing.
            Finish::Stop | Finish::Other if !calls.is_empty() && cut.is_none() => Finish::ToolCalls,
            Finish::ToolCalls if calls.is_empty() => Finish::Stop,
            Finish::Other if self.reason.is_none() => Finish::Stop,
            finish => finish,
        };
        self.parts.extend(calls.into_iter().map(Part::ToolCall));
        let reasoned = std::mem::take(&mut self.reasoned);
        let reasoning_state = reasoned.finish(extra_content, cut.is_some());
        Ok(End { finish, usage: self.usage(), reasoning_state })
    }
}

fn finish_of(reason: &str) -> Finish {
    match reason.to_ascii_lowercase().as_str() {
        "stop" | "end_turn" | "eos" | "stop_sequence" | "eos_token" | "complete" => Finish::Stop,
        "tool_calls" | "tool_use" | "function_call" | "tool_call" => Finish::ToolCalls,
        "length" | "max_tokens" | "max_output_tokens" | "model_length" | "token_limit"
        | "incomplete" => Finish::Length,
        "model_context_window_exceeded" | "context_length_exceeded" => Finish::Length,
        "content_filter" | "safety" | "recitation" | "sensitive" | "refusal" => {
            Finish::ContentFilter
        }
        _ => Finish::Other,
    }
}

/// What ended an answer before its end, if something did.
fn cut_by(reason: &str) -> Option<&'static str> {
    match finish_of(reason) {
        Finish::Length if reason.to_ascii_lowercase().contains("context") => {
            Some("truncated: the conversation fills the model's context")
        }
        Finish::Length => Some("truncated: the model reached its length limit"),
        Finish::ContentFilter => Some("truncated: a content filter stopped the model"),
        Finish::Other if is_broken_off(reason) => Some("truncated: the server broke it off"),
        _ => None,
    }
}

/// What DeepSeek, vLLM and others say of an answer that they did not let come to its end.
fn is_broken_off(reason: &str) -> bool {
    let reason = reason.to_ascii_lowercase();
    ["insufficient_system_resource", "abort", "cancel", "interrupt"]
        .iter()
        .any(|name| reason.contains(name))
}

/// Length and FNV-1a hash of a text, so that the text need not be kept to be recognized.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Digest {
    bytes: usize,
    hash: u64,
}

impl Default for Digest {
    fn default() -> Self {
        Self { bytes: 0, hash: 0xcbf2_9ce4_8422_2325 }
    }
}

impl Digest {
    fn of(text: &str) -> Self {
        let mut digest = Self::default();
        digest.add(text);
        digest
    }

    fn add(&mut self, text: &str) {
        self.bytes += text.len();
        for byte in text.bytes() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    fn is_empty(&self) -> bool {
        self.bytes == 0
    }
}

/// Counts as servers name them. A later one replaces an earlier one; zero replaces none.
#[derive(Debug, Default)]
struct Counts {
    /// With all that a cache holds (OpenAI).
    prompt: Option<u64>,
    /// Without what a cache holds (Anthropic), or with it (OpenAI's newer name).
    input: Option<u64>,
    cache_read: Option<u64>,
    cache_written: Option<u64>,
    cached: Option<u64>,
    output: Option<u64>,
    reasoning: Option<u64>,
    total: Option<u64>,
}

/// More than this is not written beside what is counted as output: the total means something else.
const MAX_UNCOUNTED: u64 = 1 << 20;

impl Counts {
    fn take(&mut self, usage: &Value) {
        let details = |names: [&str; 2], count: &str| {
            names.into_iter().find_map(|name| number(&usage[name], &[count]))
        };
        let cached = || details(["prompt_tokens_details", "input_tokens_details"], "cached_tokens");
        let reasoning =
            details(["completion_tokens_details", "output_tokens_details"], "reasoning_tokens");
        let prompt = number(usage, &["prompt_tokens"]);
        let input = number(usage, &["input_tokens"]);
        let output = number(usage, &["completion_tokens", "output_tokens"]);
        for (field, count) in [
            (&mut self.prompt, prompt),
            (&mut self.input, input),
            (&mut self.cache_read, number(usage, &["cache_read_input_tokens"])),
            (&mut self.cache_written, number(usage, &["cache_creation_input_tokens"])),
            (
                &mut self.cached,
                cached().or_else(|| number(usage, &["prompt_cache_hit_tokens", "cached_tokens"])),
            ),
            (&mut self.output, output),
            (&mut self.reasoning, reasoning),
            (&mut self.total, number(usage, &["total_tokens"])),
        ] {
            *field = count.filter(|count| *count > 0).or(*field).or(count);
        }
    }

    fn usage(&self) -> Option<Usage> {
        let is_known = self.prompt.or(self.input).or(self.output).is_some();
        let cached = self.cached.or(self.cache_read).unwrap_or(0);
        let input = match self.prompt {
            Some(all) => all,
            None => [self.input, self.cache_read, self.cache_written]
                .into_iter()
                .fold(0, |sum: u64, count| sum.saturating_add(count.unwrap_or(0))),
        };
        let reasoning = self.reasoning.unwrap_or(0);
        let output = self.output_with(reasoning);
        is_known.then_some(Usage { input, cached, output, reasoning })
    }

    /// All that was written. xAI and Gemini count reasoning in the total alone.
    fn output_with(&self, reasoning: u64) -> u64 {
        let output = self.output.unwrap_or(0);
        let counted = |prompt: u64| prompt.checked_add(output);
        let rest = self.prompt.and_then(|prompt| self.total?.checked_sub(counted(prompt)?));
        // A prompt without its cached part leaves that part in the rest.
        let caches = [self.cached, self.cache_read, self.cache_written];
        let has_cache = caches.into_iter().flatten().any(|count| count > 0);
        let is_written = |rest: u64| match reasoning {
            0 => !has_cache && rest <= MAX_UNCOUNTED,
            _ => rest == reasoning,
        };
        let all = output.saturating_add(rest.filter(|rest| is_written(*rest)).unwrap_or(0));
        if reasoning > all { all.saturating_add(reasoning) } else { all }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn usage(counts: &[Value]) -> Option<Usage> {
        let mut draft = Draft::default();
        counts.iter().for_each(|usage| draft.count(usage));
        draft.usage()
    }

    #[test]
    fn cached_tokens_are_part_of_the_input() {
        let expected = Some(Usage { input: 10, cached: 4, output: 7, reasoning: 3 });
        for counts in [
            json!({"prompt_tokens": 10, "completion_tokens": 7,
                   "prompt_tokens_details": {"cached_tokens": 4},
                   "completion_tokens_details": {"reasoning_tokens": 3}}),
            json!({"input_tokens": 10, "output_tokens": 7,
                   "input_tokens_details": {"cached_tokens": 4},
                   "output_tokens_details": {"reasoning_tokens": 3}}),
            // A gateway that adds the other dialect's counts.
            json!({"prompt_tokens": 10, "completion_tokens": 7, "cache_read_input_tokens": 4,
                   "completion_tokens_details": {"reasoning_tokens": 3}}),
        ] {
            assert_eq!(usage(std::slice::from_ref(&counts)), expected, "{counts}");
        }
        let begin = json!({"input_tokens": 5, "cache_creation_input_tokens": 1,
                           "cache_read_input_tokens": 4, "output_tokens": 1});
        let end = json!({"output_tokens": 7});
        let expected = Some(Usage { input: 10, cached: 4, output: 7, reasoning: 0 });
        assert_eq!(usage(&[begin, end]), expected);
    }

    #[test]
    fn reasoning_is_part_of_the_output() {
        let of = |total: Value, reasoning: u64| {
            let details = json!({"reasoning_tokens": reasoning});
            let counts = json!({"prompt_tokens": 12, "completion_tokens": 1, "total_tokens": total,
                                "completion_tokens_details": details});
            usage(&[counts]).unwrap().output
        };
        assert_eq!(of(json!(399), 386), 387);
        assert_eq!(of(json!(399), 0), 387);
        assert_eq!(of(json!(null), 386), 387);
        assert_eq!(of(json!(13), 1), 1);
        assert_eq!(of(json!(5), 0), 1);
        assert_eq!(of(json!(u64::MAX), 0), 1);
        // Its total has what a cache holds, and its prompt does not.
        let apart = json!({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 115,
                           "cache_read_input_tokens": 100});
        assert_eq!(usage(&[apart]).unwrap().output, 5);
        for (name, reasoning, output) in [
            ("cache_read_input_tokens", 0, 5),
            ("cache_read_input_tokens", 3, 5),
            ("cache_creation_input_tokens", 0, 5),
            // The rest is what it thought, whatever a cache holds.
            ("cache_read_input_tokens", 60, 65),
        ] {
            let counts = json!({"prompt_tokens": 100, "completion_tokens": 5, "total_tokens": 165,
                                name: 60,
                                "completion_tokens_details": {"reasoning_tokens": reasoning}});
            assert_eq!(usage(&[counts]).unwrap().output, output, "{name} {reasoning}");
        }
        let kimi = json!({"prompt_tokens": 10, "completion_tokens": 5, "cached_tokens": 4});
        assert_eq!(usage(&[kimi]).unwrap().cached, 4);
    }

    #[test]
    fn the_last_count_is_the_best_unless_it_is_zero() {
        let of = |input, output| json!({"prompt_tokens": input, "completion_tokens": output});
        for (counts, output) in [
            (&[of(10, 1), of(10, 5)][..], 5),
            (&[of(0, 0), of(10, 5)], 5),
            (&[of(10, 5), of(0, 0)], 5),
        ] {
            let usage = usage(counts).unwrap();
            assert_eq!((usage.input, usage.output), (10, output), "{counts:?}");
        }
        let begin = json!({"input_tokens": 10, "cache_read_input_tokens": 4, "output_tokens": 1});
        let end = json!({"input_tokens": 0, "output_tokens": 5});
        let expected = Some(Usage { input: 14, cached: 4, output: 5, reasoning: 0 });
        assert_eq!(usage(&[begin, end]), expected);
        assert_eq!(usage(&[of(0, 0)]), Some(Usage::default()));
    }

    #[test]
    fn a_reason_that_says_that_something_is_missing_stays() {
        for (reason, finish) in [
            ("length", Finish::Length),
            ("content_filter", Finish::ContentFilter),
            ("abort", Finish::Other),
        ] {
            let mut draft = Draft::default();
            draft.add_text("x");
            draft.add_call(&json!({"name": "read", "arguments": "{\"pa"})).unwrap();
            draft.end(&json!(reason)).unwrap();
            draft.end(&json!("stop")).unwrap();
            assert_eq!(draft.finish(false).unwrap().finish, finish);
            assert_eq!(draft.parts().len(), 1, "{reason}: a part of a call is none");
        }
    }

    #[test]
    fn the_end_says_what_the_answer_is() {
        let finish = |reason: Value, call: bool| {
            let mut draft = Draft::default();
            draft.add_text("x");
            if call {
                draft.add_call(&json!({"name": "read", "arguments": "{}"})).unwrap();
            }
            draft.end(&reason).unwrap();
            draft.complete();
            draft.finish(false).unwrap().finish
        };
        for (reason, without, with) in [
            ("stop", Finish::Stop, Finish::ToolCalls),
            ("tool_calls", Finish::Stop, Finish::ToolCalls),
            ("tool_use", Finish::Stop, Finish::ToolCalls),
            ("MAX_TOKENS", Finish::Length, Finish::Length),
            ("content_filter", Finish::ContentFilter, Finish::ContentFilter),
            ("pause_turn", Finish::Other, Finish::ToolCalls),
            ("abort", Finish::Other, Finish::Other),
            ("insufficient_system_resource", Finish::Other, Finish::Other),
            ("COMPLETE", Finish::Stop, Finish::ToolCalls),
            ("", Finish::Stop, Finish::ToolCalls),
        ] {
            assert_eq!(finish(json!(reason), false), without, "{reason}");
            assert_eq!(finish(json!(reason), true), with, "{reason}");
        }
    }
}
