//! Patchbay: any camera protocol in, any player protocol out.
//!
//! | start here | for |
//! |---|---|
//! | [`cli`] | the command line |
//! | [`config`] | the configuration files: reading, merging, writing |
//! | [`catalogue`], [`watch`] | which plugins there are, and what changes while everything runs |
//! | [`app`], [`router`] | the running host; which source feeds whom |
//! | [`instance`], [`child`], [`runner`] | a started plugin, here or in a process of its own |
//! | [`hub`], [`serve`], [`http`] | outputs and their clients |
//! | [`log`] | the log |
//! | [`redact`] | keeping secrets out of it |

mod answers;
pub mod app;
pub mod blobs;
pub mod bridge;
pub mod catalogue;
pub mod chain;
pub mod check;
pub mod child;
pub mod cli;
pub mod config;
#[doc(hidden)]
pub mod fuzz;
pub mod http;
pub mod hub;
pub mod instance;
pub mod loader;
pub mod log;
pub mod program;
mod reading;
pub mod redact;
pub mod restart;
pub mod router;
pub mod runner;
pub mod sandbox;
pub mod serve;
pub mod source;
pub mod watch;
pub mod wire;
