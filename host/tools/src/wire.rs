//! Messages between host and launcher: JSON in packets, with descriptors beside them.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Read, Seek, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, memfd_create};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::end::{Ended, KillReason, SpawnError, Usage};
use crate::layers::Layers;
use crate::settings::Settings;

/// Of a packet. The launcher's longest lists what is missing.
const PACKET_BYTES: usize = 64 * 1024;
/// A command, stdin, stdout, stderr.
const DESCRIPTORS: usize = 4;
/// Of a command in JSON: four times what its arguments may have, and paths.
const COMMAND_BYTES: u64 = 16 * 1024 * 1024;
const SEALS: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::WRITE);

/// From the host.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// The first.
    Settings(Settings),
    /// With the command's file, and the ends of three pipes.
    Spawn {
        /// Unique.
        id: u64,
        /// The number of the worker that it is for: another one does not have it.
        worker: u64,
    },
    /// Nothing happens if it ended.
    Kill { id: u64, why: KillReason },
    /// All tools together may take so many bytes more than they have.
    Room { bytes: u64 },
}

/// From a worker.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Report {
    /// The first of a worker: what others had is dead.
    Hello { worker: u64, layers: Layers },
    /// The program runs.
    Started { id: u64 },
    /// It does not, and will not.
    Refused { id: u64, error: SpawnError },
    /// What it used so far.
    Usage { id: u64, usage: Usage },
    /// The last of a tool that was started.
    Ended { id: u64, ended: Ended },
}

/// Sends a packet without waiting.
pub fn send(
    socket: impl AsFd,
    message: &impl Serialize,
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let bytes = serde_json::to_vec(message)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::other("too many descriptors for a packet"));
    }
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    sendmsg(socket, &[IoSlice::new(&bytes)], &mut control, flags)?;
    Ok(())
}

/// Takes the next packet without waiting: `None` at the end.
pub fn receive<M: DeserializeOwned>(socket: impl AsFd) -> io::Result<Option<(M, Vec<OwnedFd>)>> {
    let mut bytes = vec![0; PACKET_BYTES];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let got = recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut control, flags)?;
    let mut descriptors = Vec::with_capacity(DESCRIPTORS);
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            descriptors.extend(received);
        }
    }
    if got.bytes == 0 {
        return Ok(None);
    }
    if got.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
        return Err(io::Error::other("a packet is too long"));
    }
    Ok(Some((serde_json::from_slice(&bytes[..got.bytes])?, descriptors)))
}

/// A file in memory that nobody changes any more.
pub fn seal(value: &impl Serialize) -> io::Result<OwnedFd> {
    let descriptor =
        memfd_create("bulkhead-command", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut file = File::from(descriptor);
    file.write_all(&serde_json::to_vec(value)?)?;
    fcntl_add_seals(&file, SEALS)?;
    Ok(file.into())
}

/// Reads such a file.
pub fn unseal<T: DeserializeOwned>(descriptor: OwnedFd) -> io::Result<T> {
    if !fcntl_get_seals(&descriptor)?.contains(SEALS) {
        return Err(io::Error::other("the file of a command is not sealed"));
    }
    let mut file = File::from(descriptor);
    file.rewind()?;
    let mut bytes = Vec::new();
    file.take(COMMAND_BYTES).read_to_end(&mut bytes)?;
    Ok(serde_json::from_slice(&bytes)?)
}
