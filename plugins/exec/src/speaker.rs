//! A program that takes what players say on its standard input (`#backchannel=1`).

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use patchbay_sdk::Error;
use patchbay_sdk::media::aac::{AudioSpecificConfig, adts};
use patchbay_sdk::media::{Codec, Parameters, Unit, flac};
use patchbay_sdk::talk::Talk;
use patchbay_sdk::transport::Session;
use tokio::io::AsyncWriteExt as _;
use tokio::net::unix::pipe;
use tokio::time::timeout;

use crate::command::{Command, Hears};
use crate::transport::{Exec, Over, Said, finish, head, shown};

/// A program that takes nothing for so long is ended.
const WRITE_LIMIT: Duration = Duration::from_secs(5);

impl Exec {
    /// Runs the program for each talk, as long as that lasts.
    pub(crate) async fn hear(
        &self,
        command: &Command,
        hears: &Hears,
        session: &mut Session,
    ) -> Result<(), Error> {
        let connection = head(command, &command.source, "pipe").connection;
        let mut talks = session.accepts(std::slice::from_ref(&hears.track), &connection)?;
        let speak = async {
            loop {
                let talk = talks.next().await;
                self.say(command, hears.as_flac, talk).await?;
            }
        };
        tokio::select! {
            () = session.attend() => Ok(()),
            ended = speak => ended,
        }
    }

    async fn say(&self, command: &Command, as_flac: bool, mut talk: Talk) -> Result<(), Error> {
        let mut program = self.run(&command.words, command, true).await?;
        let mut said = Said::listen(program.take_stderr())?;
        // What it says there is of no use, but it must not wait for a reader.
        let _aside = Said::listen(program.take_stdout())?;
        let stdin = program.take_stdin().ok_or_else(|| Error::protocol("exec: no pipe to the program"))?;
        let mut stdin = pipe::Sender::from_owned_fd(stdin)?;
        let mut form = Form::new(talk.parameters(), as_flac);
        loop {
            let unit = tokio::select! {
                unit = talk.next() => unit,
                status = program.ended() => {
                    return Err(Error::protocol(said.after(format!("exec/pipe:{}", shown(status))).await));
                }
            };
            let Some(unit) = unit else { break };
            let Some(data) = form.written(&unit) else { continue };
            match timeout(WRITE_LIMIT, stdin.write_all(&data)).await {
                Ok(Ok(())) => {}
                // It has closed its standard input: its end says why.
                Ok(Err(_)) => break,
                Err(_) => {
                    finish(&mut program, Over::Closed).await;
                    return Err(Error::timeout("exec: the program takes no sound"));
                }
            }
        }
        drop(stdin);
        finish(&mut program, Over::End).await;
        Ok(())
    }
}

/// How a program gets what is said.
enum Form {
    /// Nothing can be made of it.
    Nothing,
    /// As it is.
    Bare,
    /// AAC in ADTS, for bare frames would be nothing that it can read.
    Adts(AudioSpecificConfig),
    /// Samples as a stream of FLAC, which begins with its header.
    Flac { framer: flac::Framer, has_begun: bool },
}

impl Form {
    fn new(parameters: &Parameters, as_flac: bool) -> Self {
        let form = match parameters.codec {
            _ if as_flac => {
                flac::Framer::new(parameters).map(|framer| Self::Flac { framer, has_begun: false })
            }
            Codec::Aac => AudioSpecificConfig::parse(&parameters.extradata).ok().map(Self::Adts),
            _ => Some(Self::Bare),
        };
        form.unwrap_or(Self::Nothing)
    }

    /// The bytes for a unit.
    fn written(&mut self, unit: &Unit) -> Option<Bytes> {
        match self {
            Self::Nothing => None,
            Self::Bare => Some(unit.data.clone()),
            Self::Adts(config) => Some(joined(&adts::build(config, unit.data.len())?, &unit.data)),
            Self::Flac { framer, has_begun } => {
                let (frame, _) = framer.frame(&unit.data)?;
                let goes_on = std::mem::replace(has_begun, true);
                Some(if goes_on { frame } else { joined(&framer.stream_header(), &frame) })
            }
        }
    }
}

fn joined(head: &[u8], data: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(head.len() + data.len());
    bytes.put_slice(head);
    bytes.put_slice(data);
    bytes.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aac_has_headers_and_samples_have_none() {
        let unit = Unit::new(0, true, Bytes::from_static(&[1, 2, 3]));
        let samples = Parameters::audio(Codec::PcmS16le, 16_000, 1);
        assert_eq!(Form::new(&samples, false).written(&unit).unwrap(), unit.data);
        let mut aac = Parameters::audio(Codec::Aac, 16_000, 1);
        assert_eq!(Form::new(&aac, false).written(&unit), None, "nothing is known of it");
        aac.extradata = AudioSpecificConfig::lc(16_000, 1).build().unwrap();
        let frame = Form::new(&aac, false).written(&unit).unwrap();
        let header = adts::parse(&frame).unwrap().unwrap();
        assert_eq!((header.frame_len, &frame[header.header_len..]), (frame.len(), &unit.data[..]));
        assert_eq!(header.config, AudioSpecificConfig::lc(16_000, 1));
    }

    #[test]
    fn flac_begins_once() {
        let samples = Parameters::audio(Codec::PcmS16le, 16_000, 1);
        let mut framer = flac::Framer::new(&samples).unwrap();
        let mut form = Form::new(&samples, true);
        for number in 0..3 {
            let unit = Unit::new(number * 2, true, Bytes::from_static(&[1, 2, 3, 4]));
            let frame = framer.frame(&unit.data).unwrap().0;
            let written = form.written(&unit).unwrap();
            let header = if number == 0 { framer.stream_header() } else { Bytes::new() };
            assert_eq!(written, [header, frame].concat());
        }
        assert_eq!(form.written(&Unit::new(6, true, Bytes::new())), None, "no samples, no frame");
        let aac = Parameters::audio(Codec::Aac, 16_000, 1);
        assert_eq!(Form::new(&aac, true).written(&Unit::new(0, true, Bytes::from_static(&[1]))), None);
    }
}
