//! fMP4, MP4 and MPEG-TS, without I/O
