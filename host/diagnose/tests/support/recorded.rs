//! Lines that the real host wrote, with what was done to it: `tests/diagnose_corpus.rs` of the workspace records them.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::Path;

use flate2::read::MultiGzDecoder;

use super::{Line, Log, Truth, Which};

/// All recorded towns.
pub fn all() -> Vec<Log> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let mut logs = Vec::new();
    for entry in fs::read_dir(&dir).expect("the corpus is there").flatten() {
        let path = entry.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let Some(town) = name.strip_suffix(".jsonl.gz") else { continue };
        let labels = fs::read(dir.join(format!("{town}.labels.json"))).expect("it has labels");
        let labels: BTreeMap<String, Vec<String>> =
            serde_json::from_slice(&labels).expect("the labels are JSON");
        let file = fs::File::open(&path).expect("open the corpus");
        let mut text = Vec::new();
        MultiGzDecoder::new(file).read_to_end(&mut text).expect("read the corpus");
        let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let lines = lines.map(|line| Line { ts: 0, text: line.to_vec(), outside: false }).collect();
        let truths = labels
            .into_iter()
            .map(|(run, labels)| Truth { which: Which::Run(run), labels })
            .collect();
        logs.push(Log { town: town.to_owned(), lines, truths });
    }
    logs.sort_by(|a, b| a.town.cmp(&b.town));
    logs
}
