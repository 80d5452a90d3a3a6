//! Why git failed, from how it ended and its words.

use crate::error::Error;
use crate::output::Output;
use crate::run::{End, Finished};

/// Bytes of git's words that an error keeps.
const MAX_WORDS: usize = 2048;

/// The error that a call of git stands for.
pub(crate) fn of(command: &'static str, finished: &Finished) -> Error {
    let words = last_words(&finished.stderr);
    match finished.end {
        End::Deadline => Error::Timeout(command),
        end => of_words(&words).unwrap_or_else(|| Error::GitFailed {
            command,
            status: end.to_string(),
            words,
        }),
    }
}

/// The error behind a status that is an answer, but not the one that the caller can use.
pub(crate) fn of_status(command: &'static str, output: &Output) -> Error {
    let words = last_words(&output.stderr);
    let status = End::Exited(output.status).to_string();
    of_words(&words).unwrap_or(Error::GitFailed { command, status, words })
}

/// Whether git did not end by itself, so that it may have left locks behind.
pub(crate) fn was_killed(outcome: &Result<Output, Error>) -> bool {
    match outcome {
        Ok(output) => output.cut,
        Err(Error::Timeout(_) | Error::TooLarge { .. } | Error::Full(_) | Error::Sandbox(_)) => {
            true
        }
        Err(Error::GitFailed { status, .. }) => !status.starts_with("status "),
        Err(_) => false,
    }
}

fn of_words(words: &str) -> Option<Error> {
    // What the remote says itself proves nothing.
    let own = || words.lines().filter(|line| !line.starts_with("remote:"));
    let find = |signs: &[&str]| {
        own().find(|line| signs.iter().any(|sign| line.contains(sign))).map(str::to_owned)
    };
    // Git names no reason where it cannot write its index or a ref.
    const DISK: &[&str] =
        &["No space left on device", "Disk quota exceeded", "Out of diskspace", "couldn't write '"];
    const REFUSED: &[&str] = &[
        "Authentication failed",
        "could not read Username",
        "could not read Password",
        "unable to get password from user",
        "returned error: 401",
        "returned error: 403",
    ];
    const ABSENT: &[&str] =
        &["returned error: 404", "' not found", "does not appear to be a git repository"];
    const SLOW: &[&str] = &["Operation too slow", "Timeout was reached", "timed out"];
    const LOCKED: &[&str] = &[".lock': File exists"];
    find(DISK)
        .map(Error::NoSpace)
        .or_else(|| find(REFUSED).map(Error::Unauthorized))
        .or_else(|| find(ABSENT).map(Error::NotFound))
        .or_else(|| find(SLOW).map(|_| Error::Timeout("the remote")))
        .or_else(|| find(LOCKED).map(|line| Error::Locked(locked(&line))))
}

/// `fatal: Unable to create '<path>.lock': File exists.`
fn locked(line: &str) -> String {
    let path = line.split_once('\'').and_then(|(_, rest)| rest.split_once("': File exists"));
    path.map_or_else(|| line.to_owned(), |(path, _)| format!("the repository ({path} is there)"))
}

/// The end of what git wrote to stderr, without progress.
pub(crate) fn last_words(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let lines: Vec<_> = text
        .lines()
        .map(|line| line.rsplit('\r').next().unwrap_or_default().trim_end())
        .filter(|line| !line.is_empty() && !line.contains("% ("))
        .collect();
    let words = lines.join("\n");
    let mut start = words.len().saturating_sub(MAX_WORDS);
    while !words.is_char_boundary(start) {
        start += 1;
    }
    words[start..].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(end: End, stderr: &str) -> &'static str {
        let stderr = stderr.as_bytes().to_vec();
        of("fetch", &Finished { end, stdout: Vec::new(), stderr, cut: false }).code()
    }

    #[test]
    fn words_of_git_have_a_kind_and_those_of_the_remote_have_none() {
        let failed = |words| code(End::Exited(128), words);
        assert_eq!(failed("fatal: Authentication failed for 'http://x/'"), "unauthorized");
        assert_eq!(
            failed("fatal: unable to access 'x': The requested URL returned error: 403"),
            "unauthorized"
        );
        assert_eq!(failed("fatal: repository 'http://x/y/' not found"), "not-found");
        assert_eq!(failed("fatal: write error: No space left on device"), "no-space");
        let index = "fatal: sha1 file '/w/.git/index.lock' write error. Out of diskspace";
        assert_eq!(failed(index), "no-space");
        let of_ref = "fatal: cannot update ref 'refs/x': couldn't write '/m/refs/x.lock'";
        assert_eq!(failed(of_ref), "no-space");
        assert_eq!(failed("fatal: Unable to create '/w/.git/index.lock': File exists."), "locked");
        let stderr =
            b"fatal: Unable to create '/w/.git/index.lock': File exists.\n\nAnother git".to_vec();
        let end = End::Exited(128);
        let locked = of("add", &Finished { end, stdout: Vec::new(), stderr, cut: false });
        let expected = "the repository (/w/.git/index.lock is there) is in use";
        assert_eq!(locked.to_string(), expected);
        assert_eq!(failed("remote: Authentication failed\nfatal: early EOF"), "git-failed");
        assert_eq!(code(End::Deadline, "remote: x"), "timeout");
        assert_eq!(code(End::Signalled(9), ""), "git-failed");
    }

    #[test]
    fn last_words_are_bounded_and_without_progress() {
        let progress =
            "Receiving objects:   1% (1/100)\rReceiving objects:   2% (2/100)\rfatal: early EOF\n";
        assert_eq!(last_words(progress.as_bytes()), "fatal: early EOF");
        let many = "é".repeat(3000);
        let words = last_words(many.as_bytes());
        assert!(words.len() <= MAX_WORDS && words.ends_with("éé"), "{}", words.len());
    }
}
