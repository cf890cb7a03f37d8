//! Which rings a child may read, and what it knows of them.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::Arc;

use super::Child;
use crate::source::Source;
use crate::wire::{Message, kind};

/// What a child was shown of the host's rings. Belongs to the thread that writes to it.
#[derive(Default)]
pub struct Shown {
    sources: HashMap<u64, Ring>,
}

struct Ring {
    source: Arc<Source>,
    generation: u64,
    configs: HashSet<(u32, u32)>,
}

impl Shown {
    /// Lets the child map a source's ring and read its descriptions, as far as it does not know them.
    pub fn show(&mut self, child: &Child, source: &Arc<Source>) -> io::Result<()> {
        self.sources.entry(source.id).or_insert_with(|| Ring {
            source: Arc::clone(source),
            generation: 0,
            configs: HashSet::new(),
        });
        self.refresh(child, source.id)
    }

    /// Tells what is new of a source that was shown.
    pub fn refresh(&mut self, child: &Child, id: u64) -> io::Result<()> {
        let Some(ring) = self.sources.get_mut(&id) else { return Ok(()) };
        let configs = ring.source.configs();
        ring.configs.retain(|known| configs.iter().any(|(track, epoch, _)| (*track, *epoch) == *known));
        for (track, epoch, info) in configs {
            if ring.configs.insert((track, epoch)) {
                let payload = serde_json::to_vec(&info).unwrap_or_default();
                let (x, y) = (u64::from(track), u64::from(epoch));
                child.send(&Message { kind: kind::CONFIG, id, x, y, payload })?;
            }
        }
        if ring.source.handle.generation() != ring.generation
            && let Some(exported) = ring.source.handle.export()
        {
            ring.generation = exported.generation;
            let message = Message { kind: kind::RING, id, x: exported.generation, ..Message::default() };
            child.send_with(&message, &exported.fd)?;
        }
        Ok(())
    }

    /// A source is over.
    pub fn gone(&mut self, child: &Child, id: u64) -> io::Result<()> {
        if self.sources.remove(&id).is_some() {
            child.send(&Message { kind: kind::GONE, id, ..Message::default() })?;
        }
        Ok(())
    }
}
