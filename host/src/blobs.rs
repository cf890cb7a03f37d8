//! Bytes that plugins hand over once for many answers of their routes.

use std::collections::HashMap;

use bytes::Bytes;
use parking_lot::Mutex;
use patchbay_plugin_api::Code;

/// Blobs that one plugin may have.
const MAX_BLOBS: usize = 64 << 10;

/// All blobs, by plugin and the id it chose.
pub struct Blobs {
    plugins: Mutex<HashMap<u64, Kept>>,
    /// Bytes that one plugin's blobs may have together.
    limit: usize,
}

#[derive(Default)]
struct Kept {
    blobs: HashMap<u64, Bytes>,
    bytes: usize,
}

impl Blobs {
    /// No blobs. One plugin may have `limit` bytes of them.
    pub fn new(limit: usize) -> Self {
        Self { plugins: Mutex::default(), limit }
    }

    /// Keeps a copy of `data`.
    pub fn put(&self, ctx: u64, id: u64, data: &[u8]) -> Code {
        if data.len() > crate::hub::MAX_CHUNK {
            return Code::OverLimit;
        }
        let data = Bytes::copy_from_slice(data);
        let mut plugins = self.plugins.lock();
        let kept = plugins.entry(ctx).or_default();
        if kept.bytes + data.len() > self.limit || kept.blobs.len() >= MAX_BLOBS {
            return Code::OverLimit;
        }
        kept.bytes += data.len();
        if let Some(old) = kept.blobs.insert(id, data) {
            kept.bytes -= old.len();
        }
        Code::Ok
    }

    /// The blobs of these ids; `None` when one is not there.
    pub fn get(&self, ctx: u64, ids: &[u64]) -> Option<Vec<Bytes>> {
        let plugins = self.plugins.lock();
        let kept = plugins.get(&ctx)?;
        ids.iter().map(|id| kept.blobs.get(id).cloned()).collect()
    }

    /// Forgets blobs; what is being sent is still sent.
    pub fn forget(&self, ctx: u64, ids: &[u64]) {
        let mut plugins = self.plugins.lock();
        let Some(kept) = plugins.get_mut(&ctx) else { return };
        for id in ids {
            if let Some(old) = kept.blobs.remove(id) {
                kept.bytes -= old.len();
            }
        }
    }

    /// Forgets all of a plugin.
    pub fn forget_all(&self, ctx: u64) {
        self.plugins.lock().remove(&ctx);
    }

    /// Number and bytes of all.
    pub fn totals(&self) -> (usize, usize) {
        let plugins = self.plugins.lock();
        plugins.values().fold((0, 0), |(n, bytes), kept| (n + kept.blobs.len(), bytes + kept.bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blobs_are_bounded_and_of_one_plugin() {
        let blobs = Blobs::new(256 << 20);
        assert_eq!(blobs.put(1, 7, b"part"), Code::Ok);
        assert_eq!(blobs.put(1, 8, b"next"), Code::Ok);
        assert_eq!(blobs.get(1, &[7, 8]).unwrap().concat(), b"partnext");
        assert_eq!(blobs.get(2, &[7]), None, "ids of another plugin");
        let big = vec![0; 60 << 20];
        let codes: Vec<Code> = (10..16).map(|id| blobs.put(1, id, &big)).collect();
        assert_eq!(codes.iter().filter(|code| **code == Code::Ok).count(), 4);
        assert_eq!(codes.last(), Some(&Code::OverLimit));
        blobs.forget(1, &[10, 11, 12, 13, 8]);
        assert_eq!(blobs.totals(), (1, 4));
        blobs.forget_all(1);
        assert_eq!(blobs.totals(), (0, 0));
    }
}
