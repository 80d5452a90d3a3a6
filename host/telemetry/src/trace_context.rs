//! Which trace a request belongs to, as it stands in HTTP headers: W3C Trace Context, `traceparent` and `tracestate`.

use std::fmt::Write as _;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// `00-`, 16 bytes, 8 bytes and the flags, in hexadecimal.
const TRACEPARENT_LEN: usize = 55;

/// What of a `tracestate` is passed on: members, and bytes of them all.
const MAX_MEMBERS: usize = 32;
const MAX_STATE_BYTES: usize = 512;

/// A span of somebody else's, or one of ours, for those who come after it. As small as a pointer, and so is its
/// `Option`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceContext(Arc<SpanContext>);

impl TraceContext {
    /// Reads the headers of a request. One that does not keep the rules is none, and so are two `traceparent`. A
    /// `tracestate` that does not keep them is left out.
    pub fn from_headers(headers: &HeaderMap) -> Option<Self> {
        let mut parents = headers.get_all(TRACEPARENT).iter();
        let parent = parents.next()?.to_str().ok()?;
        if parents.next().is_some() {
            return None;
        }
        let state: Option<Vec<_>> =
            headers.get_all(TRACESTATE).iter().map(|value| value.to_str().ok()).collect();
        Self::parse(parent, &state.unwrap_or_default().join(","))
    }

    /// The same of the texts of both headers; an empty `tracestate` is none.
    pub fn parse(traceparent: &str, tracestate: &str) -> Option<Self> {
        let text = traceparent.as_bytes();
        let (known, more) = text.split_at_checked(TRACEPARENT_LEN)?;
        let is_hex = |range: std::ops::Range<usize>| {
            known[range].iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        };
        let keeps_form = [2, 35, 52].iter().all(|at| known[*at] == b'-')
            && [0..2, 3..35, 36..52, 53..55].into_iter().all(is_hex);
        // What a later version adds comes after another dash.
        let fits_version = match &known[..2] {
            b"00" => more.is_empty(),
            b"ff" => false,
            _ => more.first().is_none_or(|byte| *byte == b'-'),
        };
        if !keeps_form || !fits_version {
            return None;
        }
        let trace = TraceId::from_hex(&traceparent[3..35]).ok()?;
        let span = SpanId::from_hex(&traceparent[36..52]).ok()?;
        let flags = u8::from_str_radix(&traceparent[53..55], 16).ok()?;
        let flags = TraceFlags::new(flags) & TraceFlags::SAMPLED;
        let context = SpanContext::new(trace, span, flags, true, state(tracestate));
        context.is_valid().then(|| Self(Arc::new(context)))
    }

    /// Writes both headers, in place of those that are there.
    pub fn write(&self, headers: &mut HeaderMap) {
        if let Ok(parent) = HeaderValue::try_from(self.traceparent()) {
            headers.insert(TRACEPARENT, parent);
            headers.remove(TRACESTATE);
            if let Some(state) = self.tracestate().and_then(|it| HeaderValue::try_from(it).ok()) {
                headers.insert(TRACESTATE, state);
            }
        }
    }

    /// Whether a request names a trace of its own, well-formed or not.
    pub fn is_in(headers: &HeaderMap) -> bool {
        headers.contains_key(TRACEPARENT)
    }

    /// The header `traceparent`.
    pub fn traceparent(&self) -> String {
        let mut text = String::with_capacity(TRACEPARENT_LEN);
        let flags = self.0.trace_flags() & TraceFlags::SAMPLED;
        let (trace, span) = (self.0.trace_id(), self.0.span_id());
        // Writing to a string does not fail.
        let _ = write!(text, "00-{trace}-{span}-{flags:02x}");
        text
    }

    /// The header `tracestate`, if it has members.
    pub fn tracestate(&self) -> Option<String> {
        Some(self.0.trace_state().header()).filter(|header| !header.is_empty())
    }

    pub(crate) fn new(context: SpanContext) -> Self {
        Self(Arc::new(context))
    }

    pub(crate) fn span_context(&self) -> &SpanContext {
        &self.0
    }
}

