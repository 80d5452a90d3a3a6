//! Texts that come from an argument, from stdin or from a file.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use bulkhead_terminal::words::bytes;

/// What is read at most of a text that is too long, only to say how long it is.
const COUNTED: u64 = 64 << 20;

/// Reads `text`, or stdin when it is `-`.
pub(super) fn text_or_stdin(text: &str, what: &str, most: usize) -> Result<String, String> {
    let text = match text {
        "-" => read(io::stdin().lock(), what, "stdin", most)?,
        text if text.len() > most => return Err(too_long(what, most, text.len() as u64)),
        text => text.to_owned(),
    };
    if text.is_empty() { Err(format!("{what} is empty")) } else { Ok(text) }
}

/// Reads a file, or stdin when its name is `-`, up to `most` bytes.
pub(super) fn file_or_stdin(path: &Path, what: &str, most: usize) -> Result<String, String> {
    if path == Path::new("-") {
        return read(io::stdin().lock(), what, "stdin", most);
    }
    let shown = path.display();
    let file = File::open(path).map_err(|error| format!("cannot read {what} {shown}: {error}"))?;
    read(file, what, &shown.to_string(), most)
}

fn read(mut from: impl Read, what: &str, name: &str, most: usize) -> Result<String, String> {
    let problem = |error| format!("cannot read {what} from {name}: {error}");
    let mut text = Vec::new();
    from.by_ref().take(most as u64 + 1).read_to_end(&mut text).map_err(problem)?;
    if text.len() > most {
        let more = io::copy(&mut from.take(COUNTED), &mut io::sink()).map_err(problem)?;
        return Err(too_long(what, most, text.len() as u64 + more));
    }
    let wrong = |_| problem(io::Error::other("it is not UTF-8"));
    String::from_utf8(text).map_err(wrong)
}

fn too_long(what: &str, most: usize, has: u64) -> String {
    let most = bytes(most as u64);
    match has {
        has if has > COUNTED => {
            format!("{what} is longer than {most}: it has more than {}", bytes(COUNTED))
        }
        has => format!("{what} is longer than {most}: it has {has} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_says_nothing_or_too_much_is_refused_and_says_how_long_it_is() {
        let refused = |text: &str| text_or_stdin(text, "the message", 1 << 20).unwrap_err();
        assert_eq!(refused(""), "the message is empty");
        let long = "x".repeat((1 << 20) + 7);
        assert_eq!(refused(&long), "the message is longer than 1 MiB: it has 1048583 bytes");
        assert_eq!(text_or_stdin(" a ", "the message", 3).as_deref(), Ok(" a "));
    }

    #[test]
    fn what_comes_from_elsewhere_is_counted_as_far_as_it_goes() {
        let refused = |from: &[u8]| read(from, "the prompt", "stdin", 4).unwrap_err();
        // The bound is in the middle of a character.
        assert_eq!(
            refused("abcd\u{e9}f".as_bytes()),
            "the prompt is longer than 4 bytes: it has 7 bytes"
        );
        assert_eq!(refused(b"ab\xff"), "cannot read the prompt from stdin: it is not UTF-8");
        let endless = read(io::repeat(b'x'), "the prompt", "stdin", 4).unwrap_err();
        assert_eq!(endless, "the prompt is longer than 4 bytes: it has more than 64 MiB");
    }
}
