//! The quick way through lines that matter to nobody, which are nearly all of them.

use memchr::memmem;

use super::line::{NAME_BYTES, Stamp};
use super::stamp;
use super::tables::tables;

/// When and of whom a line is, when nothing else of it matters. None when it has to be read.
pub fn alive(line: &[u8]) -> Option<Stamp> {
    ours(line).or_else(|| originals(line))
}

/// Most lines: one of ours, whole, about nothing that matters. Reads its time from the beginning and its run from
/// the end, and nothing between.
fn ours(line: &[u8]) -> Option<Stamp> {
    let rest = line.strip_prefix(b"{\"ts\":\"")?;
    let (ts, length) = stamp::parse(rest.get(..24)?)?;
    let rest = rest.get(length..)?.strip_prefix(b"\",\"level\":\"")?;
    let level = memchr::memchr(b'"', rest.get(..8)?)?;
    let rest = rest.get(level..)?.strip_prefix(b"\",\"event\":\"")?;
    let name = memchr::memchr(b'"', &rest[..rest.len().min(64)])?;
    if tables().of_event(&rest[..name]).is_some() {
        return None;
    }
    let (tail, number) = number_before(line.strip_suffix(b"}")?);
    let (tail, uptime) = number_before(tail.strip_suffix(b",\"seq\":")?);
    let tail = tail.strip_suffix(b",\"uptimeMs\":")?.strip_suffix(b"\"")?;
    let quote = memchr::memrchr(b'"', tail)?;
    let (run, tail) = (&tail[quote + 1..], &tail[..quote]);
    let tail = tail.strip_suffix(b",\"runId\":")?;
    let town = if tail.ends_with(b"\"townId\":null") {
        None
    } else {
        let tail = tail.strip_suffix(b"\"")?;
        let quote = memchr::memrchr(b'"', tail)?;
        if !tail[..quote].ends_with(b"\"townId\":") {
            return None;
        }
        Some(name_of(&tail[quote + 1..])?)
    };
    Some(Stamp {
        ts: Some(ts),
        town,
        run: Some(name_of(run)?),
        seq: Some(number?),
        uptime_ms: Some(i64::try_from(uptime?).ok()?),
    })
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

/// The digits at the end, and what is before them.
fn number_before(line: &[u8]) -> (&[u8], Option<u64>) {
    let digits = line.iter().rev().take(18).take_while(|byte| byte.is_ascii_digit()).count();
    let (rest, number) = line.split_at(line.len() - digits);
    let value = number.iter().fold(0, |sum, byte| sum * 10 + u64::from(byte - b'0'));
    (rest, (digits > 0).then_some(value))
}

fn name_of(bytes: &[u8]) -> Option<Box<str>> {
    let plain = bytes.len() <= NAME_BYTES && !bytes.contains(&b'\\');
    plain.then(|| String::from_utf8_lossy(bytes).into())
}
