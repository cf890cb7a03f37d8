//! The stable ABI between the Patchbay host and its plugins.
//!
//! Each way there is one table of `extern "C"` functions whose first field is its size, with fixed-width integers and
//! pointer + length pairs only. abi_stable compares the layout of both tables when a library is loaded. Every call is
//! short: long work ends in an event. The same shape serves in-process plugins (function calls) and isolated ones (the
//! same messages over a socket).
//!
//! ```text
//! host ── start, open, command, close, stop ──▶ plugin      PluginTable
//! host ◀── emit, push, write, read, locate ... ─ plugin      HostTable
//! ```
//!
//! | start here | for |
//! |---|---|
//! | [`abi`] | the two tables and the structs they carry |
//! | [`message`] | what `open`, `command` and `emit` carry: JSON for what is rare, bytes for what is not |
//! | [`c`] | the same tables for libraries in C: `include/patchbay_plugin.h` |
//! | [`manifest`] | what a library says of itself without being run |
//! | [`Host`] | the host table, safe to call (for the sdk) |
//! | [`Plugin`] | the plugin table, safe to call (for the host) |
//! | [`version`] | which libraries may be loaded |
//!
//! It is 1.0: what may change, and what not, is in `docs/adr/0023-abi-1-0.md`; [`version::ABI`] says which version this is.

pub mod abi;
pub mod c;
pub mod code;
pub mod entry;
#[doc(hidden)]
pub mod fuzz;
pub mod host;
pub mod manifest;
pub mod message;
pub mod panic;
pub mod plugin;
pub mod records;
pub mod version;

pub use code::Code;
pub use host::{Chunk, Host, Patch, PatchKind, Read};
pub use manifest::Manifest;

pub use patchbay_ring::{UnitHeader, flags};
pub use plugin::Plugin;

#[doc(hidden)]
pub use abi_stable;
