//! Small documents in a bucket of S3, or of what speaks it.
//!
//! ```text
//!   evidence ─┐                                            signatures, regions, credentials
//!   lease ────┼─▶ Bucket: get, list, put, put on a condition, remove ─▶ object_store ─▶ net::Exchanges ─▶ server
//!   ship ─────┘
//! ```
//!
//! - `address`: `s3://bucket/prefix`, and names that are one part of a key
//! - `bucket`: the calls
//! - `fault`: why one failed

mod address;
mod bucket;
mod fault;

pub use address::{Name, NameError, S3, S3Error};
pub use bucket::{Bucket, Limits, Object, Page, Put};
pub use fault::{Cause, Fault};
