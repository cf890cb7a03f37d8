//! What a plugin may do, tried: `GET /api/fixture?try=WORD:ARGUMENT` answers `ok` or why not.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::time::Duration;

/// Longest wait for a connection.
const WAIT: Duration = Duration::from_secs(2);

/// Tries `read:PATH`, `list:PATH`, `write:PATH`, `remove:PATH`, `run:PATH`, `connect:ADDRESS`, `listen:ADDRESS`,
/// `udp:ADDRESS`, `variable:NAME`, `name:HOST`, `signal:PID`.
pub fn outcome(attempt: &str) -> String {
    let (word, argument) = attempt.split_once(':').unwrap_or((attempt, ""));
    match tried(word, argument) {
        Ok(()) => "ok".to_owned(),
        Err(error) => format!("{:?}: {error}", error.kind()),
    }
}

fn tried(word: &str, argument: &str) -> io::Result<()> {
    let address =
        || argument.parse::<SocketAddr>().map_err(|_| io::Error::other("that is no address with a port"));
    match word {
        "read" => fs::read(argument).map(drop),
        "list" => fs::read_dir(argument).map(drop),
        "write" => fs::write(argument, "fixture"),
        "remove" => fs::remove_file(argument),
        "run" => Command::new(argument).status().map(drop),
        "connect" => TcpStream::connect_timeout(&address()?, WAIT).map(drop),
        "listen" => TcpListener::bind(address()?).map(drop),
        "udp" => UdpSocket::bind("127.0.0.1:0")?.send_to(b"fixture", address()?).map(drop),
        "variable" => std::env::var(argument).map(drop).map_err(|_| io::ErrorKind::PermissionDenied.into()),
        "name" => std::net::ToSocketAddrs::to_socket_addrs(&(argument, 80)).map(drop),
        "signal" => {
            let process = argument.parse().ok().and_then(rustix::process::Pid::from_raw);
            let process = process.ok_or_else(|| io::Error::other("that is no process"))?;
            Ok(rustix::process::test_kill_process(process)?)
        }
        _ => Err(io::Error::other("that is not known")),
    }
}
