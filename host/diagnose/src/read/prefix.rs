//! What platforms write before a record on its line, and what they do not.
//!
//! A guest chooses texts, and the host chooses where lines begin: so a record counts at the beginning of a line, or behind
//! what a platform may have put there. Pages of the host for people have their guests' texts behind blanks or a mark, and
//! its JSON has them behind quotes: neither is in front of a record.

/// How far a brace may be from the beginning of a line that a pipeline put something before.
pub const PREFIX_BYTES: usize = 96;

/// How text files of some systems begin.
pub const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// Where a line shows what it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// A record, from its first byte on.
    Start,
    /// A record, behind what a platform wrote.
    Behind,
    /// A record in a text of JSON, which is all of the line.
    Quoted,
    /// The line of an event that a host keeps.
    Kept,
    /// Nowhere in particular.
    Text,
}

/// Where the object begins that a line holds, when it holds one. An array or an object inside of a text is none, nor is
/// the value of a field: that line is the end of another one.
pub fn brace(line: &[u8]) -> Option<usize> {
    let first = memchr::memchr(b'{', &line[..line.len().min(PREFIX_BYTES)])?;
    let labels = labels(&line[first..]);
    let at = first + labels;
    // A text that ends with a brace is followed by no name.
    let is_name = |first: &u8| first.is_ascii_alphanumeric() || b"_@$".contains(first);
    let begins =
        line[at..].strip_prefix(b"{\"").is_some_and(|name| name.first().is_none_or(is_name));
    (begins && is_a_platforms(&line[..first])).then_some(at)
}

/// Whether a platform may have written this before a record. The rest of a line of JSON has quotes or brackets there, and a
/// page for people has a mark, or the blanks between two columns.
fn is_a_platforms(prefix: &[u8]) -> bool {
    let trimmed = prefix.trim_ascii_end();
    let is_syslog = prefix.first() == Some(&b'<');
    let is_rest = trimmed.ends_with(b"[")
        || trimmed.first().is_some_and(|byte| b",]}\\".contains(byte))
        || (!is_syslog && memchr::memchr3(b'"', b'}', b'\\', prefix).is_some());
    !is_rest && !is_marked(prefix) && !prefix.ends_with(b"  ")
}

/// Whether there is a mark that the host puts before texts of guests on its pages for people.
pub fn is_marked(prefix: &[u8]) -> bool {
    prefix.starts_with(b"> ") || memchr::memmem::find(prefix, b" > ").is_some()
}

/// How many bytes the labels take that `logcli` writes before a line: `{app="b", job="c"} `.
fn labels(text: &[u8]) -> usize {
    let all = || {
        let mut rest = text.strip_prefix(b"{")?;
        loop {
            let name =
                rest.iter().position(|byte| !byte.is_ascii_alphanumeric() && *byte != b'_')?;
            rest = rest[name..].strip_prefix(b"=\"").filter(|_| name > 0)?;
            let mut escaped = false;
            let end = rest.iter().position(|byte| {
                let ends = *byte == b'"' && !escaped;
                escaped = *byte == b'\\' && !escaped;
                ends
            })?;
            rest = &rest[end + 1..];
            match rest.strip_prefix(b", ").or_else(|| rest.strip_prefix(b",")) {
                Some(more) => rest = more,
                None => break,
            }
        }
        let rest = rest.strip_prefix(b"}")?;
        let blanks = rest.iter().take_while(|byte| b" \t".contains(byte)).count();
        (blanks > 0).then(|| text.len() - rest.len() + blanks)
    };
    all().unwrap_or(0)
}

/// Whether a line is one of a page that the host prints for people, with texts of guests: it begins with a blank, as what
/// belongs to a crash does, or it is one of `bulkhead crashes list`.
pub fn is_of_a_page(line: &[u8]) -> bool {
    line.first().is_some_and(|byte| b" \t".contains(byte)) || is_of_a_list(line)
}

/// `01a22cde-3bfc-7038-8693-ffbaedf5047b  2026-11-30T14:31:31.580Z  agent  reason  message`
fn is_of_a_list(line: &[u8]) -> bool {
    let Some((id, rest)) = line.split_at_checked(36) else { return false };
    let fits = |(at, byte): (usize, &u8)| match at {
        8 | 13 | 18 | 23 => *byte == b'-',
        _ => byte.is_ascii_hexdigit(),
    };
    id.iter().enumerate().all(fits) && rest.starts_with(b"  ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_stands_behind_what_platforms_write() {
        for prefix in [
            "",
            "web-1  | ",
            "\x1b[36mweb-1  | \x1b[0m",
            "[pod/town-0/bulkhead] 2026-11-30T14:24:02.271Z ",
            "2026-11-30T14:24:02.271Z app[148e] ams [info] ",
            "Nov 30 14:24:02 host bulkhead[5]: ",
            "<30>1 2026-11-30T14:24:02.271Z host bulkhead 5 ID [x@1 a=\"b\"] ",
            "2026-11-30T14:24:02.271Z {app=\"b\", of=\"{\\\"c\"} ",
            "EVENTS\t123\t",
            "data: ",
        ] {
            let line = format!("{prefix}{{\"ts\":1}}");
            assert_eq!(brace(line.as_bytes()), Some(prefix.len()), "{line}");
        }
        for prefix in [
            "\"exceptions\":[",
            "[",
            ",",
            "}],\"data\":",
            "\"data\" : ",
            "> ",
            "  > container.cold_start: ",
            "e crashed > ",
            "host call    ",
            "\\\"x\\\" ",
            "{app=\"b\"",
            "{app=\"b\"}",
            "{0} ",
        ] {
            let line = format!("{prefix}{{\"ts\":1}}");
            assert_eq!(brace(line.as_bytes()), None, "{line}");
        }
    }

    #[test]
    fn lines_of_pages_are_known() {
        for line in [
            "  > {",
            "\tx",
            "01a22cde-3bfc-7038-8693-ffbaedf5047b  2026-11-30T14:31:31.580Z  e  exception  x",
        ] {
            assert!(is_of_a_page(line.as_bytes()), "{line}");
        }
        for line in ["", "x", "01a22cde-3bfc-7038-8693-ffbaedf5047b {\"ts\":1}"] {
            assert!(!is_of_a_page(line.as_bytes()), "{line}");
        }
    }
}
