//! Reads logs and prints what is found: the library without the host around it.
//!
//! `cargo run --release -p bulkhead-diagnose --example diagnose -- [--json | --html] LOG...`

use bulkhead_diagnose::{Input, Options, diagnose};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (mut form, mut inputs) = ("text", Vec::new());
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--json" => form = "json",
            "--html" => form = "html",
            path => inputs.push(Input::new(path, std::fs::File::open(path)?)),
        }
    }
    let report = diagnose(inputs, &Options::default(), |_| {})?;
    match form {
        "json" => println!("{}", report.json()),
        "html" => println!("{}", report.html()?),
        _ => print!("{}", report.text(100)),
    }
    Ok(())
}
