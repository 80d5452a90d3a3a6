//! Where lines come from, cut into pieces that end with a line.

use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::MultiGzDecoder;

use super::bounds::LINE_BYTES;
use super::join::Join;

/// Size of a piece.
pub const PIECE_BYTES: usize = 1 << 20;

/// How files begin that somebody has to unpack, what they are, and what does that.
const PACKED: [(&[u8], &str, &str); 4] = [
    (b"\x28\xb5\x2f\xfd", "zstd", "zstd -dc"),
    (b"\xfd7zXZ\0", "xz", "xz -dc"),
    (b"BZh", "bzip2", "bzip2 -dc"),
    (b"PK\x03\x04", "a zip archive", "unzip -p"),
];

/// One log to read.
pub struct Input {
    /// Its name in messages and references.
    pub name: String,
    /// What is in it: lines, or lines in gzip.
    pub reader: Box<dyn Read + Send>,
}

impl Input {
    /// A log by its name.
    pub fn new(name: impl Into<String>, reader: impl Read + Send + 'static) -> Self {
        Self { name: name.into(), reader: Box::new(reader) }
    }
}

/// Whole lines of one input, in order.
pub struct Piece {
    /// Number of the input.
    pub input: usize,
    /// The lines. The last one need not end with a newline.
    pub bytes: Vec<u8>,
    /// How many there were before lines were put together.
    pub size: usize,
    /// Its last line goes on, and the rest of it was passed over.
    pub overlong: bool,
    /// Nothing of its input comes before it.
    pub is_first: bool,
}

/// Cuts an input into pieces.
pub struct Pieces {
    input: usize,
    reader: Box<dyn Read + Send>,
    /// The beginning of a line whose end was not read yet.
    rest: Vec<u8>,
    join: Join,
    /// The line at hand is too long; what follows until its end is passed over.
    skipping: bool,
    done: bool,
    begun: bool,
}

