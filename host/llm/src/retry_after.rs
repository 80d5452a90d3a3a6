//! How long a server asks to be left alone.

use std::time::Duration;

use bulkhead_net::wait::date;
use http::HeaderMap;
use jiff::Timestamp;

/// What the headers of a refusal say: `retry-after-ms`, or `Retry-After` in seconds or as a date. A date that is past is
/// no time. Unbounded, because it is shown to those who asked.
pub(crate) fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let header = |name: &str| headers.get(name)?.to_str().ok().map(str::trim);
    let number = |name: &str| header(name)?.parse::<f64>().ok().filter(|n| n.is_finite());
    let duration = |seconds: f64| Duration::try_from_secs_f64(seconds.max(0.0)).ok();
    if let Some(ms) = number("retry-after-ms") {
        return duration(ms / 1000.0);
    }
    if let Some(seconds) = number("retry-after") {
        return duration(seconds);
    }
    let until = date(header("retry-after")?)?;
    // By the server's own clock, if it has one.
    let now = header("date").and_then(date).unwrap_or(now);
    Some(Duration::try_from(until.duration_since(now)).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_milliseconds_and_dates_are_understood() {
        let now = date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        let of = |headers: &[(&'static str, &'static str)]| {
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                map.insert(*name, value.parse().unwrap());
            }
            retry_after(&map, now).map(|time| time.as_millis())
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
