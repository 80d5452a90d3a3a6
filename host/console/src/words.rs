//! Figures and times in words and elements.

use std::time::Duration;

use bulkhead_printable as printable;
use bulkhead_terminal::words::{bytes, duration, millis};
use bulkhead_types::Timestamp;
use bulkhead_types::memory::MemoryTrend;
use maud::{Markup, html};

/// A text of others as one line, with no character in it that cannot be seen.
pub(crate) fn line(text: &str) -> Markup {
    html! { (printable::line(text)) }
}

/// The same with its line breaks.
pub(crate) fn lines(text: &str) -> Markup {
    html! { (printable::lines(text)) }
}

/// `2026-01-15 09:30:00 UTC`
pub(crate) fn time(at: Timestamp) -> Markup {
    let exact = at.to_string();
    let second = exact.split('.').next().unwrap_or_default().replace('T', " ");
    html! { time datetime=(exact) { (second) " UTC" } }
}

/// `3 min 2 s ago`
pub(crate) fn ago(now: Timestamp, at: Timestamp) -> Markup {
    // Milliseconds of the past would change with every look at the page.
    let passed = Duration::from_secs(now.since(at).as_secs());
    let text =
        if passed.is_zero() { "now".to_owned() } else { format!("{} ago", duration(passed)) };
    html! { time datetime=(at.to_string()) { (text) } }
}

/// The clock's part of a time, for an axis.
pub(crate) fn clock(at: Timestamp) -> String {
    at.to_string().get(11..16).unwrap_or_default().to_owned()
}

/// Billionths of a unit, with four decimals.
pub(crate) fn cost(nano: u64) -> String {
    format!("{:.4}", nano as f64 / 1e9)
}

/// How memory goes on.
pub(crate) fn trend(trend: Option<&MemoryTrend>) -> String {
    let Some(trend) = trend else { return "not known yet".to_owned() };
    if !trend.grows {
        return "steady".to_owned();
    }
    let rate = bytes(trend.bytes_per_minute.unsigned_abs());
    match trend.time_left_ms {
        Some(left) => format!("+{rate} a minute, full in {}", millis(left)),
        None => format!("+{rate} a minute"),
    }
}

/// What to do about an end, with its code marked as such.
pub(crate) fn advice(text: &str) -> Markup {
    html! {
        @for (number, part) in text.split('`').enumerate() {
            @if number % 2 == 1 { code { (part) } } @else { (part) }
        }
    }
}
