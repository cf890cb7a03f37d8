//! The pass before the strict parser: keeps `m=`, `a=`, `b=`, `c=` and the session name, repairs what it can and drops
//! the rest, so that no line of the session can spoil a media (C40, C41).

use std::net::IpAddr;

use super::{MAX_ATTRIBUTES, MAX_LEN, MAX_MEDIAS};

/// The fixed session lines that the strict parser is given.
const PREFIX: &str = "v=0\r\no=- 0 0 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n";

/// A description cut into sections, each parsed for itself.
pub(super) struct Clean {
    pub(super) name: Option<String>,
    /// Session attributes and connection.
    pub(super) session: Option<sdp_types::Session>,
    /// Each holds one media.
    pub(super) medias: Vec<sdp_types::Media>,
}

/// Cuts and repairs `text`.
pub(super) fn clean(text: &[u8]) -> Clean {
    let text = String::from_utf8_lossy(text.get(..MAX_LEN).unwrap_or(text));
    let mut name = None;
    let mut session = Section::default();
    let mut medias: Vec<Section> = Vec::new();
    for line in text.split(['\n', '\r', '\0']) {
        let line = line.trim_start_matches('\u{feff}').trim();
        let Some((key, value)) = line.split_once('=') else { continue };
        let value = value.trim();
        let is_first = medias.is_empty();
        if key.trim() == "m" {
            if medias.len() == MAX_MEDIAS {
                break;
            }
            medias.push(Section::media(value));
            continue;
        }
        let section = medias.last_mut().unwrap_or(&mut session);
        match key.trim() {
            "a" if !value.is_empty() && section.attributes < MAX_ATTRIBUTES => {
                section.attributes += 1;
                section.line("a", value);
            }
            "c" => {
                if let Some(value) = connection(value) {
                    section.line("c", &value);
                }
            }
            "b" if bandwidth(value) => section.line("b", value),
            "s" if is_first && name.is_none() && !value.is_empty() => name = Some(value.to_owned()),
            _ => {}
        }
    }
    Clean {
        name,
        session: session.parse(),
        medias: medias.iter().filter_map(|m| m.parse()?.medias.into_iter().next()).collect(),
    }
}

#[derive(Default)]
struct Section {
    /// The `m=` line, when there is one, and the lines under it.
    text: String,
    attributes: usize,
    has_connection: bool,
}

impl Section {
    fn media(value: &str) -> Self {
        let mut words = value.split_whitespace();
        let kind = words.next().unwrap_or("-");
        let port = words.next().and_then(|p| p.split('/').next()?.parse::<u16>().ok()).unwrap_or(0);
        let protocol = words.next().unwrap_or("-");
        let formats: Vec<&str> = words.collect();
        let formats = if formats.is_empty() { "-".to_owned() } else { formats.join(" ") };
        Self { text: format!("m={kind} {port} {protocol} {formats}\r\n"), ..Self::default() }
    }

    fn line(&mut self, key: &str, value: &str) {
        // The strict parser takes one session connection only.
        if key == "c" && std::mem::replace(&mut self.has_connection, true) {
            return;
        }
        self.text.push_str(key);
        self.text.push('=');
        self.text.push_str(value);
        self.text.push_str("\r\n");
    }

    fn parse(&self) -> Option<sdp_types::Session> {
        sdp_types::Session::parse(format!("{PREFIX}{}", self.text).as_bytes()).ok()
    }
}

/// `IN IP4 address[/ttl]` from whatever holds an address; `None` when nothing does.
fn connection(value: &str) -> Option<String> {
    value.split_whitespace().find_map(|word| {
        let mut parts = word.split('/');
        let address: IpAddr = parts.next()?.parse().ok()?;
        let family = if address.is_ipv4() { "IP4" } else { "IP6" };
        Some(match parts.next().and_then(|ttl| ttl.parse::<u8>().ok()) {
            Some(ttl) => format!("IN {family} {address}/{ttl}"),
            None => format!("IN {family} {address}"),
        })
    })
}

fn bandwidth(value: &str) -> bool {
    value.split_once(':').is_some_and(|(kind, n)| !kind.is_empty() && n.parse::<u32>().is_ok())
}
