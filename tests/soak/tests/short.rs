//! A soak of some rounds: `just soak` runs it for as long as wanted.

use std::process::Command;

#[test]
fn a_short_soak_finds_nothing() {
    let mut soak = Command::new(env!("CARGO_BIN_EXE_soak"));
    soak.args(["--rounds", "3", "--round-ms", "2000"]);
    soak.args(["--only", "none", "--only", "kill-in-boot", "--only", "kill-in-drain"]);
    let output = soak.output().expect("run the soak");
    let (stdout, stderr) = (&output.stdout, &output.stderr);
    let text = format!("{}{}", String::from_utf8_lossy(stdout), String::from_utf8_lossy(stderr));
    println!("{text}");
    assert!(output.status.success(), "it found something: {text}");
}
