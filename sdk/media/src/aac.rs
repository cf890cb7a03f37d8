//! AAC (ISO/IEC 14496-3): `AudioSpecificConfig`, ADTS and LATM framing.

pub mod adts;
pub mod latm;

use bytes::Bytes;

use crate::bits::{BitReader, BitWriter};
use crate::error::{Error, Field};

/// AAC-LC, table 1.17.
pub const LC: u8 = 2;
/// Spectral band replication: HE-AAC.
pub const SBR: u8 = 5;
/// Parametric stereo: HE-AAC v2.
pub const PS: u8 = 29;
/// Error resilient low delay AAC.
const ER_LD: u8 = 23;
/// Enhanced low delay AAC.
const ER_ELD: u8 = 39;

/// `samplingFrequencyIndex`, table 1.18.
const SAMPLE_RATES: [u32; 13] =
    [96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350];
/// Index that says: 24 bits with the rate follow.
const EXPLICIT_RATE: u32 = 15;
/// `syncExtensionType` before a backward compatible SBR signal.
const SYNC_SBR: u32 = 0x2b7;
/// `syncExtensionType` before a backward compatible PS signal.
const SYNC_PS: u32 = 0x548;

/// How spectral band replication is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signalling {
    /// The object type says SBR or PS and the core's follows.
    Hierarchical,
    /// A sync extension behind the core's configuration says so.
    BackwardCompatible,
}

/// Spectral band replication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sbr {
    /// Samples per second of the decoded audio.
    pub sample_rate: u32,
    /// Where it was told.
    pub signalling: Signalling,
}

/// What a decoder must know. ISO/IEC 14496-3 1.6.2.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AudioSpecificConfig {
    /// Audio object type of the core coder; 2 is AAC-LC.
    pub object_type: u8,
    /// Samples per second of the core coder.
    pub sample_rate: u32,
    /// `channelConfiguration`, 0 when the channels are in a program configuration element.
    pub channel_configuration: u8,
    /// Channels of the core coder, 0 unknown.
    pub channels: u8,
    /// Samples per frame and channel of the core coder: 1024 or 960; 512 or 480 for the low delay types.
    pub frame_length: u16,
    /// Spectral band replication, when it is signalled as present.
    pub sbr: Option<Sbr>,
    /// Parametric stereo is signalled as present.
    pub ps: bool,
}

impl AudioSpecificConfig {
    /// AAC-LC with frames of 1024 samples. `channels` is 1 to 6 or 8.
    pub fn lc(sample_rate: u32, channels: u8) -> Self {
        Self {
            object_type: LC,
            sample_rate,
            channel_configuration: if channels == 8 { 7 } else { channels },
            channels,
            frame_length: 1024,
            sbr: None,
            ps: false,
        }
    }

    /// Reads the configuration; bytes behind it are passed over.
    pub fn parse(data: &[u8]) -> Result<Self, Error> {
        Self::read(&mut BitReader::new(data), true)
    }

    /// The first object type in the configuration: 29 or 5 when PS or SBR is signalled hierarchically, else the core's.
    pub fn signalled_object_type(&self) -> u8 {
        match self.sbr {
            Some(Sbr { signalling: Signalling::Hierarchical, .. }) if self.ps => PS,
            Some(Sbr { signalling: Signalling::Hierarchical, .. }) => SBR,
            _ => self.object_type,
        }
    }

    /// Samples per second of the decoded audio.
    pub fn output_sample_rate(&self) -> u32 {
        self.sbr.map_or(self.sample_rate, |sbr| sbr.sample_rate)
    }

    /// Channels of the decoded audio, 0 unknown.
    pub fn output_channels(&self) -> u8 {
        if self.ps && self.channels == 1 { 2 } else { self.channels }
    }

    /// Samples per frame and channel of the decoded audio, in ticks of the output sample rate.
    pub fn output_frame_length(&self) -> u32 {
        let length = u32::from(self.frame_length);
        self.sbr.map_or(length, |sbr| length * (sbr.sample_rate / self.sample_rate.max(1)).clamp(1, 2))
    }

    /// Writes the configuration. `None` for object types whose configuration this crate does not write (all but
    /// 1 to 4) and for channels in a program configuration element.
    pub fn build(&self) -> Option<Bytes> {
        if !(1..=4).contains(&self.object_type) || self.channel_configuration == 0 {
            return None;
        }
        let mut w = BitWriter::new();
        let hierarchical = self.sbr.filter(|sbr| sbr.signalling == Signalling::Hierarchical);
        put_object_type(&mut w, self.signalled_object_type());
        put_rate(&mut w, self.sample_rate);
        w.bits(4, u32::from(self.channel_configuration));
        if let Some(sbr) = hierarchical {
            put_rate(&mut w, sbr.sample_rate);
            put_object_type(&mut w, self.object_type);
        }
        w.flag(self.frame_length == 960);
        w.bits(2, 0); // dependsOnCoreCoder, extensionFlag
        if let Some(sbr) = self.sbr.filter(|sbr| sbr.signalling == Signalling::BackwardCompatible) {
            w.bits(11, SYNC_SBR);
            put_object_type(&mut w, SBR);
            w.flag(true);
            put_rate(&mut w, sbr.sample_rate);
            if self.ps {
                w.bits(11, SYNC_PS);
                w.flag(true);
            }
        }
        Some(w.finish().into())
    }

