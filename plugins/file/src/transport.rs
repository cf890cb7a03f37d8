//! Reads a file, from where the demuxer wants it.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::BytesMut;
use patchbay_sdk::api::message::{Connection, Head};
use patchbay_sdk::transport::{Request, Session, Written};
use patchbay_sdk::{Config, Error, Plugin, Transport};
use tokio::fs::File;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _, SeekFrom};

/// Bytes per read.
const BLOCK: usize = 64 << 10;

/// MIME types by the end of the name; the demuxers look at the bytes first.
const TYPES: [(&str, &str); 15] = [
    (".mp4", "video/mp4"),
    (".m4v", "video/mp4"),
    (".mov", "video/quicktime"),
    (".ts", "video/mp2t"),
    (".flv", "video/x-flv"),
    (".wav", "audio/wav"),
    (".mp3", "audio/mpeg"),
    (".mp2", "audio/mpeg"),
    (".aac", "audio/aac"),
    (".adts", "audio/aac"),
    (".h264", "video/h264"),
    (".264", "video/h264"),
    (".h265", "video/h265"),
    (".hevc", "video/h265"),
    (".y4m", "video/x-yuv4mpeg"),
];

/// The plugin.
pub struct Files;

impl Plugin for Files {
    fn start(_: Config) -> Result<Self, Error> {
        Ok(Self)
    }
}

impl Transport for Files {
    async fn fetch(self: Arc<Self>, request: Request, mut session: Session) -> Result<(), Error> {
        let path = path_of(&request.url)?;
        let shown = path.display().to_string();
        let failed = |what: &str, error: std::io::Error| {
            let mut ended: Error = error.into();
            ended.message = format!("file: cannot {what} {shown}: {}", ended.message);
            ended
        };
        let mut file = File::open(&path).await.map_err(|error| failed("open", error))?;
        let metadata = file.metadata().await.map_err(|error| failed("examine", error))?;
        if metadata.is_dir() {
            return Err(Error::not_found(format!("file: {shown} is a folder")));
        }
        let lower = shown.to_ascii_lowercase();
        let mime = TYPES.iter().find(|(end, _)| lower.ends_with(end)).map_or("", |(_, mime)| mime);
        session.head(&Head {
            mime: mime.to_owned(),
            // A pipe or device has no size and cannot be read again.
            size: metadata.is_file().then_some(metadata.len()),
            seekable: metadata.is_file(),
            live: !metadata.is_file(),
            connection: Connection { protocol: "file".to_owned(), ..Connection::default() },
            ..Head::default()
        })?;
        loop {
            let mut block = BytesMut::with_capacity(BLOCK);
            let read = tokio::select! {
                read = file.read_buf(&mut block) => read.map_err(|error| failed("read", error))?,
                () = session.closed() => return Ok(()),
            };
            let wanted = if read == 0 {
                match session.finished().await? {
                    Some(offset) => offset,
                    None => return Ok(()),
                }
            } else {
                match session.write(block.freeze()).await? {
                    Written::All => continue,
                    Written::Seek(offset) => offset,
                }
            };
            file.seek(SeekFrom::Start(wanted)).await.map_err(|error| failed("seek in", error))?;
        }
    }
}

/// The path in `file:PATH`, `file://PATH` or `file:///PATH`, without options.
fn path_of(url: &str) -> Result<PathBuf, Error> {
    let rest = url.strip_prefix("file:").unwrap_or(url);
    let rest = rest.split('#').next().unwrap_or(rest);
    let rest = rest.strip_prefix("//").unwrap_or(rest);
    if rest.is_empty() {
        return Err(Error::not_found("file: the URL names no file: write file:/path/to/clip.mp4"));
    }
    Ok(PathBuf::from(rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_come_in_three_forms() {
        for url in ["file:/a/b c.mp4", "file:///a/b c.mp4", "file:/a/b c.mp4#loop"] {
            assert_eq!(path_of(url).unwrap(), PathBuf::from("/a/b c.mp4"), "{url}");
        }
        assert_eq!(path_of("file:clip.ts").unwrap(), PathBuf::from("clip.ts"));
        assert!(path_of("file:").is_err());
    }
}
