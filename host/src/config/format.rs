//! What of an address, a path or a command can be judged without dialling, opening or running it: the `format`s of option
//! schemas, and the URLs of sources.

use std::ffi::OsStr;
use std::fs;
use std::net::Ipv6Addr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::problem::nearest;

/// Longest file that is looked into, in bytes: certificates and keys are smaller.
const MAX_PEM: u64 = 1 << 20;

/// Why a text cannot work. Never holds the text, which may be secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// No colon, or nothing behind it.
    #[error("has no port")]
    NoPort,
    /// What stands behind the colon is no port.
    #[error("has a port that is not a number from {least} to 65535")]
    Port {
        /// 0 where the system may choose one.
        least: u16,
    },
    /// Nothing where the host belongs.
    #[error("has no host")]
    NoHost,
    /// The brackets around an IPv6 address are not closed, or it is none.
    #[error("has an IPv6 address that is none, or whose bracket is not closed")]
    Brackets,
    /// A blank or a control character.
    #[error("has a blank or a control character in it")]
    Blank,
    /// Text behind a listen address that is neither `/tcp` nor `/udp`.
    #[error("ends with something else than /tcp or /udp")]
    Transport,
    /// Not one of the schemes that go here.
    #[error("begins with none of {known}")]
    Scheme {
        /// Those that go here.
        known: &'static str,
    },
    /// A file that is not there.
    #[error("names a file that is not there")]
    NoFile,
    /// A folder where a file belongs.
    #[error("names a folder")]
    Folder,
    /// A file that this user cannot read.
    #[error("names a file that cannot be read")]
    Unreadable,
    /// Neither a PEM text nor a file of one.
    #[error("is no PEM text, nor a file of one")]
    NotPem,
    /// Nothing to run, or quotes that do not end.
    #[error("is no command: it is empty, or a quote is empty or does not end")]
    NoCommand,
    /// The program is not on the `PATH`.
    #[error("runs {name}, which is not installed here")]
    NoProgram {
        /// Its name or path.
        name: String,
    },
    /// The file is no program.
    #[error("runs {name}, which is not executable")]
    NotExecutable {
        /// Its path.
        name: String,
    },
    /// A name that no stream has.
    #[error("names a stream that is not there")]
    NoStream {
        /// The one that is spelt alike.
        near: Option<String>,
    },
}

impl Fault {
    /// What to try.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NoPort => "write HOST:PORT".to_owned(),
            Self::Brackets => "write [2001:db8::1]:PORT".to_owned(),
            Self::Blank => "a blank is written %20".to_owned(),
            Self::NoStream { near: Some(near) } => format!("did you mean {near:?}?"),
            _ => return None,
        })
    }
}

/// Judges `text` by the `format` of its schema. Formats that are not known here allow everything, and so does an empty text, which
/// mostly means off, and one with a variable that is not set.
pub fn judge(format: &str, text: &str, streams: &[&str]) -> Result<(), Fault> {
    if text.is_empty() || text.contains("${") {
        return Ok(());
    }
    match format {
        "listen" => listen(text),
        "listen/transport" => match text.split_once('/') {
            None | Some((_, "tcp" | "udp")) => listen(text.split('/').next().unwrap_or(text)),
            Some(_) => Err(Fault::Transport),
        },
        "host:port" => place(text, true),
        "url" => authority(text.split_once(':').map_or("", |(_, rest)| rest), false),
        "ice-url" => ice(text),
        "pem" => pem(text),
        "path" => path(text.strip_prefix("//").unwrap_or(text)),
        "command" => command(text),
        "stream" => stream(text, streams),
        _ => Ok(()),
    }
}

/// An address to listen on: `host:port`, where no host is every address and port 0 any. What the system takes is not doubted, so
/// the brackets of an IPv6 address may be missing.
fn listen(text: &str) -> Result<(), Fault> {
    if has_blank(text) {
        return Err(Fault::Blank);
    }
    let (host, port) = text.rsplit_once(':').ok_or(Fault::NoPort)?;
    port.parse::<u16>().map_err(|_| Fault::Port { least: 0 })?;
    let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    match inner.unwrap_or(host).split('%').next().unwrap_or_default() {
        address if address.contains(':') => {
            address.parse::<Ipv6Addr>().map(drop).map_err(|_| Fault::Brackets)
        }
        _ => Ok(()),
    }
}

/// `host[:port]` to dial, read as the plugins read it.
fn place(text: &str, needs_port: bool) -> Result<(), Fault> {
    if has_blank(text) {
        return Err(Fault::Blank);
    }
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']').ok_or(Fault::Brackets)?;
            (host, rest.strip_prefix(':').unwrap_or(rest))
        }
        // An IPv6 address without brackets
        None if text.matches(':').count() > 1 => (text, ""),
        None => text.split_once(':').unwrap_or((text, "")),
    };
    match port.parse::<u16>() {
        _ if host.is_empty() => Err(Fault::NoHost),
        _ if port.is_empty() && needs_port => Err(Fault::NoPort),
        _ if port.is_empty() => Ok(()),
        Ok(1..) => Ok(()),
        _ => Err(Fault::Port { least: 1 }),
    }
}

