//! The client: a playlist's address in, tracks and units out.
//!
//! | part | does |
//! |---|---|
//! | [`playlist`] | reads playlists, without I/O |
//! | [`follow`] | which segment comes next, and when to ask again, without I/O |
//! | [`segment`] | reads the containers of segments, without I/O |
//! | [`decrypt`] | AES-128, without I/O |
//! | [`timeline`] | times that go on over discontinuities, without I/O |
//! | [`fetch`] | HTTP with cookies |
//! | [`rendition`] | the task that fetches one media playlist |
//! | [`demuxer`] | the session: chooses renditions, plays them in real time |

pub mod decrypt;
pub mod demuxer;
pub mod fetch;
pub mod follow;
pub mod playlist;
pub mod rendition;
pub mod segment;
pub mod timeline;
