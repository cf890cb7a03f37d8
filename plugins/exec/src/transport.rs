//! Runs a program and reads what it writes.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::BytesMut;
use parking_lot::Mutex;
use patchbay_net::url::SourceUrl;
use patchbay_sdk::api::message::{Connection, Head};
use patchbay_sdk::process::{Program, Programs};
use patchbay_sdk::transport::{Request, Session};
use patchbay_sdk::{Config, Error, Plugin, Transport};
use serde::Deserialize;
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};

use crate::command::Command;

/// Bytes per read.
const BLOCK: usize = 64 << 10;

/// Bytes of standard error that an error tells.
const MAX_SAID: usize = 512;

/// How long the last of it may take to be read when the program has ended.
const SAID_LIMIT: Duration = Duration::from_millis(300);

/// Longest line of standard error that is logged at once.
const MAX_LINE: usize = 4 << 10;

/// A session waits so long for the program that it has told to end; then it ends without us.
const END_LIMIT: Duration = Duration::from_millis(1500);

/// How long a program that has closed its standard output may take to end.
const EXIT_LIMIT: Duration = Duration::from_secs(1);

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Settings {
    allow_paths: Option<Vec<String>>,
}

/// The plugin.
pub struct Exec {
    settings: Settings,
    programs: OnceLock<Programs>,
}

impl Plugin for Exec {
    fn start(config: Config) -> Result<Self, Error> {
        Ok(Self { settings: config.parse()?, programs: OnceLock::new() })
    }
}

impl Exec {
    /// The thread for programs, from the first one on.
    fn programs(&self) -> Result<&Programs, Error> {
        if let Some(programs) = self.programs.get() {
            return Ok(programs);
        }
        let programs = Programs::new()?;
        Ok(self.programs.get_or_init(|| programs))
    }

    fn is_allowed(&self, program: &str) -> bool {
        self.settings.allow_paths.as_ref().is_none_or(|list| list.iter().any(|path| path == program))
    }
}

impl Transport for Exec {
    async fn fetch(self: Arc<Self>, request: Request, mut session: Session) -> Result<(), Error> {
        let command = Command::parse(&request.url).map_err(|error| Error::unsupported(error.to_string()))?;
        let name = command.words.first().cloned().unwrap_or_default();
        if !self.is_allowed(&name) {
            return Err(Error::unsupported(format!("exec: bin not in allow_paths: {name}")));
        }
        if let Some(hears) = &command.hears {
            return self.hear(&command, hears, &mut session).await;
        }
        if command.publishes() {
            return self.publish(&request, &command, &mut session).await;
        }
        session.head(&head(&command, &command.source, "pipe"))?;
        let mut program = self.run(&command.words, &command, false).await?;
        let mut said = Said::listen(program.take_stderr())?;
        let over = carry(program.take_stdout(), &mut session, command.start_limit).await?;
        let status = finish(&mut program, over).await;
        match (over, status) {
            (Over::Closed, _) => Ok(()),
            (Over::Late, _) => Err(Error::timeout(said.after("exec: timeout".to_owned()).await)),
            (Over::Empty, status) => {
                Err(Error::protocol(said.after(format!("exec/pipe: EOF{}", shown(status))).await))
            }
            (Over::End, Some(status)) if !status.success() => {
                Err(Error::protocol(said.after(format!("exec/pipe:{}", shown(Some(status)))).await))
            }
            (Over::End, _) => {
                session.finished().await?;
                Ok(())
            }
        }
    }
}

impl Exec {
    pub(crate) async fn run(
        &self,
        words: &[String],
        command: &Command,
        speaks: bool,
    ) -> Result<Program, Error> {
        let name = words.first().map_or("", String::as_str);
        let words: Vec<OsString> = words.iter().map(OsString::from).collect();
        let programs = self.programs()?;
        let started = match speaks {
            true => programs.start_with_input(&words, command.ending).await,
            false => programs.start(&words, command.ending).await,
        };
        let program = started.map_err(|error| {
            let mut ended: Error = error.into();
            ended.message = format!("exec: cannot run {name}: {}", ended.message);
            ended
        })?;
        tracing::debug!(pid = program.id(), program = name, "started");
        Ok(program)
    }

    /// Runs a program that publishes by RTSP to a name that only it is told.
    async fn publish(
        &self,
        request: &Request,
        command: &Command,
        session: &mut Session,
    ) -> Result<(), Error> {
        let endpoint = request.endpoints.get("rtsp").and_then(|address| address.rsplit_once(':'));
        let Some((_, port)) = endpoint else {
            return Err(Error::unsupported("exec: rtsp module disabled"));
        };
        let (source, words) = command.publishing_to(&format!("rtsp://127.0.0.1:{port}/{}", command.token()));
        session.head(&Head { expect: command.token(), ..head(command, &source, "") })?;
        let mut program = self.run(&words, command, false).await?;
        let mut said = Said::listen(program.take_stderr())?;
        // What it says there is of no use, but it must not wait for a reader.
        let _aside = Said::listen(program.take_stdout())?;
        let over = tokio::select! {
            published = session.published() => if published.is_ok() { None } else { Some(Over::Closed) },
            status = program.ended() => {
                return Err(Error::protocol(said.after(format!("exec/rtsp:{}", shown(status))).await));
            }
            () = sleep_until(Instant::now() + command.start_limit) => Some(Over::Late),
        };
        match over {
            Some(over) => {
                finish(&mut program, over).await;
                if over == Over::Closed {
                    return Ok(());
                }
                Err(Error::timeout(said.after("exec: timeout".to_owned()).await))
            }
            None => {
                let status = tokio::select! {
                    status = program.ended() => status,
                    () = session.closed() => {
                        finish(&mut program, Over::Closed).await;
                        return Ok(());
                    }
                };
                if status.is_some_and(|status| status.success()) {
                    return Err(Error::eof("the program has ended"));
                }
                Err(Error::protocol(said.after(format!("exec/rtsp:{}", shown(status))).await))
            }
        }
    }
}

