//! Components from an OCI registry, by digest: fetched, verified, kept.
//!
//! ```text
//!   oci://registry/repository@sha256:HEX
//!        │
//!        ├─ kept? ── digests and signature are right ──────────────────────────▶ file
//!        │
//!        └─▶ manifest ─▶ its one layer of WebAssembly ─▶ digest ─▶ signature ──▶ file
//!            (one download, however many wait for it; tried again until a deadline)
//! ```
//!
//! Bytes are believed for their digest, never for who sent them: a registry, a proxy or a cache can withhold a component
//! and cannot change it. A [`PublicKey`] says who has to have signed the digest.
//!
//! - `reference`: which component
//! - `settings`, `login`: where from, as whom, within which bounds
//! - [`Registries`]: the way from a reference to a file
//! - `session`: one registry: tokens, redirects, statuses; `challenge`: what it wants to see
//! - `exchange`: HTTP on a connection of the host's own
//! - `manifest`: which layer is the component
//! - `download`, `tries`: bytes with a digest, and when to ask again
//! - `signature`: what cosign stores
//! - `cache`, `place`: what is kept, and where

mod cache;
mod challenge;
mod download;
mod exchange;
mod failure;
mod login;
mod manifest;
mod place;
mod reference;
mod registries;
mod session;
mod settings;
mod signature;
mod tries;

pub use failure::{Cause, FetchError};
pub use login::Login;
pub use reference::{Reference, ReferenceError, SCHEME};
pub use registries::{Component, Registries};
pub use settings::{Access, Bounds, Settings, Times};
pub use signature::{KeyError, PublicKey};

#[cfg(test)]
mod tests;
