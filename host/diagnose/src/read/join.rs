//! Lines that a platform cut into pieces, put together again.
//!
//! Docker's json-file driver ends each piece but the last without a line break in its text; the format of Kubernetes
//! (CRI) marks them with `P`, and the last with `F`. A joined line stands where its last piece stood, behind an empty
//! line for each of the others, so that lines keep their numbers.

use memchr::memmem;

use super::bounds::LINE_BYTES;
use super::quick;

/// Streams whose lines are put together at a time: stdout and stderr of a few formats.
const MAX_OPEN: usize = 8;

/// How far the first blank of a CRI line may be from its beginning.
const TIME_BYTES: usize = 40;

/// A line of ours has its event within so many bytes, escaped.
const BEGIN_BYTES: usize = 128;

/// Lines whose end was not read yet.
#[derive(Default)]
pub struct Join(Vec<Open>);

struct Open {
    stream: Vec<u8>,
    line: Vec<u8>,
    /// What follows the text.
    tail: Vec<u8>,
    pieces: usize,
}

/// A line as its platform wrote it.
pub struct Piece<'a> {
    /// What the platform wrote before the text.
    pub head: &'a [u8],
    /// What the container wrote, as its platform writes it.
    pub text: &'a [u8],
    tail: &'a [u8],
    stream: &'a [u8],
    is_partial: bool,
    /// It is a text of JSON.
    is_escaped: bool,
}

impl Join {
    /// Puts together what is in pieces among whole lines.
    pub fn lines(&mut self, bytes: &mut Vec<u8>) {
        let is_partial = |line| piece(line).is_some_and(|piece| piece.is_partial);
        if self.0.is_empty() && !bytes.split(|byte| *byte == b'\n').any(is_partial) {
            return;
        }
        let text = std::mem::take(bytes);
        for line in text.split_inclusive(|byte| *byte == b'\n') {
            self.line(line, bytes);
        }
    }

    /// Nothing follows: what is left is the beginning of a line.
    pub fn finish(&mut self, bytes: &mut Vec<u8>) {
        for open in self.0.drain(..) {
            open.write(bytes);
        }
    }

    fn line(&mut self, line: &[u8], out: &mut Vec<u8>) {
        let Some(piece) = piece(line.strip_suffix(b"\n").unwrap_or(line)) else {
            return out.extend_from_slice(line);
        };
        let mut known = self.0.iter().position(|open| open.stream == piece.stream);
        // A process that was killed in a line leaves it open.
        if let Some(at) = known.filter(|_| piece.begins_record()) {
            self.0.swap_remove(at).write(out);
            known = None;
        }
        match known {
            Some(at) if piece.is_partial => self.0[at].add(&piece),
            Some(at) => {
                let mut open = self.0.swap_remove(at);
                open.add(&piece);
                open.write(out);
            }
            None if piece.is_partial && self.0.len() < MAX_OPEN => self.0.push(Open::new(&piece)),
            None => out.extend_from_slice(line),
        }
    }
}

impl Piece<'_> {
    fn begins_record(&self) -> bool {
        let begin = &self.text[..self.text.len().min(BEGIN_BYTES)];
        if self.is_escaped { quick::begins(&unescaped(begin)) } else { quick::begins(begin) }
    }
}

/// A text of JSON without its backslashes before quotes and backslashes.
fn unescaped(text: &[u8]) -> Vec<u8> {
    let mut escaped = false;
    let is_kept = |byte: &u8| {
        escaped = *byte == b'\\' && !escaped;
        !escaped
    };
    text.iter().copied().filter(is_kept).collect()
}

impl Open {
    fn new(piece: &Piece<'_>) -> Self {
        let (stream, line) = (piece.stream.to_vec(), piece.head.to_vec());
        let mut open = Self { stream, line, tail: Vec::new(), pieces: 0 };
        open.add(piece);
        open
    }

    fn add(&mut self, piece: &Piece<'_>) {
        self.pieces += 1;
        self.tail = piece.tail.to_vec();
        // One byte more shows that it was too long.
        let room = (LINE_BYTES + 1).saturating_sub(self.line.len());
        self.line.extend_from_slice(&piece.text[..piece.text.len().min(room)]);
    }

    fn write(self, out: &mut Vec<u8>) {
        out.resize(out.len() + self.pieces - 1, b'\n');
        out.extend_from_slice(&self.line);
        out.extend_from_slice(&self.tail);
        out.push(b'\n');
    }
}

fn piece(line: &[u8]) -> Option<Piece<'_>> {
    if line.first() == Some(&b'{') { docker(line) } else { cri(line) }
}

