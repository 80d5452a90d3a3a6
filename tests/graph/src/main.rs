//! Prints the import graph of `host/`, and fails where it has a cycle: see `just graph`.

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use graph::{Crate, cycles, floors};

fn main() -> ExitCode {
    let host = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../host"));
    let crates = match Crate::all(host) {
        Ok(crates) => crates,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(2);
        }
    };
    println!("crates, from the top floor down; each sees only floors below its own");
    for (floor, names) in floors(&crates).iter().enumerate().rev() {
        println!("{floor:>3}  {}", names.join(", "));
    }
    let mut found = 0;
    println!("\nfiles and the imports between them");
    for of in &crates {
        let cycles = cycles(&of.imports);
        found += cycles.len();
        println!(
            "  {:<11} {:>3} files, {:>3} imports, {} cycles",
            of.name,
            of.files,
            of.arrows(),
            cycles.len()
        );
        if std::env::args().any(|argument| argument == of.name) {
            of.describe(&of.imports.keys().cloned().collect())
                .for_each(|arrow| println!("      {arrow}"));
        }
        for cycle in cycles {
            print!(
                "{}",
                of.describe(&cycle).fold(String::new(), |mut text, arrow| {
                    let _ = writeln!(text, "      {arrow}");
                    text
                })
            );
        }
    }
    if found == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
