//! How long a server asks to be left alone.

use std::time::{Duration, SystemTime};

/// What the headers of a refusal say: `retry-after-ms`, or `Retry-After` in seconds or as a date. A date that is past is
/// no time.
pub(super) fn retry_after<'a>(
    header: &dyn Fn(&str) -> Option<&'a str>,
    now: SystemTime,
) -> Option<Duration> {
    let number = |name: &str| header(name)?.trim().parse::<f64>().ok().filter(|n| n.is_finite());
    let duration = |seconds: f64| Duration::try_from_secs_f64(seconds.max(0.0)).ok();
    if let Some(ms) = number("retry-after-ms") {
        return duration(ms / 1000.0);
    }
    if let Some(seconds) = number("retry-after") {
        return duration(seconds);
    }
    let date = httpdate::parse_http_date(header("retry-after")?.trim()).ok()?;
    // By the server's own clock, if it has one.
    let now = header("date").and_then(|date| httpdate::parse_http_date(date).ok()).unwrap_or(now);
    Some(date.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_milliseconds_and_dates_are_understood() {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        let of = |headers: &[(&str, &'static str)]| {
            let header = |name: &str| {
                headers.iter().find(|(found, _)| *found == name).map(|(_, value)| *value)
            };
            retry_after(&header, now).map(|time| time.as_millis())
        };
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[("retry-after", " 3 ")]), Some(3000));
        assert_eq!(of(&[("retry-after", "0.5"), ("retry-after-ms", "20")]), Some(20));
        assert_eq!(of(&[("retry-after", "-3")]), Some(0));
        assert_eq!(of(&[("retry-after", "Sun, 06 Nov 1994 08:49:40 GMT")]), Some(3000));
        assert_eq!(of(&[("retry-after", "Sun, 06 Nov 1994 08:49:30 GMT")]), Some(0));
        let by_its_clock = [
            ("date", "Sun, 06 Nov 1994 08:49:39 GMT"),
            ("retry-after", "Sun, 06 Nov 1994 08:49:40 GMT"),
        ];
        assert_eq!(of(&by_its_clock), Some(1000));
        for nonsense in ["soon", "inf", "1e300", ""] {
            assert_eq!(of(&[("retry-after", nonsense)]), None, "{nonsense}");
        }
    }
}
