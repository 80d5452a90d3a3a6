//! `wasi:filesystem/types`, in the place of that of `wasmtime-wasi`, to which most calls go on.
//!
//! Every call that asks the disk first goes to a thread that may block, and there `wasmtime-wasi` asks in place. What
//! makes the workspace larger or smaller passes through its [`Quota`].

mod listing;
mod streams;

use std::fs::File;
use std::pin::pin;
use std::sync::Arc;

use bulkhead_types::HostKind;
use rustix::fs::{AtFlags, FileType, statat};
use rustix::io::Errno;
use wasmtime::component::{HasData, Linker, Resource};
use wasmtime_wasi::filesystem::{Descriptor, WasiFilesystemCtxView, WasiFilesystemView};
use wasmtime_wasi::p2::bindings::filesystem::types::{
    self, Advice, DescriptorFlags, DescriptorStat, DescriptorType, DirectoryEntry,
    DirectoryEntryStream, ErrorCode, Filesize, HostDescriptor, HostDirectoryEntryStream,
    MetadataHashValue, NewTimestamp, OpenFlags, PathFlags,
};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, FsError, FsResult};
use wasmtime_wasi::runtime::poll_noop;

use crate::lanes;
use crate::quota::{At, Open, Quota, Removed, Space};
use crate::resources::{FILE_BYTES, STREAM_BYTES};
use crate::state::State;
pub(crate) use listing::Listing;
use streams::{Reader, Writer};

/// Replaces the linked interface with this one.
pub(crate) fn replace(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    types::add_to_linker::<State, Interface>(linker, |state| Files(state))?;
    linker.allow_shadowing(false);
    Ok(())
}

struct Interface;

impl HasData for Interface {
    type Data<'a> = Files<'a>;
}

/// The files of a guest.
struct Files<'a>(&'a mut State);

