//! The camera's messages, the same both ways: a header of 16 bytes (big-endian: kind `u32`, length `u32`, time in
//! microseconds `u64`) and the payload.

use bytes::{Buf as _, Bytes, BytesMut};

/// Bytes of a header.
pub const HEADER: usize = 16;

/// Longest payload that is taken, in bytes. Checked before anything is allocated.
pub const MAX_PAYLOAD: usize = 4 << 20;

/// What a message is.
pub mod kind {
    /// To the camera: `user:password`.
    pub const LOGIN: u32 = 1;
    /// From the camera: one byte, 0 when the login was taken.
    pub const ANSWER: u32 = 2;
    /// From the camera: one H.264 access unit with start codes (Annex B), key pictures with their parameter sets.
    pub const PICTURE: u32 = 3;
    /// To the camera: 20 ms of sound for its loudspeaker, 160 bytes of A-law.
    pub const SOUND: u32 = 4;
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// One of [`kind`].
    pub kind: u32,
    /// When the picture was taken, microseconds on the camera's clock.
    pub time_us: u64,
    /// The rest.
    pub payload: Bytes,
}

/// Why bytes are no message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// The length is over its limit.
    #[error("the camera announces a message of {len} bytes, more than {MAX_PAYLOAD}")]
    TooLong {
        /// The length.
        len: usize,
    },
}

impl Message {
    /// Takes the next message out of `buffer`; `None`: more bytes are needed.
    pub fn parse(buffer: &mut BytesMut) -> Result<Option<Self>, WireError> {
        let Some(mut head) = buffer.get(..HEADER) else {
            return Ok(None);
        };
        let (kind, len, time_us) = (head.get_u32(), head.get_u32() as usize, head.get_u64());
        if len > MAX_PAYLOAD {
            return Err(WireError::TooLong { len });
        }
        if buffer.len() < HEADER + len {
            return Ok(None);
        }
        buffer.advance(HEADER);
        let payload = buffer.split_to(len).freeze();
        Ok(Some(Self {
            kind,
            time_us,
            payload,
        }))
    }

    /// The message as bytes.
    pub fn build(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER + self.payload.len());
        bytes.extend(self.kind.to_be_bytes());
        bytes.extend((self.payload.len() as u32).to_be_bytes());
        bytes.extend(self.time_us.to_be_bytes());
        bytes.extend_from_slice(&self.payload);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_back_however_the_bytes_are_cut() {
        let sent: Vec<Message> = (0..5_u32)
            .map(|n| Message {
                kind: n,
                time_us: u64::from(n) << 40,
                payload: vec![n as u8; n as usize * 7].into(),
            })
            .collect();
        let bytes: Vec<u8> = sent.iter().flat_map(Message::build).collect();
        for step in 1..=bytes.len() {
            let (mut buffer, mut got) = (BytesMut::new(), Vec::new());
            for piece in bytes.chunks(step) {
                buffer.extend_from_slice(piece);
                while let Some(message) = Message::parse(&mut buffer).unwrap() {
                    got.push(message);
                }
            }
            assert_eq!(got, sent, "pieces of {step} bytes");
        }
    }

    #[test]
    fn a_length_over_the_limit_is_an_error_before_the_payload_comes() {
        let mut buffer =
            BytesMut::from(&[0, 0, 0, 3, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0][..]);
        assert_eq!(
            Message::parse(&mut buffer),
            Err(WireError::TooLong { len: 0xffff_ffff })
        );
    }
}
