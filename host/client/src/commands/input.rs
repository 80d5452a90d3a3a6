//! Texts that come from an argument, from stdin or from a file.

use std::io::Read;
use std::path::Path;

/// Reads `text`, or stdin when it is `-`. Stdin is read up to one byte more than `most`, so that the
/// check of the length sees it.
pub(super) fn text_or_stdin(text: &str, what: &str, most: usize) -> Result<String, String> {
    let text = if text == "-" { stdin(what, most)? } else { text.to_owned() };
    if text.is_empty() {
        return Err(format!("{what} is empty"));
    }
    if text.len() > most {
        return Err(format!("{what} is longer than {most} bytes"));
    }
    Ok(text)
}

/// Reads a file, or stdin when its name is `-`, up to `most` bytes.
pub(super) fn file_or_stdin(path: &Path, what: &str, most: usize) -> Result<String, String> {
    let text = if path == Path::new("-") {
        stdin(what, most)?
    } else {
        let shown = path.display();
        let problem = |error| format!("cannot read {what} {shown}: {error}");
        let file = std::fs::File::open(path).map_err(problem)?;
        let mut text = String::new();
        file.take(most as u64 + 1).read_to_string(&mut text).map_err(problem)?;
        text
    };
    if text.len() > most { Err(format!("{what} is longer than {most} bytes")) } else { Ok(text) }
}

fn stdin(what: &str, most: usize) -> Result<String, String> {
    let mut text = String::new();
    let read = std::io::stdin().lock().take(most as u64 + 1).read_to_string(&mut text);
    read.map_err(|error| format!("cannot read {what} from stdin: {error}"))?;
    Ok(text)
}
