//! The log for people (`log.format = "pretty"`), which is no contract: it has no date and no run, and what it says is
//! for eyes. It is recognized, so that no text in it counts as anybody's words.

/// How far the time may be from the beginning of a line that a pipeline put something before.
const PREFIX_BYTES: usize = 96;

/// Whether a line is one of a pretty log of ours: time, level, event, with or without colours. Or one of the lines with
/// frames below it.
pub fn is_ours(line: &[u8]) -> bool {
    let colons = memchr::memchr_iter(b':', &line[..line.len().min(PREFIX_BYTES)]);
    is_frame(line) || colons.filter_map(|at| head(line.get(at.checked_sub(2)?..)?)).next().is_some()
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
        for other in [
            "",
            "SIGTERM received",
            "09:30:00 info agent.log",
            "09:30:00.000 info all is well",
            "at home",
        ] {
            assert!(!is_ours(other.as_bytes()), "{other}");
        }
    }
}
