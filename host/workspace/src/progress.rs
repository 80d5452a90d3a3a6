//! How far git is, as it reports it on stderr.

use std::sync::Arc;

use crate::run::Watch;

/// Longest line of progress that is read; the rest of a longer one is dropped.
const MAX_LINE: usize = 256;

/// A step of git's work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// What git does, in its own words: `Receiving objects`.
    pub phase: String,
    /// 0 to 100.
    pub percent: u8,
}

/// Takes steps. It is called often, from the task that reads git's output, so it must not block.
pub type OnProgress = Arc<dyn Fn(Progress) + Send + Sync>;

/// Nobody listens.
pub fn silent() -> OnProgress {
    Arc::new(|_| {})
}

/// Reads steps out of pieces of stderr.
pub(crate) fn watch(report: OnProgress) -> Watch {
    let mut line = Vec::new();
    let mut last = None;
    Box::new(move |piece| {
        for byte in piece {
            if !matches!(byte, b'\r' | b'\n') {
                if line.len() < MAX_LINE {
                    line.push(*byte);
                }
                continue;
            }
            let step = parse(&line);
            line.clear();
            if step.is_some() && step != last {
                last.clone_from(&step);
                step.into_iter().for_each(|step| report(step));
            }
        }
    })
}

/// `remote: Counting objects:  42% (3/7)`.
fn parse(line: &[u8]) -> Option<Progress> {
    let line = std::str::from_utf8(line).ok()?;
    let (phase, rest) = line.strip_prefix("remote: ").unwrap_or(line).split_once(": ")?;
    let (percent, _) = rest.trim_start().split_once('%')?;
    let percent = percent.parse().ok().filter(|percent| *percent <= 100)?;
    let is_word = |char: char| char.is_ascii_alphabetic() || char == ' ';
    let is_phase = !phase.is_empty() && phase.chars().all(is_word);
    is_phase.then(|| Progress { phase: phase.to_owned(), percent })
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use super::*;

    #[test]
    fn steps_come_once_each_whatever_the_pieces_are() {
        let text = b"Cloning into 'x'...\nremote: Counting objects:  50% (1/2)\rremote: Counting objects:  50% \
            (1/2)\rReceiving objects: 100% (2/2), 3 KiB | 1 MiB/s, done.\n\x1b]0;: 9%\nEvil: 900% \n";
        for size in [1, 7, text.len()] {
            let steps = Arc::new(Mutex::new(Vec::new()));
            let taken = Arc::clone(&steps);
            let mut watch = watch(Arc::new(move |step: Progress| {
                taken.lock().push((step.phase, step.percent));
            }));
            text.chunks(size).for_each(&mut watch);
            let expected =
                [("Counting objects".to_owned(), 50), ("Receiving objects".to_owned(), 100)];
            assert_eq!(*steps.lock(), expected);
        }
    }
}
