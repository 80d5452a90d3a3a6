//! The log for people (`log.format = "pretty"`), which is no contract: it has no date and no run, and what it says is
//! for eyes. It is recognized, so that no text in it counts as anybody's words.
//!
//! A line of it is `09:30:00 │ host  text`, and one that continues a block has blanks in place of the time. Earlier
//! versions wrote `09:30:00.000 info  agent.log text`.

/// How far the time may be from the beginning of a line that a pipeline put something before.
const PREFIX_BYTES: usize = 96;

/// The bar behind the time.
const BAR: &[u8] = "│".as_bytes();

/// What stands in place of the time in a line that continues a block.
const NO_TIME: usize = 8;

/// Whether a line is one of a pretty log of ours: time and bar, with or without colours; or what earlier versions wrote:
/// time, level, event, and lines with frames below them.
pub fn is_ours(line: &[u8]) -> bool {
    let start = &line[..line.len().min(PREFIX_BYTES)];
    let mut bars = memchr::memchr_iter(BAR[0], start).filter(|at| line[*at..].starts_with(BAR));
    if bars.any(|at| has_time(&line[..at])) {
        return true;
    }
    let colons = memchr::memchr_iter(b':', &line[..line.len().min(PREFIX_BYTES)]);
    is_frame(line) || colons.filter_map(|at| head(line.get(at.checked_sub(2)?..)?)).next().is_some()
}

/// Whether what stands before a bar ends with a time, or with blanks where the time would be.
fn has_time(before: &[u8]) -> bool {
    let before = before_colors(before);
    let Some(before) = before.strip_suffix(b" ") else { return false };
    let before = before_colors(before);
    let Some(place) = before.len().checked_sub(NO_TIME).map(|at| &before[at..]) else {
        return false;
    };
    let is_time = |found: &u8, sample: &u8| match sample {
        b'0' => found.is_ascii_digit(),
        sample => found == sample,
    };
    place == [b' '; NO_TIME] || place.iter().zip(b"00:00:00").all(|(a, b)| is_time(a, b))
}

/// Without the escape sequences at its end.
fn before_colors(mut text: &[u8]) -> &[u8] {
    while let Some(rest) = text.strip_suffix(b"m") {
        let digits = rest.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
        let Some(rest) = rest[..rest.len() - digits].strip_suffix(b"\x1b[") else { break };
        text = rest;
    }
    text
}

/// `    at function`: a name that anybody may have chosen.
fn is_frame(line: &[u8]) -> bool {
    line.starts_with(b" ") && line.trim_ascii_start().starts_with(b"at ")
}

fn head(line: &[u8]) -> Option<()> {
    let rest = time(line)?;
    let rest = uncolored(uncolored(rest).strip_prefix(b" ")?);
    let level = rest.iter().position(|byte| !byte.is_ascii_lowercase())?;
    let is_level =
        matches!(&rest[..level], b"trace" | b"debug" | b"info" | b"warn" | b"error" | b"fatal");
    let rest = uncolored(uncolored(rest[level..].trim_ascii_start()).trim_ascii_start());
    let name = rest.iter().take_while(|byte| byte.is_ascii_lowercase() || b"._".contains(byte));
    let is_name = name.filter(|byte| **byte == b'.').count() == 1;
    (is_level && is_name).then_some(())
}

/// `09:30:00.000`
fn time(line: &[u8]) -> Option<&[u8]> {
    let (time, rest) = line.split_at_checked(12)?;
    let fits = time.iter().zip(b"00:00:00.000").all(|(found, sample)| match sample {
        b'0' => found.is_ascii_digit(),
        sample => found == sample,
    });
    fits.then_some(rest)
}

/// Without the escape sequence at its beginning, if there is one.
fn uncolored(line: &[u8]) -> &[u8] {
    let Some(rest) = line.strip_prefix(b"\x1b[") else { return line };
    match rest.iter().position(|byte| !byte.is_ascii_digit()) {
        Some(end) if rest[end] == b'm' => &rest[end + 1..],
        _ => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_pretty_log_are_known_with_and_without_colours() {
        let line = "\x1b[2m09:30:00.000\x1b[0m \x1b[32minfo \x1b[0m \x1b[1magent.log\x1b[0m \x1b[36ma\x1b[0m SIGTERM received";
        assert!(is_ours(line.as_bytes()));
        assert!(is_ours(b"09:30:00.000 info  agent.log a SIGTERM received"));
        assert!(is_ours(b"web-1  | 09:30:00.000 info  agent.log a SIGTERM received"));
        assert!(is_ours(b"    at SIGTERM received"));
        for ours in [
            "09:30:00 │ a            > SIGTERM received",
            "         │   > SIGTERM received",
            "web-1  | 09:30:00 │ host         stops (SIGTERM)",
            "\x1b[90m09:30:00\x1b[0m \x1b[31m│\x1b[0m \x1b[36ma           \x1b[0m SIGTERM received",
            "         \x1b[31m│\x1b[0m \x1b[90m  > SIGTERM received\x1b[0m",
        ] {
            assert!(is_ours(ours.as_bytes()), "{ours}");
        }
        for other in [
            "",
            "SIGTERM received",
            "09:30:00 info agent.log",
            "09:30:00.000 info all is well",
            "at home",
            "│ SIGTERM received",
            "09:30:00 SIGTERM │ received",
            "name │ SIGTERM received",
        ] {
            assert!(!is_ours(other.as_bytes()), "{other}");
        }
    }
}
