//! What the stream core asks its caller to do.

use patchbay_plugin_api::message::{Bound, Demand, Ended, TrackInfo};

/// What the caller has to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Make a ring for a source.
    Create {
        /// Its id.
        source: u64,
    },
    /// Dial.
    Open {
        /// The source.
        source: u64,
        /// What to dial.
        url: String,
    },
    /// End the session of a source.
    Close {
        /// The source.
        source: u64,
    },
    /// Its ring is of no more use.
    Drop {
        /// The source.
        source: u64,
    },
    /// A key unit is wanted of a source.
    Keyframe {
        /// The source.
        source: u64,
    },
    /// What is wanted of a source.
    Demand {
        /// The source.
        source: u64,
        /// Its tracks.
        demand: Demand,
    },
    /// A consumer may read.
    Bound {
        /// The consumer.
        consumer: u64,
        /// What.
        bound: Bound,
    },
    /// A consumer gets nothing (any more).
    Refused {
        /// The consumer.
        consumer: u64,
        /// Why.
        ended: Ended,
    },
    /// A talker may push: its ring is there.
    TalkAccepted {
        /// The talker, and its ring.
        talk: u64,
        /// What it pushes.
        track: TrackInfo,
    },
    /// The session of a source is to pass a talk on.
    Talk {
        /// The ring to read: the talker's, or that of what is made of it.
        talk: u64,
        /// The source.
        source: u64,
        /// Which of the tracks that it accepts.
        send: u32,
        /// What is pushed.
        track: TrackInfo,
    },
    /// A talk is over.
    TalkEnd {
        /// The ring that was read.
        talk: u64,
        /// The source.
        source: u64,
    },
    /// A publisher was replaced or its stream is gone.
    Unpublished {
        /// Its source.
        source: u64,
        /// Why.
        ended: Ended,
    },
}
