//! Bytes that are handed to the host once and sent to many clients of routes.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use patchbay_plugin_api::abi::chunk_flags;
use patchbay_plugin_api::message::{Blobs, event};
use patchbay_plugin_api::{Chunk, Host};

use crate::error::Error;

static NEXT: AtomicU64 = AtomicU64::new(1);

/// Bytes that the host keeps until this is dropped; what is being sent then is still sent.
pub struct Blob {
    host: Host,
    id: u64,
    len: usize,
}

impl Blob {
    /// Hands `data` (at most 64 MiB) over. The host refuses when a plugin's blobs are more than an eighth of the memory.
    pub fn new(host: Host, data: Bytes) -> Result<Self, Error> {
        let (id, len) = (NEXT.fetch_add(1, Ordering::Relaxed), data.len());
        host.write(0, &Chunk { data, flags: chunk_flags::BLOB, join: id, ..Chunk::default() })?;
        Ok(Self { host, id, len })
    }

    /// Its length in bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn id(&self) -> u64 {
        self.id
    }
}

impl Drop for Blob {
    fn drop(&mut self) {
        let _ = self.host.emit(0, event::DROP_BLOBS, &Blobs { ids: vec![self.id] });
    }
}

impl std::fmt::Debug for Blob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Blob").field("id", &self.id).field("len", &self.len).finish()
    }
}
