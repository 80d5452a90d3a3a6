//! What small file calls take.

use std::fs::{self, File, OpenOptions};
use std::hint::black_box;
use std::io::{self, Read, Seek, Write};
use std::path::Path;
use std::time::Instant;

use wasip2::filesystem::preopens::get_directories;
use wasip2::filesystem::types::{Descriptor, DescriptorFlags, OpenFlags, PathFlags};
use wasip2::io::streams::{InputStream, StreamError};

const KIB: usize = 1024;

/// Makes `count` calls of each kind and prints a line `calls: KIND NANOSECONDS` for each.
pub fn measure(dir: &Path, count: u32) -> io::Result<()> {
    let (file, other) = (dir.join("calls"), dir.join("other"));
    fs::write(&file, [1; 64 * KIB])?;
    time("stat", count, |_| fs::metadata(&file).map(drop))?;
    time("open", count, |_| File::open(&file).map(drop))?;
    time("create and remove", count, |_| {
        File::create(&other)?;
        fs::remove_file(&other)
    })?;
    time("rename", count, |n| match n % 2 {
        0 => fs::rename(&file, &other),
        _ => fs::rename(&other, &file),
    })?;
    let mut open = OpenOptions::new().read(true).write(true).open(&file)?;
    time("fstat", count, |_| open.metadata().map(drop))?;
    let mut bytes = [0; KIB];
    time("read 1 KiB", count, |n| {
        if n % 64 == 0 {
            open.rewind()?;
        }
        open.read_exact(black_box(&mut bytes))
    })?;
    time("write 1 KiB", count, |n| {
        if n % 64 == 0 {
            open.rewind()?;
        }
        open.write_all(black_box(&bytes))
    })?;
    let file = open_without_std("calls")?;
    let mut stream = begin(&file)?;
    time("read 1 KiB without waiting", count, |n| {
        if n % 64 == 0 {
            stream = begin(&file)?;
        }
        read_when_ready(&stream, KIB).map(drop)
    })?;
    time("write and read a file", count, |_| {
        fs::write(&other, bytes)?;
        fs::read(&other).map(|read| assert_eq!(read, bytes))
    })?;
    time("list", count, |_| fs::read_dir(dir)?.try_for_each(|entry| entry.map(drop)))
}

/// Rust's standard library reads in calls that wait. This file is read as programs do that wait for several things.
fn open_without_std(name: &str) -> io::Result<Descriptor> {
    let (root, _) = get_directories().pop().ok_or(io::ErrorKind::NotFound)?;
    let flags = DescriptorFlags::READ;
    root.open_at(PathFlags::empty(), name, OpenFlags::empty(), flags).map_err(failed)
}

fn begin(file: &Descriptor) -> io::Result<InputStream> {
    file.read_via_stream(0).map_err(failed)
}

/// Waits, and only where there is nothing yet.
fn read_when_ready(stream: &InputStream, size: usize) -> io::Result<Vec<u8>> {
    loop {
        match stream.read(size as u64) {
            Ok(bytes) if bytes.is_empty() => stream.subscribe().block(),
            Ok(bytes) => return Ok(bytes),
            Err(StreamError::Closed) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Err(error) => return Err(failed(error)),
        }
    }
}

fn failed(error: impl std::fmt::Debug) -> io::Error {
    io::Error::other(format!("{error:?}"))
}

/// An even number of calls, so that a rename ends where it began.
fn time(name: &str, count: u32, mut call: impl FnMut(u32) -> io::Result<()>) -> io::Result<()> {
    let count = count.next_multiple_of(2);
    let began = Instant::now();
    for n in 0..count {
        call(n)?;
    }
    println!("calls: {name} {}", began.elapsed().as_nanos() / u128::from(count));
    Ok(())
}
