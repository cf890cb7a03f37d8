//! The newest lines in memory.

use parking_lot::Mutex;
use std::collections::VecDeque;

/// Blocks that are kept; the oldest is dropped whole.
pub(super) const BLOCKS: usize = 16;
/// Bytes of a block.
pub(super) const BLOCK: usize = 64 << 10;

#[derive(Default)]
pub(crate) struct Memory {
    blocks: Mutex<VecDeque<Vec<u8>>>,
}

impl Memory {
    /// Adds a line that ends with a line end and is no longer than a block.
    pub(crate) fn put(&self, line: &[u8]) {
        let mut blocks = self.blocks.lock();
        match blocks.back_mut() {
            Some(block) if block.len() + line.len() <= BLOCK => block.extend_from_slice(line),
            _ => {
                let mut block =
                    if blocks.len() >= BLOCKS { blocks.pop_front().unwrap_or_default() } else { Vec::new() };
                block.clear();
                block.extend_from_slice(line);
                blocks.push_back(block);
            }
        }
    }

    pub(crate) fn lines(&self) -> Vec<u8> {
        let blocks = self.blocks.lock();
        blocks.iter().flatten().copied().collect()
    }

    pub(crate) fn clear(&self) {
        self.blocks.lock().clear();
    }
}
