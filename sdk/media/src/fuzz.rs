//! One function per fuzz target: any bytes in, a panic when an invariant does not hold.

use bytes::{Bytes, BytesMut};

use crate::access_unit::{AccessUnitSplitter, Role, role};
use crate::assembler::{Assembler, Flags};
use crate::codec::Codec;
use crate::{Parameters, aac, annexb, av1, codec_string, h264, h265, jpeg, mpeg4, nal, opus, vp8, vp9};

/// Frames of AV1, VP8, VP9 and MPEG-4 Visual.
pub fn frames(data: &[u8]) {
    assert!(vp8::size(data).is_none() || vp8::is_key(data), "only key frames have a size");
    assert!(vp9::KeyFrame::parse(data).is_none() || vp9::is_key(data), "only key frames have a size");
    let _ = (mpeg4::is_key(data), av1::is_key(data));
    if let Some((header, record)) = av1::configuration(data) {
        assert!(header.width > 0 && header.height > 0, "a picture has a size");
        let again = record.get(av1::RECORD_HEAD..).and_then(av1::configuration);
        assert_eq!(again, Some((header, record.clone())), "a record holds its sequence header");
        let parameters = Parameters { extradata: record, ..Parameters::video(Codec::Av1, 90_000) };
        assert!(codec_string::of(&parameters).is_some(), "browsers are told what it is");
    }
    let _ = av1::SequenceHeader::parse(data);
}

/// H.264 parameter sets, slices and records.
pub fn h264_sps(data: &[u8]) {
    let mut sps = vec![0x67];
    sps.extend_from_slice(data);
    if let Ok(parsed) = h264::parse_sps(&sps) {
        assert!(parsed.width > 0 && parsed.height > 0, "a picture has a size");
        assert!(parsed.reorder_depth().is_none_or(|depth| depth <= 16), "a buffer has 16 frames");
        let mut slice = vec![0x65];
        slice.extend_from_slice(data);
        let _ = h264::parse_slice(&slice, Some(&parsed));
    }
    let mut pps = vec![0x68];
    pps.extend_from_slice(data);
    let _ = h264::parse_pps(&pps);
    let _ = h264::recovery_frame_cnt(data);
    let record = h264::avcc(&[&sps], &[&pps]);
    if !record.is_empty() && sps.len() <= 0xffff {
        let sets = h264::parse_avcc(&record).ok();
        assert!(
            sets.is_some_and(|sets| sets.sps == [&sps[..]] && sets.pps == [&pps[..]]),
            "records round trip"
        );
    }
    let _ = h264::parse_avcc(data);
}

/// H.265 parameter sets, slices and records.
pub fn h265_sps(data: &[u8]) {
    let with_header = |kind: u8| {
        let mut nal = vec![kind << 1, 1];
        nal.extend_from_slice(data);
        nal
    };
    let (vps, sps, pps) = (with_header(32), with_header(33), with_header(34));
    if let Ok(parsed) = h265::parse_sps(&sps) {
        assert!(parsed.width > 0 && parsed.height > 0, "a picture has a size");
        assert!((1..=8).contains(&parsed.temporal_layers), "layers are counted from 1");
        assert_eq!(Ok(parsed.general), h265::general_profile(&sps), "one profile, read twice");
    }
    let _ =
        (h265::parse_pps(&pps), h265::slice_pps_id(&with_header(1)), h265::slice_pps_id(&with_header(19)));
    let record = h265::hvcc(&[&vps], &[&sps], &[&pps]);
    if !record.is_empty() && sps.len() <= 0xffff {
        let sets = h265::parse_hvcc(&record).ok();
        let same = |sets: h265::ParameterSets| {
            sets.vps == [&vps[..]] && sets.sps == [&sps[..]] && sets.pps == [&pps[..]]
        };
        assert!(sets.is_some_and(same), "records round trip");
    }
    let _ = h265::parse_hvcc(data);
}

/// `AudioSpecificConfig`, `OpusHead` and JPEG headers.
pub fn asc(data: &[u8]) {
    if let Ok(config) = aac::AudioSpecificConfig::parse(data) {
        assert!(config.sample_rate > 0 && config.output_sample_rate() > 0, "audio has a rate");
        if let Some(built) = config.build() {
            assert_eq!(aac::AudioSpecificConfig::parse(&built), Ok(config), "configurations round trip");
        }
    }
    if let Ok(head) = opus::Head::parse(data) {
        assert_eq!(opus::Head::parse(&head.build()), Ok(head), "headers round trip");
    }
    assert!(
        opus::packet_samples(data).is_none_or(|samples| samples <= opus::MAX_PACKET_SAMPLES),
        "120 ms at most"
    );
    let _ = (jpeg::size(data), jpeg::trim(data));
}

/// JPEG files in a stream: the same whatever the chunks, and each one a file; tables are added once.
pub fn jpeg(data: &[u8]) {
    let chunk = usize::from(data.first().copied().unwrap_or(0)) + 1;
    let split = |chunk: usize| {
        let (mut splitter, mut files) = (jpeg::Splitter::new(), Vec::new());
        data.chunks(chunk).for_each(|piece| splitter.push(piece, |file| files.push(file)));
        files
    };
    let files = split(chunk);
    assert_eq!(files, split(data.len().max(1)), "chunks of {chunk} bytes change nothing");
    for file in files.iter().chain([&Bytes::copy_from_slice(data)]) {
        let whole = jpeg::huffman::complete(file);
        assert_eq!(jpeg::huffman::complete(&whole), whole, "nothing is missing twice");
        assert_eq!(jpeg::size(&whole).ok(), jpeg::size(file).ok(), "the picture is the same");
    }
    assert!(files.iter().all(|file| jpeg::trim(file) == Some(&file[..])), "files begin and end as files do");
}

