//! Stdout, written so that the next run knows whether it has to begin a new line.
//!
//! A supervisor that is killed while it writes may leave half a line, and one that init restarts has the
//! same stdout: its first line would be glued to the half, and both lost for a reader of lines. A pipe
//! takes up to [`ATOMIC`] bytes whole or not at all, so shorter lines are never cut. A longer one goes in
//! parts, and between the first and the last the black box says so.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;

use bulkhead_blackbox::BlackBox;
use bulkhead_blackbox::{Previous, Run};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::fstat;

/// `PIPE_BUF` of Linux: no writer's bytes are mixed with another's, and none are half-written.
const ATOMIC: usize = 4096;

/// The log's way out.
pub struct Output<W> {
    to: W,
    blackbox: BlackBox,
    /// What was written last did not end a line.
    in_line: bool,
    /// What somebody else wrote last did not.
    owes_newline: bool,
}

/// Stdout. Nothing is buffered here: what `write` took is written.
pub fn stdout(blackbox: BlackBox, owes_newline: bool) -> io::Result<Output<Blocking>> {
    let stdout = io::stdout().as_fd().try_clone_to_owned()?;
    Ok(Output::new(Blocking(stdout.into()), blackbox, owes_newline))
}

/// A file that waits where it says that it would block: the process at the other end of a pipe may have made both
/// ends say so.
pub struct Blocking(File);

impl Write for Blocking {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match self.0.write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    poll(&mut [PollFd::new(&self.0, PollFlags::OUT)], None)?;
                }
                written => return written,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Names the file that stdout is, as long as the machine does not boot.
pub fn identity() -> Option<String> {
    let stat = fstat(io::stdout()).ok()?;
    Some(format!("{}:{}", stat.st_dev, stat.st_ino))
}

/// Whether `previous` left half a line in the file that `run` writes to.
pub fn follows_half_a_line(previous: Option<&Previous>, run: &Run) -> bool {
    previous.is_some_and(|previous| {
        let before = &previous.run;
        previous.in_line
            && run.boot_id.is_some()
            && (&before.boot_id, &before.output) == (&run.boot_id, &run.output)
    })
}

impl<W: Write> Output<W> {
    fn new(to: W, blackbox: BlackBox, owes_newline: bool) -> Self {
        // Until it is paid, a run that comes after this one owes it as well.
        blackbox.is_in_line(owes_newline);
        Self { to, blackbox, in_line: false, owes_newline }
    }
}

impl<W: Write> Write for Output<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.owes_newline {
            self.to.write_all(b"\n")?;
            self.owes_newline = false;
            self.blackbox.is_in_line(false);
        }
        let written = self.to.write(&bytes[..next_part(bytes)])?;
        let in_line = bytes[..written].last().map_or(self.in_line, |last| *last != b'\n');
        if in_line != self.in_line {
            self.in_line = in_line;
            self.blackbox.is_in_line(in_line);
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// As many whole lines as fit into one write, or a part of a long one.
fn next_part(bytes: &[u8]) -> usize {
    let most = &bytes[..bytes.len().min(ATOMIC)];
    most.iter().rposition(|byte| *byte == b'\n').map_or(most.len(), |end| end + 1)
}

#[cfg(test)]
mod tests {
    use bulkhead_blackbox as blackbox;
    use bulkhead_blackbox::{Found, Geometry};

    use super::*;

    /// Keeps each write, and what the black box said right after it; refuses more than `left` bytes.
    struct Kept<'a> {
        writes: Vec<Vec<u8>>,
        left: usize,
        dir: &'a std::path::Path,
        said: Vec<bool>,
    }

    impl Write for Kept<'_> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.said.push(said(self.dir));
            let taken = bytes.len().min(self.left);
            self.left -= taken;
            if taken == 0 {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            self.writes.push(bytes[..taken].to_vec());
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What the next run would read if this one died now.
    fn said(dir: &std::path::Path) -> bool {
        match blackbox::read(dir) {
            Found::Run(previous) => previous.in_line,
            other => panic!("{other:?}"),
        }
    }

    fn with_output<T>(
        left: usize,
        owes_newline: bool,
        test: impl FnOnce(&mut Output<Kept<'_>>) -> T,
    ) -> T {
        let dir = tempfile::tempdir().unwrap();
        let opened = blackbox::open(dir.path(), &Run::default(), Geometry::default());
        let to = Kept { writes: Vec::new(), left, dir: dir.path(), said: Vec::new() };
        test(&mut Output::new(to, opened.blackbox.unwrap(), owes_newline))
    }

    fn line(length: usize) -> Vec<u8> {
        let mut line = vec![b'x'; length - 1];
        line.push(b'\n');
        line
    }

    #[test]
    fn lines_that_fit_are_written_whole_and_a_long_one_in_parts_that_are_reported() {
        let lines = [line(3000), line(1000), line(96), line(1), line(10_000), line(5)];
        with_output(usize::MAX, false, |output| {
            output.write_all(&lines.concat()).unwrap();
            let lengths: Vec<_> = output.to.writes.iter().map(Vec::len).collect();
            assert_eq!(lengths, [4096, 1, 4096, 4096, 1813]);
            assert_eq!(output.to.writes.concat(), lines.concat());
            assert_eq!(output.to.said, [false, false, false, true, true]);
            assert!(!said(output.to.dir));
        });
    }

    #[test]
    fn a_pipe_that_would_block_is_waited_for() {
        let (mut reader, writer) = io::pipe().unwrap();
        let writer = File::from(std::os::fd::OwnedFd::from(writer));
        rustix::fs::fcntl_setfl(&writer, rustix::fs::OFlags::NONBLOCK).unwrap();
        let text = line(1000).repeat(1000);
        let written = text.clone();
        let writing = std::thread::spawn(move || Blocking(writer).write_all(&written));
        let mut read = Vec::new();
        io::Read::read_to_end(&mut reader, &mut read).unwrap();
        writing.join().unwrap().unwrap();
        assert!(read == text, "{} of {} bytes came", read.len(), text.len());
    }

    #[test]
    fn an_output_that_ends_in_the_middle_of_a_line_is_reported() {
        with_output(5000, false, |output| {
            output.write_all(&line(10_000)).unwrap_err();
            assert!(said(output.to.dir));
            output.to.left = usize::MAX;
            output.write_all(&line(10)).unwrap();
            assert!(!said(output.to.dir));
        });
    }

    #[test]
    fn a_newline_that_is_owed_comes_before_anything_else_and_once() {
        with_output(usize::MAX, true, |output| {
            assert!(said(output.to.dir), "the run after this one owes it too");
            output.write_all(&line(3)).unwrap();
            output.write_all(&line(3)).unwrap();
            assert_eq!(output.to.writes.concat(), b"\nxx\nxx\n");
            assert!(!said(output.to.dir));
        });
    }

    #[test]
    fn a_newline_is_owed_to_the_same_file_only() {
        let dir = tempfile::tempdir().unwrap();
        let run = |output: &str| Run {
            boot_id: Some("boot".into()),
            output: Some(output.into()),
            ..Run::default()
        };
        let opened = blackbox::open(dir.path(), &run("1:2"), Geometry::default());
        opened.blackbox.unwrap().is_in_line(true);
        let found = blackbox::read(dir.path());
        let follows = |now: &Run| follows_half_a_line(found.run(), now);
        assert!(follows(&run("1:2")));
        assert!(!follows(&run("1:3")), "another file");
        assert!(!follows(&Run { boot_id: Some("later".into()), ..run("1:2") }), "another boot");
        assert!(!follows_half_a_line(None, &run("1:2")));
    }
}
