//! What the server asks of the host: streams for players, names for publishers. Memory in tests.

use std::future::Future;

use patchbay_media::{Parameters, Unit};
use patchbay_sdk::Error;
use patchbay_sdk::api::Host;
use patchbay_sdk::api::message::{Clock, Consume, Publish};
pub use patchbay_sdk::server::Claim;
use patchbay_sdk::server::{Consumer, Context, Publisher};
use patchbay_sdk::source::Tracks;
use patchbay_sdk::talk::{Microphone, Offer, Talker};

use super::rings::Rings;

/// The host.
pub trait Streams: Send + Sync + 'static {
    /// Its rings.
    type Rings: Rings;
    /// A player's claim.
    type Claim: Claim;
    /// A publisher's way in.
    type Intake: Intake;
    /// A player's talk.
    type Voice: Voice;

    /// Its rings.
    fn rings(&self) -> Self::Rings;
    /// Asks for a stream.
    fn consume(&self, consume: &Consume) -> Result<Self::Claim, Error>;
    /// Offers a stream; done when the host has taken it.
    fn publish(&self, publish: Publish) -> impl Future<Output = Result<Self::Intake, Error>> + Send;
    /// Offers what a player says to the camera; done when that takes it.
    fn talk(&self, offer: Offer) -> impl Future<Output = Result<Self::Voice, Error>> + Send;
}

/// What a player says; dropping it ends it.
pub trait Voice: Send + 'static {
    /// A unit.
    fn push(&self, unit: &Unit) -> Result<(), Error>;
    /// Completes when the host ends it, with the reason. Nothing is lost when the future is dropped.
    fn ended(&mut self) -> impl Future<Output = Error> + Send;
}

/// One publisher; dropping it ends it.
pub trait Intake: Send + Sync + 'static {
    /// Announces the tracks.
    fn tracks(&self, tracks: &Tracks) -> Result<(), Error>;
    /// Tells of new parameters of a track, before the first unit that needs them.
    fn track_changed(&self, id: u32, parameters: &Parameters) -> Result<(), Error>;
    /// A unit.
    fn push(&self, id: u32, unit: &Unit) -> Result<(), Error>;
    /// Wall time of a track.
    fn clock(&self, clock: Clock) -> Result<(), Error>;
    /// Completes when the host ends the publisher, with the reason. Nothing is lost when the future is dropped.
    fn ended(&mut self) -> impl Future<Output = Error> + Send;
}

impl Streams for Context {
    type Rings = Host;
    type Claim = Consumer;
    type Intake = Publisher;
    type Voice = Spoken;

    fn rings(&self) -> Host {
        self.host()
    }

    fn consume(&self, consume: &Consume) -> Result<Consumer, Error> {
        Context::consume(self, consume)
    }

    async fn publish(&self, publish: Publish) -> Result<Publisher, Error> {
        Context::publish(self, &publish).await
    }

    async fn talk(&self, offer: Offer) -> Result<Spoken, Error> {
        let talker = Context::talk(self, &offer).await?;
        Ok(Spoken { microphone: talker.microphone(), talker })
    }
}

/// A talk of the host.
pub struct Spoken {
    talker: Talker,
    microphone: Microphone,
}

impl Voice for Spoken {
    fn push(&self, unit: &Unit) -> Result<(), Error> {
        self.microphone.push(unit)
    }

    fn ended(&mut self) -> impl Future<Output = Error> + Send {
        self.talker.ended()
    }
}

impl Intake for Publisher {
    fn tracks(&self, tracks: &Tracks) -> Result<(), Error> {
        self.session().tracks(tracks)
    }

    fn track_changed(&self, id: u32, parameters: &Parameters) -> Result<(), Error> {
        self.session().track_changed(id, parameters)
    }

    fn push(&self, id: u32, unit: &Unit) -> Result<(), Error> {
        self.session().push(id, unit)
    }

    fn clock(&self, clock: Clock) -> Result<(), Error> {
        self.session().clock(clock)
    }

    fn ended(&mut self) -> impl Future<Output = Error> + Send {
        self.run()
    }
}