/// ADTS: the same frames whatever the chunks; headers round trip.
pub fn adts(data: &[u8]) {
    if let Ok(Some(header)) = aac::adts::parse(data) {
        assert!(
            header.frame_len >= header.header_len && header.frame_len <= aac::adts::MAX_FRAME_BYTES,
            "length"
        );
        if let Some(built) = aac::adts::build(&header.config, header.payload_len().min(8184)) {
            let again = aac::adts::parse(&built).ok().flatten();
            assert_eq!(again.map(|again| again.config), Some(header.config), "headers round trip");
        }
    }
    assert!(aac::adts::strip(data).len() <= data.len(), "stripping never adds");
    let whole: Vec<_> = aac::adts::split(data).map(|(header, payload)| (header, payload.to_vec())).collect();
    let chunk = usize::from(data.first().copied().unwrap_or(0)) + 1;
    let mut splitter = aac::adts::Splitter::new();
    let mut pieces = Vec::new();
    for piece in data.chunks(chunk) {
        splitter.push(piece, |header, payload| pieces.push((header, payload.to_vec())));
    }
    splitter.flush(|header, payload| pieces.push((header, payload.to_vec())));
    assert_eq!(pieces, whole, "chunks of {chunk} bytes change nothing");
}

/// LATM configurations, elements, payload lengths and LOAS.
pub fn latm(data: &[u8]) {
    let _ = aac::latm::StreamMuxConfig::parse(data);
    let total: usize = aac::latm::payloads(data).map(<[u8]>::len).sum();
    assert!(total <= data.len(), "payloads lie in the packet");
    let mut demuxer = aac::latm::Demuxer::new();
    let (elements, used) = aac::latm::split_loas(data);
    assert!(used <= data.len(), "no more is used than came");
    for element in elements.into_iter().chain([data]) {
        if let Ok(payloads) = demuxer.push(element) {
            assert!(
                payloads.iter().map(Bytes::len).sum::<usize>() <= element.len(),
                "payloads lie in the element"
            );
        }
    }
}

/// Annex B: the same NAL units whatever the chunks, writing and splitting round trip.
pub fn annexb(data: &[u8]) {
    let nals: Vec<&[u8]> = annexb::split(data).collect();
    let mut out = BytesMut::new();
    annexb::write(nals.iter().copied(), &mut out);
    assert!(annexb::split(&out).eq(nals.iter().copied()), "byte streams round trip");
    let prefixed = nal::to_length_prefixed(nals.iter().copied());
    assert_eq!(nal::well_formed(&prefixed), !nals.is_empty(), "lengths fit");
    assert!(nal::units(&prefixed).eq(nals.iter().copied()), "lengths round trip");
    let chunk = usize::from(data.first().copied().unwrap_or(0)) + 1;
    let mut splitter = annexb::Splitter::new();
    let mut pieces = Vec::new();
    data.chunks(chunk).for_each(|piece| splitter.push(piece, |nal| pieces.push(nal)));
    splitter.flush(|nal| pieces.push(nal));
    assert_eq!(pieces, nals, "chunks of {chunk} bytes change nothing");
    assert_eq!(*nal::unescape(&nal::escape(data)), *data, "escaping round trips");
}

/// A whole byte stream through splitting and assembling: the first byte chooses the codec, the next ones the times.
pub fn assembler(data: &[u8]) {
    let Some((choice, stream)) = data.split_first() else { return };
    let codec = if choice & 1 == 0 { Codec::H264 } else { Codec::Hevc };
    let mut splitter = AccessUnitSplitter::new(codec);
    let mut units = Vec::new();
    for nal in annexb::split(stream) {
        units.extend(splitter.push(Bytes::copy_from_slice(nal)));
    }
    units.extend(splitter.flush());
    let kept =
        |nal: &&[u8]| !matches!(role(codec, nal), None | Some(Role::Set(_) | Role::Delimiter | Role::Filler));
    let mut assembler = Assembler::new(codec, 90_000, &[]);
    let mut expected: Vec<&[u8]> = Vec::new();
    let mut pts = 0_i64;
    for (index, unit) in units.iter().enumerate() {
        let step = i64::from(data.get(index + 1).copied().unwrap_or(0)) - 64;
        pts += step * 400;
        let assembled =
            assembler.push_access_unit(pts, None, unit.nals.iter().map(Bytes::as_ref), Flags::default());
        expected.extend(unit.nals.iter().map(Bytes::as_ref).filter(kept));
        if let Some(parameters) = &assembled.new_parameters {
            assert!(!parameters.extradata.is_empty(), "a configuration has sets");
            assert_eq!(parameters, assembler.parameters(), "the newest is the current one");
            let again = Assembler::new(codec, 90_000, &parameters.extradata);
            assert!(!again.parameters().extradata.is_empty(), "a record can be read back");
            assert!(codec_string::of(parameters).is_some(), "browsers have a name for it");
        }
        if let Some(unit) = &assembled.unit {
            assert!(nal::well_formed(&unit.data), "units hold whole NAL units");
            assert!(unit.dts <= unit.pts && unit.pts == pts, "presentation times are kept");
            assert!(
                nal::units(&unit.data).eq(expected.iter().copied()),
                "SEI and slices are kept byte for byte"
            );
            expected.clear();
        }
    }
}
