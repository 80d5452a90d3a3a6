//! Fills its workspace.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use crate::KIB;

const WORKSPACE: &str = "/workspace";

/// Writes `kib` to each of `count` new files. Says how many KiB found room.
pub fn fill(kib: usize, count: usize) -> String {
    let mut filled = 0;
    for number in 0..count {
        let path = Path::new(WORKSPACE).join(format!("fill-{number}"));
        let file = OpenOptions::new().create(true).append(true).open(path);
        if let Err(error) = file.and_then(|mut file| fill_one(&mut file, kib, &mut filled)) {
            return said(filled, &error);
        }
    }
    filled.to_string()
}

fn fill_one(file: &mut File, kib: usize, filled: &mut usize) -> io::Result<()> {
    for _ in 0..kib / 64 {
        file.write_all(&[1; 64 * KIB])?;
        *filled += 64;
    }
    Ok(())
}

/// The same with a file that is removed first, and stays open.
pub fn unlinked(kib: usize) -> (Option<File>, String) {
    let path = Path::new(WORKSPACE).join("unlinked");
    let mut filled = 0;
    let made = File::create_new(&path).and_then(|file| fs::remove_file(&path).map(|()| file));
    let mut file = match made {
        Ok(file) => file,
        Err(error) => return (None, said(0, &error)),
    };
    let reply = match fill_one(&mut file, kib, &mut filled) {
        Ok(()) => filled.to_string(),
        Err(error) => said(filled, &error),
    };
    (Some(file), reply)
}

/// Makes `count` empty files. Says how many there was room for.
pub fn make(count: usize) -> String {
    for number in 0..count {
        if let Err(error) = File::create(Path::new(WORKSPACE).join(format!("make-{number}"))) {
            return said(number, &error);
        }
    }
    count.to_string()
}

/// Removes what is in the workspace. Returns what is left.
pub fn empty() -> io::Result<usize> {
    for entry in fs::read_dir(WORKSPACE)? {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => fs::remove_dir_all(entry.path())?,
            false => fs::remove_file(entry.path())?,
        }
    }
    Ok(fs::read_dir(WORKSPACE)?.count())
}

/// Makes directories `count` deep and removes them.
pub fn deep(count: usize) -> String {
    let root = Path::new(WORKSPACE).join("deep");
    let leaf = (0..count).fold(root.clone(), |path, _| path.join("d"));
    match fs::create_dir_all(leaf).and_then(|()| fs::remove_dir_all(root)) {
        Ok(()) => count.to_string(),
        Err(error) => said(0, &error),
    }
}

/// Opens a file.
pub fn open(name: &str) -> String {
    match File::open(Path::new(WORKSPACE).join(name)) {
        Ok(_) => "open".to_owned(),
        Err(error) => error.to_string(),
    }
}

fn said(count: usize, error: &io::Error) -> String {
    format!("{count}: {error}")
}