impl Files<'_> {
    fn wasi(&mut self) -> WasiFilesystemCtxView<'_> {
        self.0.filesystem()
    }

    fn quota(&self) -> Arc<Quota> {
        Arc::clone(&self.0.quota)
    }

    /// Moves to a thread that may block.
    async fn thread(&mut self) {
        let blocking = &self.0.blocking;
        blocking.thread().await;
    }

    /// Fails when the account has no room for what a new handle can hold, as growth of memory does.
    fn room_for(&self, bytes: u64) -> FsResult<()> {
        // From when the call returns, the handle counts as an open resource.
        let room = self.0.meter.memory().charge(HostKind::Resources, bytes);
        room.map(drop).map_err(|_| ErrorCode::InsufficientMemory.into())
    }

    /// What a name stands for. `None` when it cannot be read.
    fn look(&mut self, dir: &Resource<Descriptor>, path: &str) -> Option<Removed> {
        if is_name(path) {
            let stat = statat(&*self.raw(dir).ok()?, path, AtFlags::SYMLINK_NOFOLLOW).ok()?;
            return Some(Removed::of(&stat));
        }
        let stat = self.stat_now(dir, PathFlags::empty(), path).ok()?;
        let is_directory = stat.type_ == DescriptorType::Directory;
        Some(Removed { is_directory, links: stat.link_count, size: stat.size })
    }

    fn stat_now(
        &mut self,
        dir: &Resource<Descriptor>,
        flags: PathFlags,
        path: &str,
    ) -> FsResult<DescriptorStat> {
        now(self.wasi().stat_at(same(dir), flags, path.to_owned()))
    }

    /// The open file behind a handle.
    fn file(&mut self, fd: &Resource<Descriptor>) -> FsResult<wasmtime_wasi::filesystem::File> {
        match self.wasi().table.get(fd)? {
            Descriptor::File(file) => Ok(file.clone()),
            Descriptor::Dir(_) => Err(ErrorCode::BadDescriptor.into()),
        }
    }

    /// The same, for writing.
    fn file_to_write(
        &mut self,
        fd: &Resource<Descriptor>,
    ) -> FsResult<wasmtime_wasi::filesystem::File> {
        let file = self.file(fd)?;
        match file.perms.write_not_permitted() {
            true => Err(ErrorCode::NotPermitted.into()),
            false => Ok(file),
        }
    }

    /// The host's descriptor behind a handle.
    fn raw(&mut self, fd: &Resource<Descriptor>) -> FsResult<Arc<File>> {
        Ok(match self.wasi().table.get(fd)? {
            Descriptor::File(file) => Arc::clone(&file.file),
            Descriptor::Dir(directory) => Arc::clone(&directory.dir),
        })
    }

    /// Makes something that takes `space`.
    fn make(
        &mut self,
        space: Space,
        make: impl FnOnce(WasiFilesystemCtxView<'_>) -> FsResult<()>,
    ) -> FsResult<()> {
        let quota = self.quota();
        let mut step = quota.begin()?;
        step.take(space)?;
        make(self.wasi()).inspect_err(|_| step.give(space))
    }

    /// Removes a name.
    fn remove(
        &mut self,
        dir: &Resource<Descriptor>,
        path: &str,
        remove: impl FnOnce(WasiFilesystemCtxView<'_>) -> FsResult<()>,
    ) -> FsResult<()> {
        let quota = self.quota();
        let mut step = quota.begin()?;
        let before = self.look(dir, path);
        remove(self.wasi())?;
        if let Some(before) = before {
            step.removed(before);
        }
        Ok(())
    }

    fn open(
        &mut self,
        dir: Resource<Descriptor>,
        path_flags: PathFlags,
        path: String,
        how: OpenFlags,
        flags: DescriptorFlags,
    ) -> FsResult<Resource<Descriptor>> {
        let quota = self.quota();
        if !quota.may_open() {
            // WASI has no word for too many open files. This is the one that programs expect beside it.
            return Err(ErrorCode::InsufficientMemory.into());
        }
        self.0.may_open()?;
        self.room_for(FILE_BYTES)?;
        let created = match how.contains(OpenFlags::CREATE) {
            // It fails where there is something.
            true if how.contains(OpenFlags::EXCLUSIVE) => Space::NAME,
            true if self.is_nothing(&dir, path_flags, &path) => Space::NAME,
            _ => Space::default(),
        };
        let (how, flags, truncates) = truncate_later(how, flags);
        let open = |view: WasiFilesystemCtxView<'_>| {
            let mut view = view;
            now(view.open_at(dir, path_flags, path, how, flags))
        };
        let opened = if created == Space::default() {
            open(self.wasi())?
        } else {
            let mut step = quota.begin()?;
            step.take(created)?;
            open(self.wasi()).inspect_err(|_| step.give(created))?
        };
        let file = self.raw(&opened)?;
        quota.opened(&file);
        if truncates && let Err(error) = quota.empty(&file) {
            self.wasi().table.delete(opened)?;
            return Err(error.into());
        }
        Ok(opened)
    }

    fn is_nothing(&mut self, dir: &Resource<Descriptor>, flags: PathFlags, path: &str) -> bool {
        if is_name(path)
            && let Ok(dir) = self.raw(dir)
        {
            match statat(&*dir, path, AtFlags::SYMLINK_NOFOLLOW) {
                Err(error) => return error == Errno::NOENT,
                Ok(stat) if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink => {
                    return false;
                }
                Ok(_) => {}
            }
        }
        let stat = self.stat_now(dir, flags, path);
        stat.is_err_and(|error| matches!(error.downcast_ref(), Some(ErrorCode::NoEntry)))
    }
}

/// Whether a path is the name of something in the directory itself: the system needs no sandbox to look at it.
fn is_name(path: &str) -> bool {
    !path.is_empty() && !path.contains('/') && path != "." && path != ".."
}

fn same(fd: &Resource<Descriptor>) -> Resource<Descriptor> {
    Resource::new_borrow(fd.rep())
}

/// What `wasmtime-wasi` does on a thread that may block, it does at once.
fn now<F: Future>(future: F) -> F::Output {
    match poll_noop(pin!(future)) {
        Some(output) => output,
        None => panic!("a file call waited on a thread that may block"),
    }
}

/// A file that is opened to be emptied is opened first: only then it is known what that gives back. Yields what to open
/// it with, and whether it has to be emptied.
fn truncate_later(how: OpenFlags, flags: DescriptorFlags) -> (OpenFlags, DescriptorFlags, bool) {
    // With these it is an error.
    if !how.contains(OpenFlags::TRUNCATE) || how.contains(OpenFlags::DIRECTORY) {
        return (how, flags, false);
    }
    let as_before = match flags.contains(DescriptorFlags::WRITE) {
        true => flags,
        // As it is for files that are not opened to be written.
        false => flags | DescriptorFlags::READ | DescriptorFlags::WRITE,
    };
    (how & (OpenFlags::CREATE | OpenFlags::EXCLUSIVE), as_before, true)
}

