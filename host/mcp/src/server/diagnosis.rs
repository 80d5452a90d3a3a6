//! What the tools that diagnose logs do. They need no host.

use bulkhead_diagnose::{Input, Options};
use bulkhead_terminal::words::quoted;

use super::arguments::{LogFiles, LogText};
use super::away;
use crate::result::Content;

/// Longest log that is sent to be diagnosed, in bytes.
pub(super) const MAX_LOG_BYTES: usize = 1024 * 1024;

/// Log files of one diagnosis.
const MAX_FILES: usize = 64;

/// Columns of a diagnosis.
const COLUMNS: usize = 100;

pub(super) async fn of_text(LogText { log, town }: LogText) -> Result<Content, String> {
    if log.len() > MAX_LOG_BYTES {
        return Err(format!(
            "the log has {} bytes, at most {MAX_LOG_BYTES} are read: send the last lines before each restart",
            log.len()
        ));
    }
    let input = Input::new("log", std::io::Cursor::new(log));
    away(move || diagnosed(vec![input], town)).await
}

pub(super) async fn of_files(LogFiles { paths, town }: LogFiles) -> Result<Content, String> {
    if paths.is_empty() || paths.len() > MAX_FILES {
        return Err(format!("paths must name 1 to {MAX_FILES} files"));
    }
    away(move || {
        let open = |path: &String| {
            let failed = |error: std::io::Error| format!("cannot read {}: {error}", quoted(path));
            // Of a pipe or a device nobody knows when it ends.
            if !std::fs::metadata(path).map_err(failed)?.is_file() {
                return Err(format!("{} is not a file", quoted(path)));
            }
            Ok(Input::new(path.clone(), std::fs::File::open(path).map_err(failed)?))
        };
        let inputs = paths.iter().map(open).collect::<Result<_, _>>()?;
        diagnosed(inputs, town)
    })
    .await
}

fn diagnosed(inputs: Vec<Input>, town: Option<String>) -> Result<Content, String> {
    let options = Options { town, ..Options::default() };
    let report = bulkhead_diagnose::diagnose(inputs, &options, |_| {});
    let report =
        report.map_err(|error| bulkhead_printable::line(&error.to_string()).into_owned())?;
    Ok(Content::with_quotes(report.text(COLUMNS)))
}
