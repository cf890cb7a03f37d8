//! The copy-validate broadcast ring between one source and its readers.
//!
//! ```text
//! Ring::push ─▶ memory (heap, or a sealed memory file) ─▶ RingHandle::read   any thread of this process
//!                                                     └─▶ Mapped::read       another process, read-only
//! ```
//!
//! | start here | for |
//! |---|---|
//! | [`Ring`] | pushing units; never waits for a reader |
//! | [`RingHandle`] | reading, locating, sleeping until something comes |
//! | [`Mapped`] | the same reading from another process |
//!
//! A reader copies units out and then checks that they were not overwritten meanwhile; it leaves no trace, so a dead one
//! costs nothing. The memory always holds the units from the newest keyframe to now; it grows by replacement before a
//! write would cover that keyframe.

mod backing;
mod budget;
mod error;
#[cfg(not(loom))]
#[doc(hidden)]
pub mod fuzz;
mod handle;
mod layout;
#[cfg(all(target_os = "linux", not(loom)))]
mod mapped;
#[cfg(loom)]
mod model;
mod output;
mod reader;
mod ring;
mod sizing;
mod sync;
mod unit;
mod wake;
mod writer;

pub use backing::BackingKind;
pub use budget::Budget;
pub use error::{PushError, RingError};
pub use handle::{Exported, RingHandle, Subscription};
#[cfg(all(target_os = "linux", not(loom)))]
pub use mapped::Mapped;
pub use output::Output;
pub use reader::{ReadOutcome, Target};
pub use ring::{Limits, Ring, RingStats};
pub use unit::{RECORD_HEADER, TRACKS, UnitHeader, flags};
pub use wake::Wake;
