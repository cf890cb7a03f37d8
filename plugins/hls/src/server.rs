//! The server: playlists, segments and parts of live streams.
//!
//! | part | does |
//! |---|---|
//! | [`segmenter`] | units -> parts and segments, without I/O |
//! | [`window`] | what a playlist lists, and its text, without I/O |
//! | [`master`] | the multivariant playlist, without I/O |
//! | [`stream`] | one run per stream, tracks and container, as requests see it |
//! | `run` | its task: reads the rings, hands parts over |
//! | [`routes`] | requests |

pub mod master;
pub mod routes;
mod run;
pub mod segmenter;
pub mod stream;
pub mod window;
