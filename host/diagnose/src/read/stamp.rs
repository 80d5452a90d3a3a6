//! Where lines stand in time and place. Times are milliseconds since 1970 in UTC.

const DAY_MS: i64 = 86_400_000;

/// The years that a log line can be of. Anything else is not a time.
const YEARS: std::ops::RangeInclusive<i64> = 2000..=2199;

/// Where a line stands in time and place, as far as it says so itself.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Stamp {
    /// Milliseconds since 1970.
    pub ts: Option<i64>,
    pub town: Option<Box<str>>,
    pub run: Option<Box<str>>,
    pub seq: Option<u64>,
    pub uptime_ms: Option<i64>,
}

/// Reads `2026-01-15T09:30:00.000Z`, with or without a fraction, with `Z` or an offset, from the beginning of
/// `text`. Returns the time and how many bytes it took.
pub fn parse(text: &[u8]) -> Option<(i64, usize)> {
    let number = |from: usize, to: usize| -> Option<i64> {
        text.get(from..to)?.iter().try_fold(0i64, |sum, byte| {
            byte.is_ascii_digit().then(|| sum * 10 + i64::from(byte - b'0'))
        })
    };
    let is = |at: usize, bytes: &[u8]| text.get(at).is_some_and(|byte| bytes.contains(byte));
    if !(is(4, b"-") && is(7, b"-") && is(10, b"Tt ") && is(13, b":") && is(16, b":")) {
        return None;
    }
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let real = YEARS.contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second <= 60;
    if !real {
        return None;
    }
    let mut at = 19;
    let mut millis = 0;
    if is(at, b".,") {
        at += 1;
        let mut unit = 100;
        while let Some(byte) = text.get(at).filter(|byte| byte.is_ascii_digit()) {
            millis += unit * i64::from(byte - b'0');
            unit /= 10;
            at += 1;
        }
    }
    let mut offset = 0;
    if is(at, b"Zz") {
        at += 1;
    } else if is(at, b"+-") {
        let sign = if text[at] == b'-' { -1 } else { 1 };
        let minutes_at = if is(at + 3, b":") { at + 4 } else { at + 3 };
        offset =
            sign * (number(at + 1, at + 3)? * 60 + number(minutes_at, minutes_at + 2)?) * 60_000;
        at = minutes_at + 2;
    }
    let time = ((hour * 60 + minute) * 60 + second) * 1000 + millis;
    Some((days(year, month, day) * DAY_MS + time - offset, at))
}

/// A number that stands for a time: seconds, milliseconds, microseconds or nanoseconds, by its size.
pub fn from_number(number: f64) -> Option<i64> {
    let millis = match number {
        n if (9e8..5e9).contains(&n) => n * 1e3,
        n if (9e11..5e12).contains(&n) => n,
        n if (9e14..5e15).contains(&n) => n / 1e3,
        n if (9e17..5e18).contains(&n) => n / 1e6,
        _ => return None,
    };
    Some(millis as i64)
}

/// Days from 1970-01-01 to a day of the Gregorian calendar, which is taken to begin its years in March.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// `2026-01-15T09:30:00.000Z`.
pub fn format(millis: i64) -> String {
    let (days, time) = (millis.div_euclid(DAY_MS), millis.rem_euclid(DAY_MS));
    let shifted = days + 719_468;
    let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + i64::from(month <= 2);
    let (second, milli) = (time / 1000, time % 1000);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_and_written() {
        for (text, millis) in [
            ("1970-01-01T00:00:00.000Z", None),
            ("2026-01-15T09:30:00.123Z", Some(1_768_469_400_123)),
            ("2026-01-15T09:30:00Z", Some(1_768_469_400_000)),
            ("2026-01-15 09:30:00.5", Some(1_768_469_400_500)),
            ("2026-01-15T10:30:00.123456789+01:00 stdout", Some(1_768_469_400_123)),
            ("2024-02-29T00:00:00.000Z", Some(1_709_164_800_000)),
            ("2026-13-15T09:30:00Z", None),
            ("2026-01-15", None),
            ("", None),
        ] {
            assert_eq!(parse(text.as_bytes()).map(|(millis, _)| millis), millis, "{text}");
        }
        for millis in [1_768_469_400_123, 1_709_164_800_000, 1_735_689_599_999, 4_102_444_800_000] {
            assert_eq!(parse(format(millis).as_bytes()).map(|(millis, _)| millis), Some(millis));
        }
    }

    #[test]
    fn numbers_are_times_by_their_size() {
        assert_eq!(from_number(1_768_469_400.0), Some(1_768_469_400_000));
        assert_eq!(from_number(1_768_469_400_123.0), Some(1_768_469_400_123));
        assert_eq!(from_number(17.0), None);
        assert_eq!(from_number(f64::NAN), None);
    }
}