fn has_blank(text: &str) -> bool {
    text.bytes().any(|b| b <= b' ' || b == 0x7f)
}

/// What stands behind `scheme:`: `//[user[:password]@]host[:port]` and whatever follows.
pub fn authority(rest: &str, needs_port: bool) -> Result<(), Fault> {
    let rest = without_user_info(rest.strip_prefix("//").ok_or(Fault::NoHost)?);
    place(rest.split(['/', '?', '#']).next().unwrap_or_default(), needs_port)
}

/// What stands behind the user info, which ends at the last `@` before the first `/` and may hold a `#`.
pub fn without_user_info(rest: &str) -> &str {
    let end = rest.find('/').unwrap_or(rest.len());
    let at = rest.get(..end).and_then(|place| place.rfind('@'));
    at.and_then(|at| rest.get(at + 1..)).unwrap_or(rest)
}

/// `stun:host[:port]` and its kin (RFC 7064, RFC 7065).
fn ice(text: &str) -> Result<(), Fault> {
    let known = "stun:, stuns:, turn:, turns:";
    let Some((scheme, rest)) = text.split_once(':') else { return Err(Fault::Scheme { known }) };
    if !["stun", "stuns", "turn", "turns"].contains(&scheme) {
        return Err(Fault::Scheme { known });
    }
    place(rest.split('?').next().unwrap_or(rest), false)
}

/// PEM text, which has several lines, or a file of it.
fn pem(text: &str) -> Result<(), Fault> {
    const BEGIN: &str = "-----BEGIN ";
    let held = if text.contains('\n') {
        text.contains(BEGIN)
    } else {
        path(text)?;
        let small = fs::metadata(text).is_ok_and(|meta| meta.len() <= MAX_PEM);
        small && fs::read_to_string(text).is_ok_and(|held| held.contains(BEGIN))
    };
    if held { Ok(()) } else { Err(Fault::NotPem) }
}

fn path(text: &str) -> Result<(), Fault> {
    match fs::metadata(text) {
        Ok(meta) if meta.is_dir() => Err(Fault::Folder),
        // A pipe would wait for who writes it, a device may do something when it is opened.
        Ok(meta) if meta.is_file() => fs::File::open(text).map(drop).map_err(|_| Fault::Unreadable),
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(Fault::NoFile),
        Err(_) => Err(Fault::Unreadable),
    }
}

/// A command line by its first word, which may stand in quotes.
fn command(line: &str) -> Result<(), Fault> {
    let line = line.trim_start();
    let name = match line.chars().next() {
        None => return Err(Fault::NoCommand),
        Some(quote @ ('"' | '\'')) => {
            line.get(1..).and_then(|rest| rest.split_once(quote)).map_or("", |(word, _)| word)
        }
        Some(_) => line.split_ascii_whitespace().next().unwrap_or_default(),
    };
    if name.is_empty() {
        return Err(Fault::NoCommand);
    }
    if name.contains('/') {
        return match fs::metadata(name) {
            Ok(_) if is_program(Path::new(name)) => Ok(()),
            Ok(_) => Err(Fault::NotExecutable { name: name.to_owned() }),
            Err(_) => Err(Fault::NoProgram { name: name.to_owned() }),
        };
    }
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let here = |folder: PathBuf| is_program(&folder.join(OsStr::new(name)));
    if std::env::split_paths(&folders).any(here) {
        return Ok(());
    }
    Err(Fault::NoProgram { name: name.to_owned() })
}

