//! Patchbay: any camera protocol in, any player protocol out.
//!
//! | start here | for |
//! |---|---|
//! | [`cli`] | the command line |
//! | [`config`] | the configuration files: reading, merging, writing |
//! | [`log`] | the log |
//! | [`redact`] | keeping secrets out of it |

mod answers;
pub mod app;
pub mod blobs;
pub mod bridge;
pub mod catalogue;
pub mod chain;
pub mod child;
pub mod cli;
pub mod config;
pub mod http;
pub mod hub;
pub mod instance;
pub mod loader;
pub mod log;
pub mod redact;
pub mod restart;
pub mod router;
pub mod runner;
pub mod serve;
pub mod source;
pub mod wire;