/// `2026-01-15T09:30:00.000000000Z stdout P text`
pub fn cri(line: &[u8]) -> Option<Piece<'_>> {
    if !line.first()?.is_ascii_digit() {
        return None;
    }
    let time = memchr::memchr(b' ', &line[..line.len().min(TIME_BYTES)])?;
    let after = &line[time + 1..];
    let stream =
        ["stdout", "stderr"].into_iter().find(|name| after.starts_with(name.as_bytes()))?;
    let tags = after[stream.len()..].strip_prefix(b" ")?;
    let end = memchr::memchr(b' ', tags)?;
    let is_partial = match tags[..end].split(|byte| *byte == b':').next()? {
        b"P" => true,
        b"F" => false,
        _ => return None,
    };
    let at = line.len() - tags.len() + end + 1;
    let stream = if stream == "stdout" { b"cri out" } else { b"cri err" };
    Some(Piece {
        head: &line[..at],
        text: &line[at..],
        tail: b"",
        stream,
        is_partial,
        is_escaped: false,
    })
}

/// `{"log":"text\n","stream":"stdout","time":"..."}`
fn docker(line: &[u8]) -> Option<Piece<'_>> {
    let value = line.strip_prefix(b"{\"log\":")?.trim_ascii_start();
    let text = line.len() - value.strip_prefix(b"\"")?.len();
    // In a text there is no such thing, because its quotes are escaped.
    let stream = memmem::rfind(line, b"\"stream\":")?;
    let end = memchr::memrchr(b'"', &line[text..stream])? + text;
    let name = line[stream + b"\"stream\":".len()..].trim_ascii_start().strip_prefix(b"\"")?;
    let name = &name[..memchr::memchr(b'"', name)?];
    let is_partial = !ends_with_line_break(&line[text..end]);
    let (head, text, tail) = (&line[..text], &line[text..end], &line[end..]);
    Some(Piece { head, text, tail, stream: name, is_partial, is_escaped: true })
}

/// Whether a text of JSON ends with `\n`, and not with `\\n`.
fn ends_with_line_break(text: &[u8]) -> bool {
    let Some(before) = text.strip_suffix(b"n") else { return false };
    before.iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(lines: &str) -> String {
        let (mut bytes, mut join) = (lines.as_bytes().to_vec(), Join::default());
        join.lines(&mut bytes);
        join.finish(&mut bytes);
        String::from_utf8(bytes).unwrap()
    }

    fn docker(text: &str, stream: &str) -> String {
        let text = serde_json::to_string(text).unwrap();
        format!("{{\"log\":{text},\"stream\":\"{stream}\",\"time\":\"2026-01-15T09:30:00Z\"}}\n")
    }

    #[test]
    fn pieces_become_a_line_in_the_place_of_the_last_one() {
        let cri = |tag: &str, text: &str| format!("2026-01-15T09:30:00.1Z stdout {tag} {text}\n");
        let lines = [cri("F", "a"), cri("P", "b"), cri("P:x", "c "), cri("F", "d"), cri("F", "e")];
        let expected = [cri("F", "a"), "\n\n".into(), cri("P", "bc d"), cri("F", "e")].concat();
        assert_eq!(joined(&lines.concat()), expected);
        let lines = [docker("a\"", "stdout"), docker("\\n", "stdout"), docker("b\n", "stdout")];
        assert_eq!(joined(&lines.concat()), format!("\n\n{}", docker("a\"\\nb\n", "stdout")));
        let spaced = lines.concat().replace("\":\"", "\": \"");
        assert_eq!(joined(&spaced).trim_start().len(), docker("a\"\\nb\n", "stdout").len() + 3);
    }

    #[test]
    fn streams_are_kept_apart_and_other_lines_stay() {
        let lines = [
            docker("a", "stdout"),
            docker("x\n", "stderr"),
            "text\n".into(),
            docker("b\n", "stdout"),
        ];
        let expected =
            [&docker("x\n", "stderr"), "text\n", "\n", &docker("ab\n", "stdout")].concat();
        assert_eq!(joined(&lines.concat()), expected);
        for line in
            ["", "\n", "{\"log\":5}\n", "2026 stdout X y\n", "7\n", &docker("a\n", "stdout")]
        {
            assert_eq!(joined(line), line);
        }
    }

    #[test]
    fn a_line_that_a_killed_process_left_does_not_take_the_next_one_with_it() {
        let next =
            r#"{"ts":"2026-01-15T09:30:00.000Z","level":"info","event":"container.cold_start"}"#;
        let lines = [docker("{\"ts\":\"20", "stdout"), docker(&format!("{next}\n"), "stdout")];
        assert_eq!(joined(&lines.concat()), lines.concat());
        let open = docker("left", "stdout");
        assert_eq!(joined(&open), open, "at the end");
        // What looks so in a text of the line itself is a part of it.
        let forged = [
            docker(r#"{"ts":"x","message":""#, "stdout"),
            docker(&format!("{}\n", next.replace('"', "\\\"")), "stdout"),
        ];
        assert_eq!(joined(&forged.concat()).trim().lines().count(), 1);
    }

    #[test]
    fn a_line_of_endless_pieces_is_bounded() {
        let piece = docker(&"x".repeat(16 << 10), "stdout");
        let joined = joined(&(piece.repeat(100) + &docker("\n", "stdout")));
        assert!((LINE_BYTES..LINE_BYTES + 200).contains(&joined.trim().len()));
        assert_eq!(joined.lines().count(), 101);
    }
}