/// Calls that go on to `wasmtime-wasi` as they are, on a thread that may block.
macro_rules! pass {
    ($($name:ident($($argument:ident: $type:ty),*) -> $result:ty;)*) => {
        $(
            async fn $name(&mut self, $($argument: $type),*) -> $result {
                self.thread().await;
                self.wasi().$name($($argument),*).await
            }
        )*
    };
}

impl HostDescriptor for Files<'_> {
    pass! {
        advise(fd: Resource<Descriptor>, offset: Filesize, length: Filesize, advice: Advice) -> FsResult<()>;
        sync_data(fd: Resource<Descriptor>) -> FsResult<()>;
        sync(fd: Resource<Descriptor>) -> FsResult<()>;
        get_flags(fd: Resource<Descriptor>) -> FsResult<DescriptorFlags>;
        get_type(fd: Resource<Descriptor>) -> FsResult<DescriptorType>;
        set_times(fd: Resource<Descriptor>, accessed: NewTimestamp, modified: NewTimestamp) -> FsResult<()>;
        read(fd: Resource<Descriptor>, length: Filesize, offset: Filesize) -> FsResult<(Vec<u8>, bool)>;
        stat(fd: Resource<Descriptor>) -> FsResult<DescriptorStat>;
        stat_at(fd: Resource<Descriptor>, flags: PathFlags, path: String) -> FsResult<DescriptorStat>;
        set_times_at(
            fd: Resource<Descriptor>, flags: PathFlags, path: String, accessed: NewTimestamp, modified: NewTimestamp
        ) -> FsResult<()>;
        readlink_at(fd: Resource<Descriptor>, path: String) -> FsResult<String>;
        is_same_object(one: Resource<Descriptor>, other: Resource<Descriptor>) -> wasmtime::Result<bool>;
        metadata_hash(fd: Resource<Descriptor>) -> FsResult<MetadataHashValue>;
        metadata_hash_at(fd: Resource<Descriptor>, flags: PathFlags, path: String) -> FsResult<MetadataHashValue>;
    }

    async fn open_at(
        &mut self,
        dir: Resource<Descriptor>,
        path_flags: PathFlags,
        path: String,
        how: OpenFlags,
        flags: DescriptorFlags,
    ) -> FsResult<Resource<Descriptor>> {
        self.thread().await;
        self.open(dir, path_flags, path, how, flags)
    }

    async fn write(
        &mut self,
        fd: Resource<Descriptor>,
        bytes: Vec<u8>,
        offset: Filesize,
    ) -> FsResult<Filesize> {
        self.thread().await;
        let file = self.file_to_write(&fd)?;
        Ok(self.quota().write(&file.file, At::Position(offset), &bytes)? as u64)
    }

    async fn set_size(&mut self, fd: Resource<Descriptor>, size: Filesize) -> FsResult<()> {
        self.thread().await;
        let file = self.file_to_write(&fd)?;
        Ok(self.quota().resize(&file.file, size)?)
    }

    async fn create_directory_at(
        &mut self,
        fd: Resource<Descriptor>,
        path: String,
    ) -> FsResult<()> {
        self.thread().await;
        self.make(Space::DIRECTORY, |mut files| now(files.create_directory_at(fd, path)))
    }

    async fn symlink_at(
        &mut self,
        fd: Resource<Descriptor>,
        old_path: String,
        new_path: String,
    ) -> FsResult<()> {
        self.thread().await;
        let space = Space::entry(old_path.len() as u64);
        self.make(space, |mut files| now(files.symlink_at(fd, old_path, new_path)))
    }

    async fn link_at(
        &mut self,
        old: Resource<Descriptor>,
        flags: PathFlags,
        old_path: String,
        new: Resource<Descriptor>,
        new_path: String,
    ) -> FsResult<()> {
        self.thread().await;
        self.make(Space::NAME, |mut files| now(files.link_at(old, flags, old_path, new, new_path)))
    }

    async fn remove_directory_at(
        &mut self,
        fd: Resource<Descriptor>,
        path: String,
    ) -> FsResult<()> {
        self.thread().await;
        let (dir, name) = (same(&fd), path.clone());
        self.remove(&dir, &name, |mut files| now(files.remove_directory_at(fd, path)))
    }

    async fn unlink_file_at(&mut self, fd: Resource<Descriptor>, path: String) -> FsResult<()> {
        self.thread().await;
        let (dir, name) = (same(&fd), path.clone());
        self.remove(&dir, &name, |mut files| now(files.unlink_file_at(fd, path)))
    }

    async fn rename_at(
        &mut self,
        old: Resource<Descriptor>,
        old_path: String,
        new: Resource<Descriptor>,
        new_path: String,
    ) -> FsResult<()> {
        self.thread().await;
        let quota = self.quota();
        let mut step = quota.begin()?;
        let (before, source) = (self.look(&new, &new_path), (same(&old), old_path.clone()));
        now(self.wasi().rename_at(old, old_path, new, new_path))?;
        // Where both were names of one file, both still are.
        if let Some(replaced) = before
            && self.look(&source.0, &source.1).is_none()
        {
            step.removed(replaced);
        }
        Ok(())
    }

    async fn read_directory(
        &mut self,
        fd: Resource<Descriptor>,
    ) -> FsResult<Resource<DirectoryEntryStream>> {
        self.thread().await;
        let Descriptor::Dir(directory) = self.wasi().table.get(&fd)?.clone() else {
            return Err(ErrorCode::NotDirectory.into());
        };
        self.room_for(FILE_BYTES)?;
        let memory = self.0.meter.memory();
        let listing =
            Listing::read(&directory.dir, |bytes| memory.charge(HostKind::Resources, bytes))?;
        Ok(Resource::new_own(self.wasi().table.push(listing)?.rep()))
    }

    fn read_via_stream(
        &mut self,
        fd: Resource<Descriptor>,
        offset: Filesize,
    ) -> FsResult<Resource<DynInputStream>> {
        let Descriptor::File(file) = self.wasi().table.get(&fd)?.clone() else {
            return Err(ErrorCode::IsDirectory.into());
        };
        self.room_for(STREAM_BYTES)?;
        let file = Open::new(file.file, &self.0.quota);
        let stream: DynInputStream = Box::new(Reader::new(file, offset, self.0.blocking.clone()));
        Ok(self.wasi().table.push(stream)?)
    }

    fn write_via_stream(
        &mut self,
        fd: Resource<Descriptor>,
        offset: Filesize,
    ) -> FsResult<Resource<DynOutputStream>> {
        self.writer(&fd, At::Position(offset))
    }

    fn append_via_stream(
        &mut self,
        fd: Resource<Descriptor>,
    ) -> FsResult<Resource<DynOutputStream>> {
        self.writer(&fd, At::End)
    }

    fn drop(&mut self, fd: Resource<Descriptor>) -> wasmtime::Result<()> {
        let descriptor = self.wasi().table.delete(fd)?;
        lanes::drop_blocking(Open::new(descriptor, &self.0.quota));
        Ok(())
    }
}

