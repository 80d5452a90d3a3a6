//! A series as a row of bars.

use std::time::Duration;

use bulkhead_types::memory::MemorySample;

use bulkhead_terminal::words;

pub(crate) const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Most bars in a row.
pub(crate) const WIDTH: usize = 60;

/// The samples as at most [`WIDTH`] bars between the least and the most of them, with both in words and
/// the time that they span. Of samples that share a bar the largest counts. `None`: no samples.
pub(crate) fn of(samples: &[MemorySample]) -> Option<String> {
    let (first, last) = (samples.first()?, samples.last()?);
    let least = samples.iter().map(|sample| sample.bytes).min()?;
    let most = samples.iter().map(|sample| sample.bytes).max()?;
    let width = samples.len().min(WIDTH);
    let bar = |at: usize| {
        let (from, to) = (at * samples.len() / width, (at + 1) * samples.len() / width);
        let peak = samples[from..to].iter().map(|sample| sample.bytes).max().unwrap_or(least);
        let height = (peak - least) as f64 / (most - least).max(1) as f64 * (BARS.len() - 1) as f64;
        BARS[height.round() as usize]
    };
    let bars: String = (0..width).map(bar).collect();
    let over = match last.ts.since(first.ts) {
        Duration::ZERO => String::new(),
        over => format!(" over {}", words::duration(over)),
    };
    let range = if least == most {
        words::bytes(most)
    } else {
        format!("{} to {}", words::bytes(least), words::bytes(most))
    };
    Some(format!("{bars}  {range}{over}"))
}

#[cfg(test)]
mod tests {
    use bulkhead_types::Timestamp;

    use super::*;

    fn samples(bytes: impl IntoIterator<Item = u64>) -> Vec<MemorySample> {
        let sample =
            |(n, bytes): (usize, u64)| MemorySample { ts: Timestamp(n as i64 * 5000), bytes };
        bytes.into_iter().enumerate().map(sample).collect()
    }

    #[test]
    fn a_rise_rises() {
        let line = of(&samples((0..8).map(|n| n * 1024))).unwrap();
        assert_eq!(line, "▁▂▃▄▅▆▇█  0 bytes to 7 KiB over 35 s");
    }

    #[test]
    fn a_level_is_flat_and_nothing_is_nothing() {
        assert_eq!(of(&samples([1024, 1024])).unwrap(), "▁▁  1 KiB over 5 s");
        assert_eq!(of(&samples([1024])).unwrap(), "▁  1 KiB");
        assert_eq!(of(&[]), None);
        assert!(of(&samples([0, u64::MAX])).unwrap().starts_with("▁█"));
    }

    #[test]
    fn a_long_series_keeps_its_peaks() {
        let mut bytes = vec![0; 1000];
        bytes[500] = 7;
        let line = of(&samples(bytes)).unwrap();
        let bars: String = line.chars().take_while(|c| BARS.contains(c)).collect();
        assert_eq!(bars.chars().count(), WIDTH);
        assert_eq!(bars.chars().filter(|bar| *bar == '█').count(), 1);
    }
}
