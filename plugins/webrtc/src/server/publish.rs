//! A peer that publishes.

use std::sync::Arc;

use patchbay_sdk::Error;
use patchbay_sdk::server::Context;

use super::{Answer, Ask, Engine};
use crate::mux::Hub;
use crate::sdp::Description;

/// Starts a session that publishes.
pub(super) async fn open(
    _engine: &Arc<Engine>,
    _context: &Context,
    _hub: &Arc<Hub>,
    _ask: &Ask,
    _offer: &Description,
) -> Result<Answer, Error> {
    Err(Error::unsupported("publishing"))
}