    /// Reads a configuration out of a longer bit string. `to_the_end`: the string ends with the configuration, so a
    /// sync extension may follow.
    fn read(r: &mut BitReader<'_>, to_the_end: bool) -> Result<Self, Error> {
        let mut object_type = read_object_type(r).field("audioObjectType")?;
        let sample_rate = read_rate(r)?;
        let channel_configuration = r.byte(4).field("channelConfiguration")?;
        let mut sbr = None;
        let mut ps = false;
        if object_type == SBR || object_type == PS {
            ps = object_type == PS;
            sbr = Some(Sbr { sample_rate: read_rate(r)?, signalling: Signalling::Hierarchical });
            object_type = read_object_type(r).field("audioObjectType")?;
            if object_type == 22 {
                r.skip(4).field("extensionChannelConfiguration")?;
            }
        }
        let mut config = Self {
            object_type,
            sample_rate,
            channel_configuration,
            channels: channels_of(channel_configuration),
            frame_length: 1024,
            sbr,
            ps,
        };
        // Many senders cut or pad what follows; the defaults are right then.
        let _ = config.read_specific(r);
        if to_the_end && config.sbr.is_none() {
            let _ = config.read_sync_extension(r);
        }
        Ok(config)
    }

    /// `GASpecificConfig` and the head of `ELDSpecificConfig`. ISO/IEC 14496-3 4.4.1, 4.6.20.
    fn read_specific(&mut self, r: &mut BitReader<'_>) -> Option<()> {
        match self.object_type {
            1..=4 | 6 | 7 | 17 | 19..=23 => {}
            ER_ELD => {
                self.frame_length = if r.flag()? { 480 } else { 512 };
                return Some(());
            }
            _ => return Some(()),
        }
        let short = r.flag()?;
        self.frame_length = match (self.object_type, short) {
            (ER_LD, false) => 512,
            (ER_LD, true) => 480,
            (_, false) => 1024,
            (_, true) => 960,
        };
        if r.flag()? {
            r.skip(14)?; // coreCoderDelay
        }
        let extension = r.flag()?;
        if self.channel_configuration == 0 {
            self.channels = read_program_channels(r)?;
        }
        if matches!(self.object_type, 6 | 20) {
            r.skip(3)?; // layerNr
        }
        if extension {
            match self.object_type {
                22 => r.skip(16)?,
                17 | 19 | 20 | 23 => r.skip(3)?,
                _ => {}
            }
            r.skip(1)?; // extensionFlag3
        }
        Some(())
    }

    /// Backward compatible signalling. ISO/IEC 14496-3 1.6.2.1, table 1.15.
    fn read_sync_extension(&mut self, r: &mut BitReader<'_>) -> Option<()> {
        if r.bits(11)? != SYNC_SBR || read_object_type(r)? != SBR || !r.flag()? {
            return None;
        }
        let sample_rate = read_rate(r).ok()?;
        self.sbr = Some(Sbr { sample_rate, signalling: Signalling::BackwardCompatible });
        self.ps = r.bits(11)? == SYNC_PS && r.flag()?;
        Some(())
    }
}

/// Channels of a `channelConfiguration`, table 1.19; 0 unknown.
fn channels_of(configuration: u8) -> u8 {
    match configuration {
        1..=6 => configuration,
        7 | 12 | 14 => 8,
        11 => 7,
        13 => 24,
        _ => 0,
    }
}

fn rate_of(index: u32) -> Option<u32> {
    SAMPLE_RATES.get(usize::try_from(index).ok()?).copied()
}

fn index_of(sample_rate: u32) -> Option<u32> {
    SAMPLE_RATES.iter().position(|rate| *rate == sample_rate).and_then(|index| u32::try_from(index).ok())
}

fn read_object_type(r: &mut BitReader<'_>) -> Option<u8> {
    match r.byte(5)? {
        31 => Some(32 + r.byte(6)?),
        other => Some(other),
    }
}

fn put_object_type(w: &mut BitWriter, object_type: u8) {
    if object_type < 31 {
        w.bits(5, u32::from(object_type));
    } else {
        w.bits(5, 31);
        w.bits(6, u32::from(object_type) - 32);
    }
}

fn read_rate(r: &mut BitReader<'_>) -> Result<u32, Error> {
    let index = r.bits(4).field("samplingFrequencyIndex")?;
    let rate = if index == EXPLICIT_RATE {
        r.bits(24).field("samplingFrequency")?
    } else {
        rate_of(index).unwrap_or(0)
    };
    if rate == 0 {
        return Err(Error::OutOfRange { field: "samplingFrequencyIndex", value: u64::from(index) });
    }
    Ok(rate)
}

fn put_rate(w: &mut BitWriter, sample_rate: u32) {
    match index_of(sample_rate) {
        Some(index) => w.bits(4, index),
        None => {
            w.bits(4, EXPLICIT_RATE);
            w.bits(24, sample_rate);
        }
    }
}

/// Channels of a `program_config_element`; the reader ends behind its element lists. ISO/IEC 14496-3 4.4.1.1.
fn read_program_channels(r: &mut BitReader<'_>) -> Option<u8> {
    r.skip(10)?; // element_instance_tag, object_type, sampling_frequency_index
    let main = [r.bits(4)?, r.bits(4)?, r.bits(4)?];
    let low_frequency = r.bits(2)?;
    let others = [(r.bits(3)?, 4), (r.bits(4)?, 5)];
    for bits in [4, 4, 3] {
        if r.flag()? {
            r.skip(bits)?; // mixdown elements
        }
    }
    let mut channels = low_frequency;
    for count in main {
        for _ in 0..count {
            channels += if r.flag()? { 2 } else { 1 };
            r.skip(4)?;
        }
    }
    r.skip(usize::try_from(low_frequency).ok()? * 4)?;
    for (count, bits) in others {
        r.skip(usize::try_from(count).ok()? * bits)?;
    }
    u8::try_from(channels).ok()
}
