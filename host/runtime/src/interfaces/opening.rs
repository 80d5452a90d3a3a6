//! `wasi:filesystem/types.[method]descriptor.open-at`, before that of `wasmtime-wasi`: a guest opens nothing that would
//! leave the host without file descriptors.

use wasmtime::component::{Linker, Resource};
use wasmtime_wasi::filesystem::WasiFilesystemView;
use wasmtime_wasi::p2::FsError;
use wasmtime_wasi::p2::bindings::filesystem::types::{
    Descriptor, DescriptorFlags, ErrorCode, HostDescriptor, OpenFlags, PathFlags,
};

use super::FILESYSTEM;
use crate::host_call;
use crate::state::State;

/// What it is called in a crash record.
const NAME: &str = "wasi:filesystem/types.[method]descriptor.open-at";

/// What `open-at` is called with.
type How = (Resource<Descriptor>, PathFlags, String, OpenFlags, DescriptorFlags);

/// Puts this function into the place of the linked one.
pub(crate) fn replace(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    linker.instance(FILESYSTEM)?.func_wrap_async(
        "[method]descriptor.open-at",
        |mut store, how: How| {
            Box::new(async move {
                host_call::name(NAME);
                let opened = store.data_mut().open_at(how).await;
                // What is no error code is a trap.
                let opened: Result<Resource<Descriptor>, ErrorCode> = match opened {
                    Ok(opened) => Ok(opened),
                    Err(error) => Err(error.downcast()?),
                };
                Ok((opened,))
            })
        },
    )?;
    linker.allow_shadowing(false);
    Ok(())
}

impl State {
    async fn open_at(&mut self, how: How) -> Result<Resource<Descriptor>, FsError> {
        let (directory, path_flags, path, open_flags, flags) = how;
        self.may_open()?;
        self.filesystem().open_at(directory, path_flags, path, open_flags, flags).await
    }
}
