//! Which numbered lines of a run were seen: to drop doubles and to count losses.

use std::collections::HashMap;

use super::names::Name;

const PAGE_BITS: u64 = 4096;
const WORDS: usize = 64;

/// 12 MiB, for some 50 million lines in order. Past it, doubles are not recognized.
const MAX_PAGES: usize = 12 << 10;

struct Page {
    lines: [u64; WORDS],
    findings: [u64; WORDS],
}

/// Numbers of lines, by run.
#[derive(Default)]
pub struct Seqs(HashMap<(Name, u64), Box<Page>>);

impl Seqs {
    fn page(&mut self, run: Name, seq: u64) -> Option<&mut Page> {
        let full = self.0.len() >= MAX_PAGES;
        let key = (run, seq / PAGE_BITS);
        if full && !self.0.contains_key(&key) {
            return None;
        }
        let empty = || Box::new(Page { lines: [0; WORDS], findings: [0; WORDS] });
        Some(self.0.entry(key).or_insert_with(empty))
    }

    /// Notes a line, and says whether it is the first of its number.
    pub fn line(&mut self, run: Name, seq: u64) -> bool {
        self.page(run, seq).is_none_or(|page| set(&mut page.lines, seq))
    }

    /// The same for a line that the rules may want.
    pub fn finding(&mut self, run: Name, seq: u64) -> bool {
        self.page(run, seq).is_none_or(|page| set(&mut page.findings, seq))
    }
}

fn set(words: &mut [u64; WORDS], seq: u64) -> bool {
    let bit = seq % PAGE_BITS;
    let (word, mask) = (&mut words[(bit / 64) as usize], 1 << (bit % 64));
    let new = *word & mask == 0;
    *word |= mask;
    new
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collect::names::Names;

    #[test]
    fn a_number_is_new_once_for_each_run() {
        let mut names = Names::with_max(2);
        let (a, b) = (names.keep("a").unwrap(), names.keep("b").unwrap());
        let mut seqs = Seqs::default();
        for seq in [0, 1, 63, 64, 4095, 4096, u64::MAX] {
            assert!(seqs.line(a, seq) && !seqs.line(a, seq));
            assert!(seqs.line(b, seq) && seqs.finding(a, seq) && !seqs.finding(a, seq));
        }
    }
}
