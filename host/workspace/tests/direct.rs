//! All cases with git as a plain process.

#[cfg(test)]
mod cases;
#[cfg(test)]
mod support;
