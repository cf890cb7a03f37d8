//! The `moov` box. ISO/IEC 14496-12 8.2 to 8.8.

use bytes::Bytes;
use patchbay_media::Kind;

use super::Error;
use super::boxes::{Fields, child, children};
use super::entry::{self, Entry, Packing};
use super::table::Walk;

/// Most tracks that are read; more are left out.
pub(super) const MAX_TRACKS: usize = 32;
/// Most sample entries of a track; more are left out.
const MAX_ENTRIES: usize = 64;

/// A track that this server knows the codec of.
#[derive(Debug, Clone)]
pub(super) struct Track {
    pub id: u32,
    /// By index of the sample entry; `None` where the codec is unknown. The first known one is `first`.
    pub entries: Vec<Option<Entry>>,
    pub first: Entry,
    pub timescale: u32,
    /// Added to all times: what the edit list says, see [`edit`].
    pub edit: i64,
    pub walk: Walk,
    /// Defaults of fragments.
    pub defaults: Defaults,
}

/// `trex`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Defaults {
    pub entry: u32,
    pub duration: u32,
    pub size: u32,
    pub flags: u32,
}

/// The tracks of `moov` with known codecs.
pub(super) fn parse(moov: &Bytes) -> Result<Vec<Track>, Error> {
    let movie_timescale = child(moov, b"mvhd").and_then(|body| timescale(body, false)).unwrap_or(1_000);
    let mvex = child(moov, b"mvex");
    let traks = children(moov).filter(|(kind, _)| kind == b"trak");
    let tracks = traks.filter_map(|(_, trak)| track(&trak, movie_timescale, mvex.as_ref())).take(MAX_TRACKS);
    let tracks: Vec<Track> = tracks.collect();
    if tracks.is_empty() { Err(Error::NoTracks) } else { Ok(tracks) }
}

fn track(trak: &Bytes, movie_timescale: u32, mvex: Option<&Bytes>) -> Option<Track> {
    let id = track_id(child(trak, b"tkhd")?)?;
    let mdia = child(trak, b"mdia")?;
    let timescale = timescale(child(&mdia, b"mdhd")?, true)?;
    let stbl = child(&child(&mdia, b"minf")?, b"stbl")?;
    let mut stsd = Fields(child(&stbl, b"stsd")?);
    stsd.full()?;
    stsd.u32()?;
    let entries: Vec<Option<Entry>> = children(&stsd.0)
        .take(MAX_ENTRIES)
        .map(|(kind, body)| {
            entry::parse(kind, &body, timescale).filter(|e| e.parameters.codec.kind() != Kind::Data)
        })
        .collect();
    let first = entries.iter().flatten().next()?.clone();
    let pcm = match first.packing {
        Packing::Pcm { bytes } => Some(bytes),
        _ => None,
    };
    Some(Track {
        id,
        entries,
        timescale,
        edit: child(trak, b"edts").and_then(|edts| edit(&edts, movie_timescale, timescale)).unwrap_or(0),
        walk: Walk::new(&stbl, pcm),
        defaults: mvex.and_then(|mvex| defaults(mvex, id)).unwrap_or_default(),
        first,
    })
}

fn track_id(tkhd: Bytes) -> Option<u32> {
    let mut fields = Fields(tkhd);
    let (version, _) = fields.full()?;
    fields.versioned(version)?;
    fields.versioned(version)?;
    fields.u32()
}

/// Of `mvhd` and `mdhd`, which begin alike. A track without is unusable, at least 1.
fn timescale(header: Bytes, strict: bool) -> Option<u32> {
    let mut fields = Fields(header);
    let (version, _) = fields.full()?;
    fields.versioned(version)?;
    fields.versioned(version)?;
    fields.u32().filter(|rate| !strict || *rate > 0)
}

fn defaults(mvex: &Bytes, id: u32) -> Option<Defaults> {
    children(mvex).filter(|(kind, _)| kind == b"trex").find_map(|(_, trex)| {
        let mut fields = Fields(trex);
        fields.full()?;
        if fields.u32()? != id {
            return None;
        }
        let entry = fields.u32()?.saturating_sub(1);
        Some(Defaults { entry, duration: fields.u32()?, size: fields.u32()?, flags: fields.u32()? })
    })
}

/// What the edit list moves a track's times by: empty edits delay it, the first other one says which media time is 0.
/// Later edits are passed over. 8.6.6.
fn edit(edts: &Bytes, movie_timescale: u32, timescale: u32) -> Option<i64> {
    let mut fields = Fields(child(edts, b"elst")?);
    let (version, _) = fields.full()?;
    let count = fields.u32()?;
    let mut delay = 0_i64;
    for _ in 0..count {
        let duration = fields.versioned(version)?;
        let word = fields.versioned(version)?;
        fields.skip(4)?;
        let media_time = if version == 1 {
            i64::from_be_bytes(word.to_be_bytes())
        } else {
            i64::from(i32::from_be_bytes(u32::try_from(word).ok()?.to_be_bytes()))
        };
        if media_time >= 0 {
            return delay.checked_sub(media_time);
        }
        let duration = i64::try_from(duration).ok()?;
        delay = delay.checked_add(crate::timeline::rescale(duration, movie_timescale, timescale))?;
    }
    Some(delay)
}
