//! Many streams of files at once.

use bulkhead_guest::AgentError;
use wasip2::filesystem::preopens::get_directories;
use wasip2::filesystem::types::{Descriptor, DescriptorFlags, OpenFlags, PathFlags};
use wasip2::io::streams::StreamError;

/// What is written to a file: one piece.
const BYTES: usize = 4096;

/// Writes `count` files and reads them again. All streams are under way before one is waited for. Returns how many
/// files hold what was written to them.
pub fn write_and_read(count: usize) -> Result<usize, AgentError> {
    let (root, _) = get_directories().pop().ok_or_else(|| failed("no directory"))?;
    let open = |number| {
        let flags = DescriptorFlags::READ | DescriptorFlags::WRITE;
        let path = format!("stream-{number}");
        root.open_at(PathFlags::empty(), &path, OpenFlags::CREATE | OpenFlags::TRUNCATE, flags)
    };
    let files = (0..count).map(open).collect::<Result<Vec<_>, _>>().map_err(failed)?;
    write(&files)?;
    read(&files)
}

fn write(files: &[Descriptor]) -> Result<(), AgentError> {
    let streams = files.iter().map(|file| file.write_via_stream(0));
    let streams = streams.collect::<Result<Vec<_>, _>>().map_err(failed)?;
    for (number, stream) in streams.iter().enumerate() {
        stream.check_write().map_err(failed)?;
        stream.write(&[number as u8; BYTES]).map_err(failed)?;
        stream.flush().map_err(failed)?;
    }
    for stream in &streams {
        while stream.check_write().map_err(failed)? == 0 {
            stream.subscribe().block();
        }
    }
    Ok(())
}

fn read(files: &[Descriptor]) -> Result<usize, AgentError> {
    let streams = files.iter().map(|file| file.read_via_stream(0));
    let streams = streams.collect::<Result<Vec<_>, _>>().map_err(failed)?;
    let mut read = vec![Vec::new(); files.len()];
    loop {
        let mut open = None;
        for (stream, bytes) in streams.iter().zip(&mut read) {
            match stream.read(BYTES as u64) {
                Ok(more) => {
                    bytes.extend(more);
                    open = open.or(Some(stream));
                }
                Err(StreamError::Closed) => {}
                Err(error) => return Err(failed(error)),
            }
        }
        let Some(stream) = open else { break };
        stream.subscribe().block();
    }
    let is_right = |(number, bytes): &(usize, &Vec<u8>)| **bytes == [*number as u8; BYTES];
    Ok(read.iter().enumerate().filter(is_right).count())
}

fn failed(error: impl std::fmt::Debug) -> AgentError {
    AgentError::failed("streams", format!("{error:?}"))
}