/// All of it or nothing.
fn state(text: &str) -> TraceState {
    let members = text.split(',').map(|member| member.trim_matches([' ', '\t']));
    let members: Option<Vec<_>> =
        members.filter(|member| !member.is_empty()).map(|member| member.split_once('=')).collect();
    let fits = |members: &Vec<(&str, &str)>| {
        let bytes: usize = members.iter().map(|(key, value)| key.len() + value.len() + 2).sum();
        let have_keys = members.iter().all(|(key, _)| !key.is_empty());
        have_keys && members.len() <= MAX_MEMBERS && bytes <= MAX_STATE_BYTES + 1
    };
    let members = members.filter(fits).unwrap_or_default();
    TraceState::from_key_value(members).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn what_is_read_is_written_again() {
        for parent in [PARENT, "00-00000000000000000000000000000001-0000000000000001-00"] {
            let context = TraceContext::parse(parent, "").unwrap();
            assert_eq!(context.traceparent(), parent);
            assert_eq!(context.tracestate(), None);
        }
        let context = TraceContext::parse(PARENT, "a=1, b=2 ,,\tc@d=3").unwrap();
        assert_eq!(context.tracestate().unwrap(), "a=1,b=2,c@d=3");
        let mut headers = HeaderMap::new();
        headers.insert(TRACESTATE, HeaderValue::from_static("old=1"));
        context.write(&mut headers);
        assert_eq!(TraceContext::from_headers(&headers), Some(context));
        TraceContext::parse(PARENT, "").unwrap().write(&mut headers);
        assert!(!headers.contains_key(TRACESTATE));
    }

    #[test]
    fn what_is_malformed_is_ignored() {
        for bad in [
            "",
            "00",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-what",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-011",
            "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01what",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "0-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-011",
            "+0-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-B7AD6B7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0A",
            "00-+af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319-cb7ad6b7169203331-01",
            "00_0af7651916cd43dd8448eb211c80319c_b7ad6b7169203331_01",
            " 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c8031é-b7ad6b7169203331-01",
        ] {
            assert_eq!(TraceContext::parse(bad, "a=1"), None, "{bad}");
        }
    }

    #[test]
    fn a_later_version_may_add_something_and_unknown_flags_are_not_passed_on() {
        for (text, flags) in [
            ("01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-what.it.will.be", "01"),
            ("cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00", "00"),
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-fe", "00"),
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-03", "01"),
        ] {
            let context = TraceContext::parse(text, "").unwrap();
            let written = format!("{}{flags}", &PARENT[..53]);
            assert_eq!(context.traceparent(), written, "{text}");
        }
    }

    #[test]
    fn two_parents_are_none_and_two_states_are_one() {
        let mut headers = HeaderMap::new();
        let value = |text: &str| HeaderValue::from_str(text).unwrap();
        headers.append(TRACEPARENT, value(PARENT));
        headers.append(TRACESTATE, value("a=1"));
        headers.append(TRACESTATE, value("b=2"));
        let context = TraceContext::from_headers(&headers).unwrap();
        assert_eq!(context.tracestate().unwrap(), "a=1,b=2");
        headers.append(TRACEPARENT, value(PARENT));
        assert_eq!(TraceContext::from_headers(&headers), None);
        assert!(TraceContext::is_in(&headers));
    }

    #[test]
    fn a_bad_state_is_left_out_and_the_parent_stays() {
        let long = format!("a={}", "x".repeat(520));
        let many = (0..33).map(|at| format!("k{at}=v")).collect::<Vec<_>>().join(",");
        for bad in ["a", "=1", "A=1", "a=1,b", "a b=1", &long, &many] {
            let context = TraceContext::parse(PARENT, bad).unwrap();
            assert_eq!(context.tracestate(), None, "{bad}");
        }
        let most = (0..32).map(|at| format!("k{at}=v")).collect::<Vec<_>>().join(",");
        assert_eq!(TraceContext::parse(PARENT, &most).unwrap().tracestate(), Some(most));
    }
}
