//! The tests' launcher.

use std::process::ExitCode;

fn main() -> ExitCode {
    bulkhead_tools::serve()
}
