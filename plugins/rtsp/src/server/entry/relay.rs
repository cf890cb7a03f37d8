//! Bytes between a client behind TLS or a tunnel and a connection's pair.

use std::io;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader, copy_buf};
use tokio::net::UnixStream;

use super::tunnels::Posts;
use crate::tunnel::Stream;
use crate::tunnel::body::Decoder;

/// Bytes that are taken from the pair at once: a message of a WebSocket is as large.
const BUFFER: usize = 64 << 10;
/// Bytes of a POST that are decoded at once.
const READ: usize = 8 << 10;

/// Both ways of one stream, until one of them ends.
pub(super) async fn streams(outer: impl Stream, inner: UnixStream) -> io::Result<()> {
    let (outer_read, mut outer_write) = tokio::io::split(outer);
    let (inner_read, mut inner_write) = inner.into_split();
    let (mut up, mut down) =
        (BufReader::with_capacity(READ, outer_read), BufReader::with_capacity(BUFFER, inner_read));
    tokio::select! {
        ended = copy_buf(&mut up, &mut inner_write) => ended.map(drop),
        ended = copy_buf(&mut down, &mut outer_write) => {
            ended?;
            outer_write.shutdown().await
        }
    }
}

/// The two requests of an HTTP tunnel, until the GET's connection or the pair ends. A POST that ends may be followed by
/// another.
pub(super) async fn tunnel(get: impl Stream, mut posts: Posts, inner: UnixStream) -> io::Result<()> {
    let (mut get_read, mut get_write) = tokio::io::split(get);
    let (inner_read, mut inner_write) = inner.into_split();
    let mut down = BufReader::with_capacity(BUFFER, inner_read);
    let up = async {
        while let Some(mut post) = posts.next().await {
            let (mut decoder, mut bytes) = (Decoder::default(), BytesMut::new());
            loop {
                decoder.push(&post.first, &mut bytes).map_err(io::Error::other)?;
                post.first.clear();
                inner_write.write_all_buf(&mut bytes).await?;
                post.first.reserve(READ);
                if post.stream.read_buf(&mut post.first).await? == 0 {
                    break;
                }
            }
        }
        Ok(())
    };
    // Nothing more comes on the GET's connection but its end.
    let ended = async {
        let mut ignored = [0; 256];
        while get_read.read(&mut ignored).await? > 0 {}
        Ok(())
    };
    tokio::select! {
        ended = up => ended,
        ended = ended => ended,
        ended = copy_buf(&mut down, &mut get_write) => {
            ended?;
            get_write.shutdown().await
        }
    }
}
