//! The body of a tunnel's POST: base64 of each request, with padding wherever one ends.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Padding and the bits that it leaves over may be anything.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// The body holds a character that is none of base64's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the body is no base64: it holds the byte {0:#04x}")]
pub struct NotBase64(pub u8);

/// Decodes what comes, in groups of four characters.
#[derive(Debug, Default)]
pub struct Decoder {
    group: [u8; 4],
    len: usize,
}

impl Decoder {
    /// Appends to `out` what `text` completes. Blanks and line ends are passed over.
    pub fn push(&mut self, text: &[u8], out: &mut BytesMut) -> Result<(), NotBase64> {
        for byte in text.iter().copied().filter(|byte| !byte.is_ascii_whitespace()) {
            if !byte.is_ascii_alphanumeric() && !matches!(byte, b'+' | b'/' | b'=') {
                return Err(NotBase64(byte));
            }
            if let Some(slot) = self.group.get_mut(self.len) {
                *slot = byte;
            }
            self.len += 1;
            if self.len == self.group.len() {
                self.len = 0;
                let mut bytes = [0; 3];
                let end = self.group.iter().position(|b| *b == b'=').unwrap_or(self.group.len());
                let group = self.group.get(..end).unwrap_or_default();
                let len = LENIENT.decode_slice(group, &mut bytes).map_err(|_| NotBase64(b'='))?;
                out.extend_from_slice(bytes.get(..len).unwrap_or_default());
            }
        }
        Ok(())
    }
}

/// Both ways of a tunnel as the client has them: reads come from the answer to the GET, writes go to the POST's body.
#[derive(Debug)]
pub struct Tunnel<R, W> {
    down: R,
    up: W,
    /// Encoded, not yet written.
    pending: BytesMut,
}

impl<R, W> Tunnel<R, W> {
    /// A tunnel whose two heads were exchanged.
    pub fn new(down: R, up: W) -> Self {
        Self { down, up, pending: BytesMut::new() }
    }
}

impl<R: Unpin, W: AsyncWrite + Unpin> Tunnel<R, W> {
    fn poll_pending(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.pending.is_empty() {
            match ready!(Pin::new(&mut self.up).poll_write(cx, &self.pending))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.pending.advance(written),
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<R: AsyncRead + Unpin, W: Unpin> AsyncRead for Tunnel<R, W> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.down).poll_read(cx, buf)
    }
}

impl<R: Unpin, W: AsyncWrite + Unpin> AsyncWrite for Tunnel<R, W> {
    /// One request is one call, so that its padding is at its end.
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_pending(cx))?;
        self.pending.extend_from_slice(STANDARD.encode(buf).as_bytes());
        // What does not fit now goes with the next write or flush.
        let _ = self.poll_pending(cx)?;
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_pending(cx))?;
        Pin::new(&mut self.up).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_pending(cx))?;
        Pin::new(&mut self.up).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The body that ffmpeg sends first, measured with ffmpeg 9.
    const OPTIONS: &str = "T1BUSU9OUyBydHNwOi8vMTI3LjAuMC4xOjE1NTYwL2NhbT94PTEgUlRTUC8xLjANCkNTZXE6IDENClVzZXItQWdl\
        bnQ6IExhdmY2My4xLjEwMg0KDQo=";

    #[test]
    fn k5_requests_of_ffmpeg() {
        let mut out = BytesMut::new();
        Decoder::default().push(OPTIONS.as_bytes(), &mut out).unwrap();
        let text = String::from_utf8(out.to_vec()).unwrap();
        assert_eq!(
            text,
            "OPTIONS rtsp://127.0.0.1:15560/cam?x=1 RTSP/1.0\r\nCSeq: 1\r\nUser-Agent: Lavf63.1.102\r\n\r\n"
        );
    }

    #[test]
    fn what_is_no_base64_is_refused() {
        let mut out = BytesMut::new();
        assert_eq!(Decoder::default().push(b"OPTIONS *", &mut out), Err(NotBase64(b'*')));
        assert_eq!(Decoder::default().push(b"A===", &mut out), Err(NotBase64(b'=')));
    }

    proptest! {
        #[test]
        fn s26_any_requests_in_any_pieces(requests: Vec<Vec<u8>>, piece in 1_usize..9) {
            let text: String = requests.iter().map(|request| STANDARD.encode(request)).collect();
            let (mut decoder, mut out) = (Decoder::default(), BytesMut::new());
            for piece in text.as_bytes().chunks(piece) {
                decoder.push(piece, &mut out).unwrap();
                decoder.push(b"\r\n", &mut out).unwrap();
            }
            prop_assert_eq!(out.to_vec(), requests.concat());
        }

        #[test]
        fn any_bytes_are_read(bytes: Vec<u8>) {
            let mut out = BytesMut::new();
            let _ = Decoder::default().push(&bytes, &mut out);
            prop_assert!(out.len() <= bytes.len());
        }
    }
}
