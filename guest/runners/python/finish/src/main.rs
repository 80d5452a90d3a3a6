//! Links and changes the component that componentize-py makes: `finish COMPONENT OUTPUT`.
//!
//! Its modules become one ([`link`]), which frees what it passes to the host ([`free_lists`]), and does not count references to
//! objects of its image ([`immortal`]).

mod component;
mod encode;
mod free_lists;
mod image;
mod immortal;
mod link;
mod module;
mod program;
#[cfg(test)]
mod tests;
mod used;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use component::Component;
use link::Linker;

fn main() -> ExitCode {
    let paths: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [from, to] = paths.as_slice() else {
        eprintln!("usage: finish COMPONENT OUTPUT");
        return ExitCode::from(2);
    };
    let done = fs::read(from)
        .context("it cannot be read")
        .and_then(|component| finished(&component))
        .with_context(|| from.display().to_string())
        .and_then(|component| fs::write(to, component).with_context(|| to.display().to_string()));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn finished(component: &[u8]) -> Result<Vec<u8>> {
    wasmparser::validate(component)?;
    let component = Component::parse(component)?;
    let mut linker = Linker::new(&component)?;
    free_lists::change(&mut linker.program)?;
    immortal::change(&mut linker.program.image)?;
    linker.finish()
}