impl Pieces {
    /// Looks whether it is gzip, and begins.
    pub fn open(input: usize, reader: Box<dyn Read + Send>) -> io::Result<Self> {
        let mut reader = BufReader::with_capacity(128 << 10, reader);
        let head = loop {
            match reader.fill_buf() {
                Ok(head) => break head,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        };
        if let Some((_, name, tool)) = PACKED.iter().find(|(magic, ..)| head.starts_with(magic)) {
            let advice = format!(
                "it is {name}: unpack it first, as with `{tool} FILE | bulkhead diagnose -`"
            );
            return Err(io::Error::other(advice));
        }
        let reader: Box<dyn Read + Send> = if head.starts_with(&[0x1f, 0x8b]) {
            Box::new(MultiGzDecoder::new(reader))
        } else {
            Box::new(reader)
        };
        let join = Join::default();
        Ok(Self {
            input,
            reader,
            rest: Vec::new(),
            join,
            skipping: false,
            done: false,
            begun: false,
        })
    }

    /// The next piece; none at the end. After an error there is one more piece when something had been read
    /// before it, and then none.
    pub fn next(&mut self, bytes: Vec<u8>) -> (Option<Piece>, Option<io::Error>) {
        let (mut piece, error) = self.cut(bytes);
        if let Some(piece) = &mut piece {
            piece.is_first = !std::mem::replace(&mut self.begun, true);
        }
        (piece, error)
    }

    fn cut(&mut self, mut bytes: Vec<u8>) -> (Option<Piece>, Option<io::Error>) {
        bytes.clear();
        bytes.append(&mut self.rest);
        let mut error = None;
        loop {
            if self.done {
                let size = bytes.len();
                self.join.lines(&mut bytes);
                self.join.finish(&mut bytes);
                let piece =
                    Piece { input: self.input, bytes, size, overlong: false, is_first: false };
                return ((!piece.bytes.is_empty()).then_some(piece), error);
            }
            let from = bytes.len();
            bytes.resize(PIECE_BYTES.max(from + (64 << 10)), 0);
            let mut to = from;
            while to < bytes.len() {
                match self.reader.read(&mut bytes[to..]) {
                    Ok(0) => {
                        self.done = true;
                        break;
                    }
                    Ok(count) => to += count,
                    Err(found) if found.kind() == io::ErrorKind::Interrupted => {}
                    Err(found) => {
                        self.done = true;
                        error = Some(found);
                        break;
                    }
                }
            }
            bytes.truncate(to);
            drop_nuls(&mut bytes, from);
            if self.skipping {
                match memchr::memchr(b'\n', &bytes) {
                    Some(end) => {
                        bytes.drain(..=end);
                        self.skipping = false;
                    }
                    None => {
                        bytes.clear();
                        continue;
                    }
                }
            }
            if self.done {
                continue;
            }
            match memchr::memrchr(b'\n', &bytes) {
                Some(end) => {
                    self.rest.extend_from_slice(&bytes[end + 1..]);
                    bytes.truncate(end + 1);
                    let size = bytes.len();
                    self.join.lines(&mut bytes);
                    let piece =
                        Piece { input: self.input, bytes, size, overlong: false, is_first: false };
                    return (Some(piece), error);
                }
                None if bytes.is_empty() => {}
                None => {
                    bytes.truncate(LINE_BYTES);
                    self.skipping = true;
                    let (input, size) = (self.input, bytes.len());
                    return (
                        Some(Piece { input, bytes, size, overlong: true, is_first: false }),
                        error,
                    );
                }
            }
        }
    }
}

/// A machine that lost its power leaves them in files, and so does a process that truncates a file that is written to.
fn drop_nuls(bytes: &mut Vec<u8>, from: usize) {
    if memchr::memchr(0, &bytes[from..]).is_some() {
        let fresh = bytes.split_off(from);
        bytes.extend(fresh.into_iter().filter(|byte| *byte != 0));
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn all(bytes: Vec<u8>) -> (Vec<Piece>, Option<io::Error>) {
        let mut pieces = Pieces::open(0, Box::new(io::Cursor::new(bytes))).expect("it opens");
        let (mut found, mut failed) = (Vec::new(), None);
        loop {
            let (piece, error) = pieces.next(Vec::new());
            failed = failed.or(error);
            match piece {
                Some(piece) => found.push(piece),
                None => return (found, failed),
            }
        }
    }

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(text).expect("write to memory");
        encoder.finish().expect("write to memory")
    }

    #[test]
    fn pieces_are_the_whole_text_and_end_with_a_line() {
        let text: Vec<u8> = (0..400_000).flat_map(|n| format!("line {n}\n").into_bytes()).collect();
        for bytes in
            [text.clone(), gzip(&text), [gzip(&text[..1000]), gzip(&text[1000..])].concat()]
        {
            let (pieces, error) = all(bytes);
            assert!(error.is_none() && pieces.len() > 3);
            assert!(pieces.iter().all(|piece| piece.bytes.ends_with(b"\n")));
            assert_eq!(
                pieces.iter().flat_map(|piece| piece.bytes.clone()).collect::<Vec<_>>(),
                text
            );
        }
    }

    #[test]
    fn a_broken_gzip_gives_what_came_before() {
        let text: Vec<u8> = (0..400_000).flat_map(|n| format!("line {n}\n").into_bytes()).collect();
        let mut bytes = gzip(&text);
        bytes.truncate(bytes.len() / 2);
        let (pieces, error) = all(bytes);
        let read: Vec<u8> = pieces.iter().flat_map(|piece| piece.bytes.clone()).collect();
        assert!(error.is_some() && read.len() > 100_000 && text.starts_with(&read));
    }

    #[test]
    fn nuls_are_passed_over_wherever_they_are() {
        let mut text = vec![0; 3 << 20];
        text.extend_from_slice(b"o\0ne\n\0\0two");
        let (pieces, error) = all(text);
        assert!(error.is_none());
        assert_eq!(
            pieces.iter().flat_map(|piece| piece.bytes.clone()).collect::<Vec<_>>(),
            b"one\ntwo"
        );
    }

    #[test]
    fn what_a_platform_cut_is_put_together_across_pieces() {
        let cri = |tag: &str, text: &str| format!("2026-01-15T09:30:00Z stdout {tag} {text}\n");
        let record = |n: usize| [cri("P", &format!("<{n}")), cri("P", "-"), cri("F", ">")].concat();
        let text: String = (0..30_000).map(record).collect();
        let (pieces, _) = all(text.into_bytes());
        assert!(pieces.len() > 2);
        let text = pieces.into_iter().flat_map(|piece| piece.bytes).collect();
        let text = String::from_utf8(text).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 90_000);
        for (n, line) in lines.chunks(3).enumerate() {
            assert!(line[0].is_empty() && line[1].is_empty());
            assert!(line[2].ends_with(&format!(" <{n}->")), "{line:?}");
        }
    }

    #[test]
    fn a_line_without_end_is_cut_and_the_next_one_is_read() {
        let mut text = vec![b'x'; 5 << 20];
        text.extend_from_slice(b"\nnext\n");
        let (pieces, error) = all(text);
        assert!(error.is_none());
        assert_eq!(pieces[0].bytes.len(), LINE_BYTES);
        assert!(pieces[0].overlong);
        assert_eq!(pieces[1].bytes, b"next\n");
        assert_eq!(pieces.len(), 2);
        assert!(all(Vec::new()).0.is_empty());
    }
}
