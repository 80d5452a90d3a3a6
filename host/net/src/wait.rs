//! What a server says about trying again.

use std::time::Duration;

use http::HeaderMap;
use http::header::{DATE, RETRY_AFTER};
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;

/// Longest wait that a server may ask for. Past it a client tries again by its own reckoning.
pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(300);

/// The header `Retry-After`, in seconds or as a date, at most [`MAX_RETRY_AFTER`]. A date counts from the
/// answer's own `Date`, because the two clocks may differ; without that from `now`. `None`: there is none, or
/// none that can be read.
pub fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let wait = if is_number {
        // Digits that no number holds are a long time.
        Duration::from_secs(text.parse().unwrap_or(u64::MAX))
    } else {
        let until = date(text)?;
        let from = headers.get(DATE).and_then(|value| date(value.to_str().ok()?)).unwrap_or(now);
        Duration::try_from(until.duration_since(from)).unwrap_or_default()
    };
    Some(wait.min(MAX_RETRY_AFTER))
}

/// A date as HTTP writes it.
pub fn date(text: &str) -> Option<Timestamp> {
    DateTimeParser::new().parse_timestamp(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(retry_after: &str, date: Option<&str>) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, retry_after.parse().unwrap());
        if let Some(date) = date {
            headers.insert(DATE, date.parse().unwrap());
        }
        super::retry_after(&headers, super::date("Thu, 15 Jan 2026 09:29:00 GMT").unwrap())
    }

    #[test]
    fn seconds_and_dates_are_read_within_a_bound() {
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!(super::retry_after(&HeaderMap::new(), Timestamp::UNIX_EPOCH), None);
        assert_eq!(asked("5", None), seconds(5));
        assert_eq!(asked("86400", None), seconds(300));
        assert_eq!(asked("99999999999999999999999", None), seconds(300));
        let date = "Thu, 15 Jan 2026 09:30:00 GMT";
        assert_eq!(asked(date, None), seconds(60));
        assert_eq!(asked(date, Some("Thu, 15 Jan 2026 09:29:50 GMT")), seconds(10));
        assert_eq!(asked(date, Some("Thu, 15 Jan 2026 10:00:00 GMT")), seconds(0));
        for nonsense in ["", "-5", "1.5", "soon", "5 minutes"] {
            assert_eq!(asked(nonsense, None), None, "{nonsense}");
        }
    }
}
