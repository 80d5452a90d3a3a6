//! Lines of an answer that comes in pieces.

/// Cuts an answer into lines, wherever its pieces end.
#[derive(Default)]
pub struct Lines(Vec<u8>);

impl Lines {
    /// Hands on each line that is whole, without its `\n`, and keeps the rest for the next piece.
    pub fn take(&mut self, bytes: &[u8], mut each: impl FnMut(&[u8])) {
        self.0.extend_from_slice(bytes);
        let mut taken = 0;
        while let Some(end) = self.0[taken..].iter().position(|byte| *byte == b'\n') {
            each(&self.0[taken..taken + end]);
            taken += end + 1;
        }
        self.0.drain(..taken);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_the_same_wherever_an_answer_is_cut() {
        let answer = b"event: delta\ndata: {}\n\nevent: delta\ndata: {";
        for cut in 0..=answer.len() {
            let (mut lines, mut seen) = (Lines::default(), Vec::new());
            for piece in [&answer[..cut], &answer[cut..]] {
                lines.take(piece, |line| seen.push(String::from_utf8(line.to_vec()).unwrap()));
            }
            assert_eq!(seen, ["event: delta", "data: {}", "", "event: delta"], "cut at {cut}");
        }
    }
}
