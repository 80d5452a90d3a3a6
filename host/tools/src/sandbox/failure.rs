//! What went wrong on the way into the sandbox.

use std::io;

use rustix::io::Errno;
use serde::{Deserialize, Serialize};

/// A step that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What was done, in the present tense.
    pub step: String,
    /// The kernel's answer.
    pub errno: i32,
}

impl Failure {
    /// With the kernel's words.
    pub fn reason(&self) -> String {
        format!("{}: {}", self.step, io::Error::from_raw_os_error(self.errno))
    }
}

/// Says which step an error belongs to.
pub trait During<T> {
    /// `step` is in the present tense.
    fn during(self, step: impl Into<String>) -> Result<T, Failure>;
}

impl<T> During<T> for rustix::io::Result<T> {
    fn during(self, step: impl Into<String>) -> Result<T, Failure> {
        self.map_err(|errno| Failure { step: step.into(), errno: errno.raw_os_error() })
    }
}

impl<T> During<T> for io::Result<T> {
    fn during(self, step: impl Into<String>) -> Result<T, Failure> {
        let errno = |error: io::Error| error.raw_os_error().unwrap_or(Errno::IO.raw_os_error());
        self.map_err(|error| Failure { step: step.into(), errno: errno(error) })
    }
}