impl Files<'_> {
    fn writer(&mut self, fd: &Resource<Descriptor>, at: At) -> FsResult<Resource<DynOutputStream>> {
        let file = self.file_to_write(fd)?;
        self.room_for(STREAM_BYTES)?;
        let file = Open::new(file.file, &self.0.quota);
        let stream: DynOutputStream = Box::new(Writer::new(file, at, self.0.blocking.clone()));
        Ok(self.wasi().table.push(stream)?)
    }
}

impl HostDirectoryEntryStream for Files<'_> {
    async fn read_directory_entry(
        &mut self,
        stream: Resource<DirectoryEntryStream>,
    ) -> FsResult<Option<DirectoryEntry>> {
        self.wasi().table.get_mut(&listing(&stream))?.next().transpose()
    }

    fn drop(&mut self, stream: Resource<DirectoryEntryStream>) -> wasmtime::Result<()> {
        self.wasi().table.delete(Resource::<Listing>::new_own(stream.rep()))?;
        Ok(())
    }
}

/// The bindings have another type for it, which only `wasmtime-wasi` can make.
fn listing(stream: &Resource<DirectoryEntryStream>) -> Resource<Listing> {
    Resource::new_borrow(stream.rep())
}

impl types::Host for Files<'_> {
    fn convert_error_code(&mut self, error: FsError) -> wasmtime::Result<ErrorCode> {
        self.wasi().convert_error_code(error)
    }

    fn filesystem_error_code(
        &mut self,
        error: Resource<wasmtime::Error>,
    ) -> wasmtime::Result<Option<ErrorCode>> {
        self.wasi().filesystem_error_code(error)
    }
}

#[cfg(test)]
mod tests;
