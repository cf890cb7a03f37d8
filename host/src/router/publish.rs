//! Publishers: sources that come by themselves.

use patchbay_plugin_api::message::{Class, Connection, Ended};

use super::{Action, Core, LookupError, Phase, Time};

impl Core {
    /// Somebody publishes to a stream: the source it becomes. An older publisher whose kinds overlap ends with the first
    /// tracks of this one.
    pub fn publish(&mut self, now: Time, name: &str, connection: Connection) -> Result<u64, LookupError> {
        let name = self.resolve(name).ok_or(LookupError::NotFound)?;
        let id = self.new_source(now, String::new(), true);
        if let Some(source) = self.sources.get_mut(&id) {
            source.connection = connection;
            source.phase = Phase::Connecting { since: now };
        }
        if let Some(stream) = self.streams.get_mut(&name) {
            stream.publishers.push(id);
        }
        Ok(id)
    }

    /// Ends older publishers of the kinds that this one has.
    pub(super) fn replace_publishers(&mut self, id: u64) {
        let kinds: Vec<String> = self
            .sources
            .get(&id)
            .map(|s| s.tracks.iter().map(|(_, t)| t.kind.clone()).collect())
            .unwrap_or_default();
        let mut replaced = Vec::new();
        for stream in self.streams.values().filter(|stream| stream.publishers.contains(&id)) {
            for other in stream.publishers.iter().filter(|other| **other != id) {
                let overlap = self
                    .sources
                    .get(other)
                    .is_some_and(|s| s.tracks.iter().any(|(_, t)| kinds.contains(&t.kind)));
                if overlap {
                    replaced.push(*other);
                }
            }
        }
        for other in replaced {
            let message = "another publisher has taken this stream".to_owned();
            let ended = Ended { class: Class::Busy, message, retry_after_ms: 0 };
            self.actions.push_back(Action::Unpublished { source: other, ended });
            self.forget(other);
        }
    }
}
