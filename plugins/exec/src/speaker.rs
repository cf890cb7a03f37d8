//! A program that takes what players say on its standard input (`#backchannel=1`).

use std::time::Duration;

use patchbay_sdk::Error;
use patchbay_sdk::api::message::SendTrack;
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
            match timeout(WRITE_LIMIT, stdin.write_all(&unit.data)).await {
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
