//! The initialization segment: `ftyp` and `moov`. ISO/IEC 14496-12 8.2 and 8.8.

use bytes::Bytes;
use mp4_atom::{
    Codec as Entry, Dinf, Dref, DrefEntry, Encode, FourCC, Ftyp, Hdlr, Matrix, Mdhd, Mdia, Minf, Moov, Mvex,
    Mvhd, Smhd, Stbl, Stco, Stsd, Tkhd, Trak, Trex, Url, Vmhd,
};
use patchbay_media::{Kind, Parameters};

use super::fragment::track_id;
use super::{Error, Options, Rotation};

/// A track of the segment.
pub(super) struct Track<'a> {
    /// Index in the output.
    pub index: usize,
    pub parameters: &'a Parameters,
    pub timescale: u32,
    pub entry: Entry,
}

/// The segment for `tracks`.
pub(super) fn build(tracks: &[Track<'_>], options: &Options) -> Result<Bytes, Error> {
    let ftyp = Ftyp {
        major_brand: FourCC::new(b"iso5"),
        minor_version: 512,
        compatible_brands: [b"iso5", b"iso6", b"mp41"].map(FourCC::new).to_vec(),
    };
    let next_track_id = tracks.iter().map(|t| track_id(t.index)).max().unwrap_or(0) + 1;
    let moov = Moov {
        mvhd: Mvhd { timescale: 1_000, rate: 1.into(), volume: 1.into(), next_track_id, ..Mvhd::default() },
        mvex: Some(Mvex {
            mehd: None,
            trex: tracks
                .iter()
                .map(|t| Trex {
                    track_id: track_id(t.index),
                    default_sample_description_index: 1,
                    ..Trex::default()
                })
                .collect(),
        }),
        trak: tracks.iter().map(|track| trak(track, options)).collect(),
        ..Moov::default()
    };
    let mut out = Vec::with_capacity(1_024);
    let encoded = ftyp.encode(&mut out).and_then(|()| moov.encode(&mut out));
    encoded.map_err(|_| Error::Unencodable)?;
    Ok(out.into())
}

fn trak(track: &Track<'_>, options: &Options) -> Trak {
    let is_video = track.parameters.codec.kind() == Kind::Video;
    let size = |pixels: u32| u16::try_from(pixels).unwrap_or(u16::MAX).into();
    let (width, height) = (track.parameters.width, track.parameters.height);
    Trak {
        tkhd: Tkhd {
            track_id: track_id(track.index),
            enabled: true,
            in_movie: true,
            volume: if is_video { 0.into() } else { 1.into() },
            matrix: if is_video { matrix(options.rotation, width, height) } else { Matrix::default() },
            width: size(width),
            height: size(height),
            ..Tkhd::default()
        },
        mdia: Mdia {
            mdhd: Mdhd { timescale: track.timescale, language: "und".to_owned(), ..Mdhd::default() },
            hdlr: Hdlr {
                handler: FourCC::new(if is_video { b"vide" } else { b"soun" }),
                name: if is_video { "VideoHandler".to_owned() } else { "SoundHandler".to_owned() },
            },
            minf: Minf {
                vmhd: is_video.then(Vmhd::default),
                smhd: (!is_video).then(Smhd::default),
                dinf: Dinf { dref: Dref { entries: vec![DrefEntry::Url(Url::default())] } },
                stbl: Stbl {
                    stsd: Stsd { codecs: vec![track.entry.clone()] },
                    stco: Some(Stco::default()),
                    ..Stbl::default()
                },
                ..Minf::default()
            },
        },
        ..Trak::default()
    }
}

/// Rotates clockwise and moves the picture back into the positive quadrant. ISO/IEC 14496-12 6.2.2.
fn matrix(rotation: Rotation, width: u32, height: u32) -> Matrix {
    const ONE: i32 = 0x1_0000;
    let fixed = |pixels: u32| i32::try_from(pixels.min(0x7fff) << 16).unwrap_or(i32::MAX);
    let (a, b, c, d, x, y) = match rotation {
        Rotation::None => (ONE, 0, 0, ONE, 0, 0),
        Rotation::Clockwise90 => (0, ONE, -ONE, 0, fixed(height), 0),
        Rotation::Half => (-ONE, 0, 0, -ONE, fixed(width), fixed(height)),
        Rotation::Clockwise270 => (0, -ONE, ONE, 0, 0, fixed(width)),
    };
    Matrix { a, b, c, d, x, y, ..Matrix::default() }
}
