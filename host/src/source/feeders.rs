//! Who feeds a source: its own session, and services that this one has called. Each of these numbers its tracks from 0; in the
//! source they get ids of their own.

use std::ops::Range;

use patchbay_plugin_api::message::{Connection, DELEGATED, Demand, Tracks};

use super::MAX_TRACKS;
use crate::router::Told;

/// Most tracks of one service.
const MAX_DELEGATED: u32 = 16;

/// The sessions that feed a source.
#[derive(Debug, Default)]
pub(super) struct Feeders {
    own: Feeder,
    services: Vec<Feeder>,
}

#[derive(Debug, Default)]
struct Feeder {
    session: u64,
    /// Id in the source of its track 0.
    base: u32,
    /// What it said beside its tracks.
    told: Option<Told>,
}

impl Feeders {
    /// A new session feeds the source. Services of the one before do no more.
    pub(super) fn begin(&mut self, session: u64) {
        *self = Self { own: Feeder { session, ..Feeder::default() }, services: Vec::new() };
    }

    /// A service that the session `of` has called feeds the source too; false when that is not its session, or too many do.
    pub(super) fn join(&mut self, of: u64, session: u64) -> bool {
        let mut bases = (DELEGATED..).step_by(MAX_DELEGATED as usize);
        let fits = |base: &u32| base + MAX_DELEGATED <= MAX_TRACKS as u32;
        let free = bases
            .by_ref()
            .take_while(fits)
            .find(|base| !self.services.iter().any(|service| service.base == *base));
        match free {
            Some(base) if self.own.session == of => {
                self.services.push(Feeder { session, base, told: None });
                true
            }
            _ => false,
        }
    }

    /// A service feeds the source no longer: ids of its tracks in the source.
    pub(super) fn leave(&mut self, session: u64) -> Option<Range<usize>> {
        let at = self.services.iter().position(|service| service.session == session)?;
        let base = self.services.swap_remove(at).base;
        Some(base as usize..(base + MAX_DELEGATED) as usize)
    }

    /// Whether services feed the source.
    pub(super) fn are_many(&self) -> bool {
        !self.services.is_empty()
    }

    fn of(&self, session: u64) -> Option<&Feeder> {
        if self.own.session == session {
            return Some(&self.own);
        }
        self.services.iter().find(|service| service.session == session)
    }

    /// Id in the source of a session's track. `None`: it does not feed the source, or may not have such a track.
    pub(super) fn track(&self, session: u64, id: u32) -> Option<u32> {
        let feeder = self.of(session)?;
        let limit = match (feeder.base, self.services.is_empty()) {
            (0, true) => MAX_TRACKS as u32,
            (0, false) => DELEGATED,
            _ => MAX_DELEGATED,
        };
        (id < limit).then_some(feeder.base + id)
    }

    /// A session told its tracks.
    pub(super) fn tell(&mut self, session: u64, tracks: &Tracks) {
        let told = Told {
            send: tracks.send.clone(),
            is_final: tracks.is_final,
            connection: tracks.connection.clone(),
        };
        let services = self.services.iter_mut();
        if let Some(feeder) =
            std::iter::once(&mut self.own).chain(services).find(|feeder| feeder.session == session)
        {
            feeder.told = Some(told);
        }
    }

    /// What all of them said, the own session first. A service that has said nothing yet is about to.
    pub(super) fn told(&self) -> Told {
        let is_final = self.services.iter().all(|service| service.told.is_some());
        let mut all = Told { is_final, ..Told::default() };
        for told in std::iter::once(&self.own).chain(&self.services).filter_map(|feeder| feeder.told.as_ref())
        {
            all.send.extend(told.send.iter().cloned());
            all.is_final &= told.is_final;
            if all.connection == Connection::default() {
                all.connection = told.connection.clone();
            }
        }
        all
    }

    /// Who takes talk by the source's send track `index`: its session, and the index there.
    pub(super) fn sender(&self, index: usize) -> Option<(u64, usize)> {
        let mut left = index;
        for feeder in std::iter::once(&self.own).chain(&self.services) {
            let count = feeder.told.as_ref().map_or(0, |told| told.send.len());
            if left < count {
                return Some((feeder.session, left));
            }
            left -= count;
        }
        None
    }

    /// What of a demand is for a service, by its own ids.
    pub(super) fn demand(&self, session: u64, demand: &Demand) -> Option<Demand> {
        let base = self.services.iter().find(|service| service.session == session)?.base;
        let own = demand.tracks.iter().filter_map(|id| id.checked_sub(base));
        let tracks = own.filter(|id| *id < MAX_DELEGATED).collect();
        Some(Demand { tracks, class: demand.class.clone() })
    }
}

#[cfg(test)]
mod tests {
    use patchbay_plugin_api::message::SendTrack;

    use super::*;

    #[test]
    fn services_get_ids_behind_those_of_the_session_that_called_them() {
        let mut feeders = Feeders::default();
        feeders.begin(5);
        assert!(!feeders.join(4, 6), "another session's");
        assert_eq!(feeders.track(5, 40), Some(40));
        assert!(feeders.join(5, 6) && feeders.join(5, 7));
        assert!(!feeders.join(5, 8), "there is no room for a third");
        assert_eq!(feeders.track(5, 31), Some(31));
        assert_eq!(feeders.track(5, 32), None);
        assert_eq!((feeders.track(6, 0), feeders.track(7, 15)), (Some(32), Some(63)));
        assert_eq!((feeders.track(6, 16), feeders.track(8, 0)), (None, None));
        let demand = Demand { tracks: vec![0, 33, 48], class: "live".to_owned() };
        assert_eq!(feeders.demand(6, &demand).unwrap().tracks, [1]);
        assert_eq!(feeders.demand(7, &demand).unwrap().tracks, [0]);
        assert_eq!(feeders.leave(6), Some(32..48));
        assert_eq!((feeders.leave(6), feeders.track(6, 0)), (None, None));
        assert!(feeders.join(5, 9));
        assert_eq!(feeders.track(9, 1), Some(33), "its place is free again");
        feeders.begin(10);
        assert_eq!((feeders.track(9, 1), feeders.track(5, 0)), (None, None));
    }

    #[test]
    fn what_all_said_is_one() {
        let mut feeders = Feeders::default();
        feeders.begin(1);
        feeders.join(1, 2);
        let send = |codec: &str| SendTrack { codec: codec.to_owned(), ..SendTrack::default() };
        let tracks = |codec, is_final| Tracks { send: vec![send(codec)], is_final, ..Tracks::default() };
        feeders.tell(1, &tracks("pcm_alaw", true));
        assert!(!feeders.told().is_final, "the service has said nothing yet");
        feeders.tell(1, &Tracks { is_final: true, ..Tracks::default() });
        feeders.tell(2, &tracks("opus", true));
        assert!(feeders.told().is_final);
        assert_eq!(feeders.sender(0), Some((2, 0)));
        feeders.tell(1, &tracks("pcm_alaw", false));
        let told = feeders.told();
        assert_eq!((told.send[0].codec.as_str(), told.is_final), ("pcm_alaw", false));
        assert_eq!(
            (feeders.sender(0), feeders.sender(1), feeders.sender(2)),
            (Some((1, 0)), Some((2, 0)), None)
        );
    }
}
