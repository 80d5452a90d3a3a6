//! All cases with git in the sandbox of native programs, with the layers that this machine has.

#[cfg(test)]
mod cases;
#[cfg(test)]
mod support;
