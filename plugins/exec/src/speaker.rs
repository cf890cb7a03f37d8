//! A program that takes what players say on its standard input (`#backchannel=1`).

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use patchbay_sdk::Error;
use patchbay_sdk::api::message::SendTrack;
use patchbay_sdk::media::aac::{AudioSpecificConfig, adts};
use patchbay_sdk::media::{Codec, Parameters, Unit};
use patchbay_sdk::talk::Talk;
use patchbay_sdk::transport::Session;
use tokio::io::AsyncWriteExt as _;
use tokio::net::unix::pipe;
use tokio::time::timeout;

use crate::command::Command;
use crate::transport::{Exec, Over, Said, finish, head, shown};

/// A program that takes nothing for so long is ended.
const WRITE_LIMIT: Duration = Duration::from_secs(5);

impl Exec {
    /// Runs the program for each talk, as long as that lasts.
    pub(crate) async fn hear(
        &self,
        command: &Command,
        send: &SendTrack,
        session: &mut Session,
    ) -> Result<(), Error> {
        let connection = head(command, &command.source, "pipe").connection;
        let mut talks = session.accepts(std::slice::from_ref(send), &connection)?;
        let speak = async {
            loop {
                let talk = talks.next().await;
                self.say(command, talk).await?;
            }
        };
        tokio::select! {
            () = session.attend() => Ok(()),
            ended = speak => ended,
        }
    }

    async fn say(&self, command: &Command, mut talk: Talk) -> Result<(), Error> {
        let mut program = self.run(&command.words, command, true).await?;
        let mut said = Said::listen(program.take_stderr())?;
        // What it says there is of no use, but it must not wait for a reader.
        let _aside = Said::listen(program.take_stdout())?;
        let stdin = program.take_stdin().ok_or_else(|| Error::protocol("exec: no pipe to the program"))?;
        let mut stdin = pipe::Sender::from_owned_fd(stdin)?;
        loop {
            let unit = tokio::select! {
                unit = talk.next() => unit,
                status = program.ended() => {
                    return Err(Error::protocol(said.after(format!("exec/pipe:{}", shown(status))).await));
                }
            };
            let Some(unit) = unit else { break };
            let Some(data) = written(talk.parameters(), &unit) else { continue };
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

/// A unit as the program gets it: AAC in ADTS, for bare frames would be nothing that it can read; the rest as it is.
fn written(parameters: &Parameters, unit: &Unit) -> Option<Bytes> {
    if parameters.codec != Codec::Aac {
        return Some(unit.data.clone());
    }
    let config = AudioSpecificConfig::parse(&parameters.extradata).ok()?;
    let header = adts::build(&config, unit.data.len())?;
    let mut frame = BytesMut::with_capacity(header.len() + unit.data.len());
    frame.put_slice(&header);
    frame.put_slice(&unit.data);
    Some(frame.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aac_has_headers_and_samples_have_none() {
        let unit = Unit::new(0, true, Bytes::from_static(&[1, 2, 3]));
        assert_eq!(written(&Parameters::audio(Codec::PcmS16le, 16_000, 1), &unit).unwrap(), unit.data);
        let mut aac = Parameters::audio(Codec::Aac, 16_000, 1);
        assert_eq!(written(&aac, &unit), None, "nothing is known of it");
        aac.extradata = AudioSpecificConfig::lc(16_000, 1).build().unwrap();
        let frame = written(&aac, &unit).unwrap();
        let header = adts::parse(&frame).unwrap().unwrap();
        assert_eq!((header.frame_len, &frame[header.header_len..]), (frame.len(), &unit.data[..]));
        assert_eq!(header.config, AudioSpecificConfig::lc(16_000, 1));
    }
}