pub(crate) fn head(command: &Command, source: &str, protocol: &str) -> Head {
    let input = command.input().and_then(|input| SourceUrl::parse(input).ok());
    Head {
        live: true,
        connection: Connection {
            protocol: protocol.to_owned(),
            remote_addr: input.map(|input| input.authority()).unwrap_or_default(),
            source: source.to_owned(),
            ..Connection::default()
        },
        ..Head::default()
    }
}

/// Why no more is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Over {
    /// Nobody wants it any more.
    Closed,
    /// No first byte in time.
    Late,
    /// It has written nothing.
    Empty,
    /// It has closed its standard output.
    End,
}

/// Carries what the program writes.
async fn carry(stdout: Option<OwnedFd>, session: &mut Session, start_limit: Duration) -> Result<Over, Error> {
    let Some(stdout) = stdout else { return Ok(Over::Empty) };
    let mut stdout = pipe::Receiver::from_owned_fd(stdout)?;
    let limit = Instant::now() + start_limit;
    let mut any = false;
    loop {
        let mut block = BytesMut::with_capacity(BLOCK);
        let read = tokio::select! {
            read = stdout.read_buf(&mut block) => read?,
            () = session.closed() => return Ok(Over::Closed),
            () = sleep_until(limit), if !any => return Ok(Over::Late),
        };
        match (read, any) {
            (0, false) => return Ok(Over::Empty),
            (0, true) => return Ok(Over::End),
            _ => any = true,
        }
        // Refused: the host has said why to whoever waits.
        if session.write(block.freeze()).await.is_err() {
            return Ok(Over::Closed);
        }
    }
}

/// Waits until the program has ended, and ends it when it does not by itself.
pub(crate) async fn finish(program: &mut Program, over: Over) -> Option<ExitStatus> {
    if matches!(over, Over::Empty | Over::End)
        && let Ok(status) = timeout(EXIT_LIMIT, program.ended()).await
    {
        return status;
    }
    program.stop();
    // Its end goes on without us when it takes longer.
    timeout(END_LIMIT, program.ended()).await.ok().flatten()
}

pub(crate) fn shown(status: Option<ExitStatus>) -> String {
    match status.map(|status| (status.code(), status.signal())) {
        Some((Some(code), _)) => format!(" exit status {code}"),
        Some((_, Some(signal))) => format!(" signal {signal}"),
        _ => String::new(),
    }
}

/// What the program says on its standard error.
pub(crate) struct Said {
    first: Arc<Mutex<Vec<u8>>>,
    listener: JoinHandle<()>,
}

impl Said {
    pub(crate) fn listen(stderr: Option<OwnedFd>) -> Result<Self, Error> {
        let first = Arc::new(Mutex::new(Vec::new()));
        let pipe = stderr.map(pipe::Receiver::from_owned_fd).transpose()?;
        let kept = Arc::clone(&first);
        let listener = patchbay_sdk::spawn(async move {
            if let Some(pipe) = pipe {
                listen(pipe, &kept).await;
            }
        });
        Ok(Self { first, listener })
    }

    /// `message` with the first of what was said.
    pub(crate) async fn after(&mut self, message: String) -> String {
        // The program is gone: what it said is in the pipe.
        let _ = timeout(SAID_LIMIT, &mut self.listener).await;
        let first = self.first.lock();
        let text = String::from_utf8_lossy(first.get(..MAX_SAID).unwrap_or(&first));
        let more = if first.len() > MAX_SAID { "..." } else { "" };
        if text.trim().is_empty() { message } else { format!("{message}\n{}{more}", text.trim_end()) }
    }
}

impl Drop for Said {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

/// Keeps the first bytes and logs the lines.
async fn listen(mut pipe: pipe::Receiver, kept: &Mutex<Vec<u8>>) {
    let mut block = BytesMut::with_capacity(MAX_LINE);
    let mut line = BytesMut::new();
    while matches!(pipe.read_buf(&mut block).await, Ok(1..)) {
        {
            let mut kept = kept.lock();
            let room = (MAX_SAID + 1).saturating_sub(kept.len()).min(block.len());
            kept.extend(block.iter().take(room));
        }
        line.unsplit(block.split());
        while let Some(end) = line.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
            let whole = line.split_to(end + 1);
            say(&whole);
        }
        if line.len() > MAX_LINE {
            say(&line.split());
        }
        block.reserve(MAX_LINE);
    }
    say(&line);
}

fn say(line: &[u8]) {
    let text = String::from_utf8_lossy(line);
    if !text.trim().is_empty() {
        tracing::debug!("{}", text.trim());
    }
}
