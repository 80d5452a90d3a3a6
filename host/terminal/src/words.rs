//! Sizes, times and texts of others in words, and times from words.

use std::time::Duration;

/// A size for a sentence: `1.5 MiB`.
pub fn bytes(count: u64) -> String {
    let (number, unit) = scaled(count);
    if unit.is_empty() { format!("{number} bytes") } else { format!("{number} {unit}iB") }
}

/// A size for a table: `1.5M`.
pub fn short_bytes(count: u64) -> String {
    let (number, unit) = scaled(count);
    format!("{number}{unit}")
}

/// A number for a table: `1.5M`.
pub fn short_count(count: u64) -> String {
    let (number, unit) = scaled_by(1000, ["k", "M", "G", "T", "P", "E"], count);
    format!("{number}{unit}")
}

fn scaled(count: u64) -> (String, &'static str) {
    scaled_by(1024, ["K", "M", "G", "T", "P", "E"], count)
}

/// Below a step without a unit; from there on with one decimal while it says something.
fn scaled_by(step: u64, units: [&'static str; 6], count: u64) -> (String, &'static str) {
    if count < step {
        return (count.to_string(), "");
    }
    let mut value = count as f64 / step as f64;
    let mut unit = 0;
    // 1023.95 would be written as 1024.
    while value >= 999.5 && unit + 1 < units.len() {
        value /= step as f64;
        unit += 1;
    }
    let number = if value < 99.95 { format!("{value:.1}") } else { format!("{value:.0}") };
    (number.strip_suffix(".0").unwrap_or(&number).to_owned(), units[unit])
}

/// A time for a sentence: `2 min 5 s`.
pub fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        // Nothing: with clocks that count seconds, a moment.
        0 if time.as_millis() == 0 => "0 s".to_owned(),
        0 => format!("{} ms", time.as_millis()),
        1..60 => format!("{seconds} s"),
        60..3600 if seconds.is_multiple_of(60) => format!("{minutes} min"),
        60..3600 => format!("{minutes} min {} s", seconds % 60),
        3600..86_400 => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

/// A time in milliseconds for a sentence.
pub fn millis(ms: u64) -> String {
    duration(Duration::from_millis(ms))
}

/// A time in microseconds for a sentence: below 10 ms with one decimal.
pub fn micros(us: u64) -> String {
    match us {
        0..10_000 => format!("{:.1} ms", us as f64 / 1000.0),
        _ => duration(Duration::from_micros(us)),
    }
}

/// A time for a table: `2m`.
pub fn short_duration(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86_400 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// One part of another, in whole percent.
pub fn percent(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "? %".to_owned();
    }
    format!("{:.0} %", part as f64 / whole as f64 * 100.0)
}

/// `1 agent`, `2 agents`.
pub fn counted(count: usize, thing: &str) -> String {
    format!("{count} {thing}{}", if count == 1 { "" } else { "s" })
}

/// A text that somebody else chose, in quotation marks, with escapes as in JSON.
pub fn quoted(text: &str) -> String {
    let json = serde_json::Value::from(text).to_string();
    bulkhead_printable::json(&json).into_owned()
}

/// A text as one word: in quotation marks where it would not be one otherwise.
pub fn word(text: &str) -> String {
    let is_plain = !text.is_empty() && text.chars().all(|it| it.is_ascii_graphic() && it != '"');
    if is_plain { text.to_owned() } else { quoted(text) }
}

/// A program and its arguments: `cargo test "a b"`.
pub fn command_line(program: &str, arguments: &[String]) -> String {
    let words = std::iter::once(program).chain(arguments.iter().map(String::as_str));
    words.map(word).collect::<Vec<_>>().join(" ")
}

/// Reads `500ms`, `30s`, `5m` or `2h`.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a duration such as 500ms, 30s, 5m or 2h");
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let ms = match unit {
        "ms" => Some(number),
        "s" => number.checked_mul(1000),
        "m" | "min" => number.checked_mul(60_000),
        "h" => number.checked_mul(3_600_000),
        _ => return Err(wrong()),
    };
    // A year, so that the moment when it is over can be counted.
    const MOST_MS: u64 = 366 * 86_400_000;
    let ms = ms.filter(|ms| *ms <= MOST_MS).ok_or_else(|| format!("{text:?} is too long"))?;
    Ok(Duration::from_millis(ms))
}

/// The same, more than nothing.
pub fn parse_some_time(text: &str) -> Result<Duration, String> {
    let time = parse_duration(text)?;
    if time.is_zero() { Err("must be greater than zero".to_owned()) } else { Ok(time) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_at_most_one_decimal() {
        const MIB: u64 = 1024 * 1024;
        for (count, long, short) in [
            (0, "0 bytes", "0"),
            (1023, "1023 bytes", "1023"),
            (1024, "1 KiB", "1K"),
            (1536, "1.5 KiB", "1.5K"),
            (64 * MIB, "64 MiB", "64M"),
            (MIB * 1023, "1 GiB", "1G"),
            (150 * MIB + MIB / 3, "150 MiB", "150M"),
            (u64::MAX, "16 EiB", "16E"),
        ] {
            assert_eq!((bytes(count).as_str(), short_bytes(count).as_str()), (long, short));
        }
    }

    #[test]
    fn numbers_are_short() {
        let short = [0, 999, 1000, 9000, 1_234_567, 999_999].map(short_count);
        assert_eq!(short, ["0", "999", "1k", "9k", "1.2M", "1M"]);
    }

    #[test]
    fn times_have_two_units_at_most() {
        for (ms, long, short) in [
            (0, "0 s", "0s"),
            (999, "999 ms", "0s"),
            (59_999, "59 s", "59s"),
            (300_000, "5 min", "5m"),
            (125_000, "2 min 5 s", "2m"),
            (3_600_000, "1 h 0 min", "1h"),
            (90_000_000, "1 d 1 h", "1d"),
        ] {
            let time = Duration::from_millis(ms);
            assert_eq!((duration(time).as_str(), short_duration(time).as_str()), (long, short));
        }
    }

    #[test]
    fn short_times_have_a_decimal() {
        let shown = [0, 412, 9_940, 10_400, 2_500_000].map(micros);
        assert_eq!(shown, ["0.0 ms", "0.4 ms", "9.9 ms", "10 ms", "2 s"]);
    }

    #[test]
    fn a_time_needs_its_unit() {
        let ms = |text| parse_duration(text).map(|time| time.as_millis());
        assert_eq!(ms("500ms"), Ok(500));
        assert_eq!(ms("30s"), Ok(30_000));
        assert_eq!((ms("5m"), ms("5min"), ms("2h")), (Ok(300_000), Ok(300_000), Ok(7_200_000)));
        assert_eq!(parse_some_time("0s"), Err("must be greater than zero".to_owned()));
        for text in ["", "s", "30", "-1s", "1.5s", "1 s", "1d", "99999999999999999999s", "1sä"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
        assert!(ms("18446744073709551615h").unwrap_err().contains("too long"));
    }
}
