//! The quick way through lines that matter to nobody, which are nearly all of them.

use memchr::memmem;

use super::bounds::{LINE_PART, NAME_BYTES};
use super::stamp;
use super::stamp::Stamp;
use super::tables::tables;

/// When and of whom a line is, when nothing else of it matters. None when it has to be read.
pub fn alive(line: &[u8]) -> Option<Stamp> {
    ours(line).or_else(|| originals(line))
}

/// Whether this is the beginning of a line of ours. No text of a guest can look so: in a text of JSON quotes are
/// escaped, and among the names of its fields `level` would come before `ts`.
pub fn begins(line: &[u8]) -> bool {
    event(line).is_some()
}

/// The time of a line of ours, and what follows `"event":"`.
fn event(line: &[u8]) -> Option<(i64, &[u8])> {
    let rest = line.strip_prefix(b"{\"ts\":\"")?;
    let (ts, length) = stamp::parse(rest.get(..24)?)?;
    let rest = rest.get(length..)?.strip_prefix(b"\",\"level\":\"")?;
    let level = memchr::memchr(b'"', rest.get(..8)?)?;
    Some((ts, rest.get(level..)?.strip_prefix(b"\",\"event\":\"")?))
}

/// Most lines: one of ours, whole, about nothing that matters. What the host says of every line is at its beginning.
fn ours(line: &[u8]) -> Option<Stamp> {
    let (ts, rest) = event(line.strip_suffix(b"}").map(|_| line)?)?;
    let name = memchr::memchr(b'"', &rest[..rest.len().min(64)])?;
    if tables().of_event(&rest[..name]).is_some() || rest[..name] == *LINE_PART {
        return None;
    }
    let (_, rest) = number(rest[name..].strip_prefix(b"\",\"schema\":")?)?;
    let rest = rest.strip_prefix(b",\"townId\":")?;
    let (town, rest) = match rest.strip_prefix(b"null") {
        Some(rest) => (None, rest),
        None => {
            let (town, rest) = text(rest)?;
            (Some(name_of(town)?), rest)
        }
    };
    let (run, rest) = text(rest.strip_prefix(b",\"runId\":")?)?;
    let (uptime, rest) = number(rest.strip_prefix(b",\"uptimeMs\":")?)?;
    let (seq, rest) = number(rest.strip_prefix(b",\"seq\":")?)?;
    if !matches!(rest.first(), Some(b',' | b'}')) {
        return None;
    }
    Some(Stamp {
        ts: Some(ts),
        town,
        run: Some(name_of(run)?),
        seq: Some(seq),
        uptime_ms: Some(i64::try_from(uptime).ok()?),
    })
}

/// A text of JSON at the beginning, up to its first quote, and what is behind it.
fn text(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let line = line.strip_prefix(b"\"")?;
    let end = memchr::memchr(b'"', line)?;
    Some((&line[..end], &line[end + 1..]))
}

/// The same for a line of the original container: its time is the last field.
fn originals(line: &[u8]) -> Option<Stamp> {
    let rest = line.strip_prefix(b"{\"level\":\"")?;
    let level = memchr::memchr(b'"', rest.get(..8)?)?;
    let rest = rest.get(level..)?.strip_prefix(b"\",\"msg\":\"")?;
    let name = memchr::memchr(b'"', &rest[..rest.len().min(64)])?;
    let dotted = rest[..name].contains(&b'.') && !rest[..name].contains(&b' ');
    if !dotted || tables().of_event(&rest[..name]).is_some() {
        return None;
    }
    // A run id would make it one of ours.
    let tail = &rest[name..];
    let time = tail.strip_suffix(b"\"}")?.len().checked_sub(24)?;
    if !tail[..time].ends_with(b"\"ts\":\"") || memmem::find(tail, b"\"runId\":").is_some() {
        return None;
    }
    let (ts, 24) = stamp::parse(&tail[time..tail.len() - 2])? else { return None };
    let key = b"\"townId\":\"";
    let town = match memmem::find(tail, key) {
        Some(at) => {
            let text = &tail[at + key.len()..];
            Some(name_of(&text[..memchr::memchr(b'"', text)?])?)
        }
        None => None,
    };
    Some(Stamp { ts: Some(ts), town, ..Stamp::default() })
}

/// The number at the beginning, and what is behind it.
fn number(line: &[u8]) -> Option<(u64, &[u8])> {
    let digits = line.iter().take(18).take_while(|byte| byte.is_ascii_digit()).count();
    let (number, rest) = line.split_at(digits);
    let value = number.iter().fold(0, |sum, byte| sum * 10 + u64::from(byte - b'0'));
    (digits > 0).then_some((value, rest))
}

/// Without escapes: those have to be read.
fn name_of(bytes: &[u8]) -> Option<Box<str>> {
    let plain = bytes.len() <= NAME_BYTES && !bytes.contains(&b'\\');
    plain.then(|| String::from_utf8_lossy(bytes).into())
}
