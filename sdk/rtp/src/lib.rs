//! RTP, RTCP, payload formats and SDP, without I/O
