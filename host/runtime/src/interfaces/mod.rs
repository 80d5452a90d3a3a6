//! One file for each interface that the host gives to guests.

pub(crate) mod body;
pub(crate) mod exceptions;
pub(crate) mod files;
pub(crate) mod host;
pub(crate) mod http;
pub(crate) mod model;
pub(crate) mod random;
pub(crate) mod runner;
pub(crate) mod stdio;
pub(crate) mod tools;
pub(crate) mod workspace;
