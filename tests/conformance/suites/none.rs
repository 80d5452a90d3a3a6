//! Nothing is here: see the manifest.
