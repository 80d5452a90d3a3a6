//! `wasi:filesystem/types.[method]descriptor.read-directory`, before that of `wasmtime-wasi`.
//!
//! That one reads a whole directory into memory when it is asked for its first entry, and a guest makes
//! directories as large as it likes. Here the directory's own size says what its list will take, and the
//! agent's account whether there is room for it, before anything is read.

use wasmtime::component::{Linker, Resource};
use wasmtime_wasi::filesystem::WasiFilesystemView;
use wasmtime_wasi::p2::bindings::filesystem::types::{Descriptor, ErrorCode, HostDescriptor};
use wasmtime_wasi::p2::{FsError, ReaddirIterator};

use bulkhead_model::HostKind;

use super::FILESYSTEM;
use crate::host_call;
use crate::state::State;

/// What it is called in a crash record.
const NAME: &str = "wasi:filesystem/types.[method]descriptor.read-directory";

/// What an entry takes in a list against what it takes in its directory: at most 330 bytes against 20 on a
/// tmpfs, which says least; 64 against 12 for short names on ext4.
const LIST_FACTOR: u64 = 16;

type Listed = Result<Resource<ReaddirIterator>, ErrorCode>;

/// Puts this function into the place of the linked one.
pub(crate) fn replace(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    linker.instance(FILESYSTEM)?.func_wrap_async(
        "[method]descriptor.read-directory",
        |mut store, (directory,): (Resource<Descriptor>,)| {
            Box::new(async move {
                host_call::name(NAME);
                let listed = store.data_mut().read_directory(directory).await;
                // What is no error code is a trap.
                let listed: Listed = match listed {
                    Ok(list) => Ok(list),
                    Err(error) => Err(error.downcast()?),
                };
                Ok((listed,))
            })
        },
    )?;
    linker.allow_shadowing(false);
    Ok(())
}

impl State {
    async fn read_directory(
        &mut self,
        directory: Resource<Descriptor>,
    ) -> Result<Resource<ReaddirIterator>, FsError> {
        let same = Resource::new_borrow(directory.rep());
        let size = self.filesystem().stat(same).await?.size;
        let bytes = size.saturating_mul(LIST_FACTOR);
        // From when the call returns, the list counts as an open resource.
        let room = self.meter.memory().charge(HostKind::Resources, bytes);
        let _room = room.map_err(|_| FsError::from(ErrorCode::InsufficientMemory))?;
        self.listing_bytes = self.listing_bytes.max(bytes);
        self.filesystem().read_directory(directory).await
    }
}
