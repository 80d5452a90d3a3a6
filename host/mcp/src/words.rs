//! Sizes and times in words.

/// `1.5 MiB`.
pub(crate) fn bytes(count: u64) -> String {
    let (mut value, mut unit) = (count as f64, 0);
    while value >= 1023.95 && unit < 4 {
        value /= 1024.0;
        unit += 1;
    }
    match unit {
        0 => format!("{count} bytes"),
        _ => format!("{value:.1} {}", ["KiB", "MiB", "GiB", "TiB"][unit - 1]),
    }
}

/// `750 ms`, `12.5 s`, `2 min 5 s`, `3 h 1 min`.
pub(crate) fn millis(ms: u64) -> String {
    match ms {
        0..1000 => format!("{ms} ms"),
        1000..60_000 => format!("{:.1} s", ms as f64 / 1000.0),
        60_000..3_600_000 => format!("{} min {} s", ms / 60_000, ms / 1000 % 60),
        _ => format!("{} h {} min", ms / 3_600_000, ms / 60_000 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_have_units() {
        let sizes = [0, 1023, 1024, 1_048_575, 64 << 20, u64::MAX].map(bytes);
        let expected =
            ["0 bytes", "1023 bytes", "1.0 KiB", "1.0 MiB", "64.0 MiB", "16777216.0 TiB"];
        assert_eq!(sizes, expected);
        let times = [999, 12_500, 125_000, 10_860_000].map(millis);
        assert_eq!(times, ["999 ms", "12.5 s", "2 min 5 s", "3 h 1 min"]);
    }
}
