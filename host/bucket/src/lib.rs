//! Small documents in a bucket of S3, or of what speaks it, or in a directory.
//!
//! ```text
//!   evidence ─┐                                            signatures, regions, credentials
//!   lease ────┼─▶ Bucket: get, list, put, put on a condition, remove ─▶ object_store ─▶ net::Exchanges ─▶ server
//!   ship ─────┘
//! ```
//!
//! - `address`: `s3://bucket/prefix`, and names that are one part of a key
//! - `bucket`: the calls of a bucket
//! - `directory`: the same in a directory
//! - `fault`: why one failed

mod address;
mod bucket;
mod directory;
mod fault;

pub use address::{Name, NameError, OptionError, S3, S3Error};
pub use bucket::{Bucket, Limits, Object, Page, Put};
pub use directory::{Directory, DirectoryRules};
pub use fault::{Cause, Fault};