fn is_program(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// The name of a stream, or a source URL in its place.
fn stream(name: &str, streams: &[&str]) -> Result<(), Fault> {
    if streams.contains(&name) || name.contains("://") {
        return Ok(());
    }
    let near = nearest(name, streams.iter().copied()).map(str::to_owned);
    Err(Fault::NoStream { near })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn addresses_are_judged_by_their_form() {
        let port = |least| Err(Fault::Port { least });
        let known = "stun:, stuns:, turn:, turns:";
        for (format, text, answer) in [
            ("listen", ":1984", Ok(())),
            ("listen", "", Ok(())),
            ("listen", "localhost:0", Ok(())),
            ("listen", "[::1]:8554", Ok(())),
            ("listen", "${HOST}:x", Ok(())),
            ("listen", "abc", Err(Fault::NoPort)),
            ("listen", "8554", Err(Fault::NoPort)),
            ("listen", ":", port(0)),
            ("listen", ":99999", port(0)),
            ("listen", ":http", port(0)),
            ("listen", "::1:8554", Ok(())),
            ("listen", "[fe80::1%eth0]:1", Ok(())),
            ("listen", "::1", Err(Fault::Brackets)),
            ("listen", "[::1:8554", Err(Fault::Brackets)),
            ("listen", "[::1]8554", port(0)),
            ("listen", ":8555/tcp", port(0)),
            ("listen/transport", ":8555/tcp", Ok(())),
            ("listen/transport", "192.0.2.1:1/udp", Ok(())),
            ("listen/transport", ":8555/sctp", Err(Fault::Transport)),
            ("listen/transport", "8555/tcp", Err(Fault::NoPort)),
            ("host:port", "stun:8555", Ok(())),
            ("host:port", "home.example", Err(Fault::NoPort)),
            ("host:port", ":8555", Err(Fault::NoHost)),
            ("host:port", "a b:1", Err(Fault::Blank)),
            ("host:port", "a:0", port(1)),
            ("ice-url", "stun:stun.example", Ok(())),
            ("ice-url", "turns:[2001:db8::1]:5349?transport=tcp", Ok(())),
            ("ice-url", "stun.example:3478", Err(Fault::Scheme { known })),
            ("ice-url", "turn:", Err(Fault::NoHost)),
            ("ice-url", "turn:h:x", port(1)),
            ("url", "https://192.0.2.10/whep", Ok(())),
            ("url", "https:192.0.2.10/whep", Err(Fault::NoHost)),
            ("url", "x", Err(Fault::NoHost)),
            ("of another version", "x", Ok(())),
        ] {
            assert_eq!(judge(format, text, &[]), answer, "{format} {text}");
        }
    }

    #[test]
    fn urls_need_a_host() {
        for (rest, answer) in [
            ("//h", Ok(())),
            ("//h:554/x", Ok(())),
            ("//u:p@[fe80::1]:554/x?a=:9#transport=udp", Ok(())),
            ("//u:p@q@h?x", Ok(())),
            ("//u:a#b@h/x", Ok(())),
            ("//u:p/w@h/x", Err(Fault::Port { least: 1 })),
            ("//h:99999/x", Err(Fault::Port { least: 1 })),
            ("//h:/x", Ok(())),
            ("//fe80::1/x", Ok(())),
            ("//[fe80::1/x", Err(Fault::Brackets)),
            ("//h:0/x", Err(Fault::Port { least: 1 })),
            ("/h/x", Err(Fault::NoHost)),
            ("//", Err(Fault::NoHost)),
            ("//u@/x", Err(Fault::NoHost)),
            ("///x", Err(Fault::NoHost)),
            ("//a b/x", Err(Fault::Blank)),
        ] {
            assert_eq!(authority(rest, false), answer, "{rest}");
        }
        assert_eq!((authority("//h/x", true), authority("//h:1/x", true)), (Err(Fault::NoPort), Ok(())));
    }

    #[test]
    fn files_programs_and_streams_are_looked_for() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let (text, cert) = (file("text", "x"), file("cert", "-----BEGIN CERTIFICATE-----\n"));
        let (here, nowhere) =
            (folder.path().display().to_string(), folder.path().join("no").display().to_string());
        let no_program = |name: &str| Err(Fault::NoProgram { name: name.to_owned() });
        for (format, value, answer) in [
            ("path", text.clone(), Ok(())),
            ("path", format!("//{text}"), Ok(())),
            ("path", here, Err(Fault::Folder)),
            ("path", nowhere.clone(), Err(Fault::NoFile)),
            ("pem", cert, Ok(())),
            ("pem", "-----BEGIN CERTIFICATE-----\nAA\n".to_owned(), Ok(())),
            ("pem", "a\nb".to_owned(), Err(Fault::NotPem)),
            ("pem", text.clone(), Err(Fault::NotPem)),
            ("pem", nowhere.clone(), Err(Fault::NoFile)),
            ("command", "sh -c 'x'".to_owned(), Ok(())),
            ("command", "'sh' -c x".to_owned(), Ok(())),
            ("command", "/bin/sh".to_owned(), Ok(())),
            ("command", " ".to_owned(), Err(Fault::NoCommand)),
            ("command", "'sh".to_owned(), Err(Fault::NoCommand)),
            ("command", "no-such-program -x".to_owned(), no_program("no-such-program")),
            ("command", format!("{nowhere} -x"), no_program(&nowhere)),
            ("command", text.clone(), Err(Fault::NotExecutable { name: text.clone() })),
            ("stream", "yard".to_owned(), Ok(())),
            ("stream", "rtsp://h/x".to_owned(), Ok(())),
            ("stream", "yrad".to_owned(), Err(Fault::NoStream { near: Some("yard".to_owned()) })),
            ("stream", "other".to_owned(), Err(Fault::NoStream { near: None })),
        ] {
            assert_eq!(judge(format, &value, &["yard", "door"]), answer, "{format} {value}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_judged(text in ".*") {
            for format in ["listen", "listen/transport", "host:port", "ice-url", "url", "stream"] {
                let _ = judge(format, &text, &["a"]);
            }
            let _ = authority(&text, true);
        }

        /// What parses as an address of a socket can be listened on.
        #[test]
        fn socket_addresses_are_addresses(address: std::net::SocketAddr) {
            prop_assert_eq!(judge("listen", &address.to_string(), &[]), Ok(()));
        }
    }
}
