//! Media sections from their attributes.

use std::collections::BTreeMap;

use patchbay_media::Kind;

use super::fmtp;
use super::lines::Clean;
use super::payload::Map;
use super::{Connection, Direction, Media, Session};

/// The session of cleaned sections.
pub(super) fn session(clean: Clean) -> Session {
    let mut session = Session { name: clean.name, ..Session::default() };
    let mut direction = None;
    let mut connection = None;
    if let Some(lines) = &clean.session {
        for attribute in &lines.attributes {
            match (attribute.attribute.as_str(), attribute.value.as_deref()) {
                ("control", Some(value)) => session.control = Some(value.trim().to_owned()),
                (name, None) => direction = direction_named(name).or(direction),
                _ => {}
            }
        }
        connection = lines.connection.as_ref().and_then(connection_of);
    }
    let sections: Vec<Section> = clean.medias.iter().map(Section::new).collect();
    let foreign = Foreign::of(&sections);
    session.medias = sections.iter().map(|section| section.media(&foreign, direction, connection)).collect();
    session.is_srtp = session.medias.iter().any(Media::is_srtp);
    let all_send = session.medias.iter().all(|m| m.direction == Some(Direction::SendOnly));
    for media in &mut session.medias {
        media.is_backchannel =
            !all_send && media.kind == Kind::Audio && media.direction == Some(Direction::SendOnly);
    }
    session
}

/// A section with its maps found but nothing chosen.
struct Section<'a> {
    lines: &'a sdp_types::Media,
    listed: Vec<u8>,
    maps: Vec<(u8, Map)>,
    fmtps: Vec<(u8, &'a str)>,
}

/// Maps and parameters under a media that does not list their payload type, for the media that does (C42).
struct Foreign<'a> {
    maps: Vec<(u8, Map)>,
    fmtps: Vec<(u8, &'a str)>,
}

impl<'a> Foreign<'a> {
    fn of(sections: &[Section<'a>]) -> Self {
        let mut foreign = Self { maps: Vec::new(), fmtps: Vec::new() };
        for section in sections {
            let is_foreign = |payload_type: &u8| !section.listed.contains(payload_type);
            foreign.maps.extend(section.maps.iter().filter(|(pt, _)| is_foreign(pt)).cloned());
            foreign.fmtps.extend(section.fmtps.iter().filter(|(pt, _)| is_foreign(pt)));
        }
        foreign
    }
}

impl<'a> Section<'a> {
    fn new(lines: &'a sdp_types::Media) -> Self {
        let mut section = Self { lines, listed: Vec::new(), maps: Vec::new(), fmtps: Vec::new() };
        for attribute in &lines.attributes {
            let value = attribute.value.as_deref().unwrap_or_default();
            let Some((payload_type, rest)) = fmtp::split_payload_type(value) else { continue };
            match attribute.attribute.as_str() {
                "rtpmap" => section.maps.extend(Map::parse(rest).map(|map| (payload_type, map))),
                "fmtp" => section.fmtps.push((payload_type, rest)),
                _ => {}
            }
        }
        for format in lines.fmt.split_whitespace() {
            if let Some(payload_type) = format.parse().ok().filter(|pt: &u8| *pt < 128)
                && !section.listed.contains(&payload_type)
            {
                section.listed.push(payload_type);
            }
        }
        if section.listed.is_empty() {
            section.listed.extend(section.maps.iter().map(|(payload_type, _)| *payload_type));
        }
        section
    }

    fn media(
        &self,
        foreign: &Foreign<'_>,
        direction: Option<Direction>,
        connection: Option<Connection>,
    ) -> Media {
        let kind_name = self.lines.media.to_ascii_lowercase();
        let kind = match kind_name.as_str() {
            "video" => Kind::Video,
            "audio" => Kind::Audio,
            _ => Kind::Data,
        };
        let bandwidth_kbps = self
            .lines
            .bandwidths
            .iter()
            .find(|b| b.bwtype.eq_ignore_ascii_case("AS"))
            .and_then(|b| u32::try_from(b.bandwidth).ok());
        let (payload_type, map) = self.choose(foreign, kind, bandwidth_kbps);
        let mut parameters = BTreeMap::new();
        let own = self.fmtps.iter().filter(|(pt, _)| *pt == payload_type);
        let theirs = foreign.fmtps.iter().filter(|(pt, _)| *pt == payload_type);
        if own.clone().next().is_some() {
            own.for_each(|(_, text)| fmtp::parse(text, &mut parameters));
        } else {
            theirs.for_each(|(_, text)| fmtp::parse(text, &mut parameters));
        }
        let mut media = Media {
            kind,
            kind_name,
            port: self.lines.port,
            protocol: self.lines.proto.clone(),
            payload_types: self.listed.clone(),
            payload_type,
            encoding: map.encoding,
            clock_rate: map.clock_rate,
            channels: if kind == Kind::Audio { map.channels } else { 0 },
            fmtp: parameters,
            control: None,
            direction,
            is_backchannel: false,
            dimensions: None,
            connection: self.lines.connections.iter().find_map(connection_of).or(connection),
            bandwidth_kbps,
            attributes: Vec::new(),
        };
        for attribute in &self.lines.attributes {
            media.attribute(&attribute.attribute, attribute.value.as_deref().map(str::trim));
        }
        media
    }

    /// The first listed payload type with a known encoding, else one that can be guessed, else the first with a name, else
    /// the first (C41).
    fn choose(&self, foreign: &Foreign<'_>, kind: Kind, bandwidth_kbps: Option<u32>) -> (u8, Map) {
        let find = |maps: &[(u8, Map)], payload_type: u8| {
            maps.iter().find(|(pt, _)| *pt == payload_type).map(|(_, map)| map.clone())
        };
        let named =
            |pt: u8| find(&self.maps, pt).or_else(|| find(&foreign.maps, pt)).or_else(|| Map::fixed(pt));
        let guessed = |pt: u8| {
            let text = self.fmtps.iter().find(|(other, _)| *other == pt).map_or("", |(_, text)| text);
            if named(pt).is_some() { None } else { Map::guess(kind, pt, bandwidth_kbps, text) }
        };
        let listed = |map_of: &dyn Fn(u8) -> Option<Map>| -> Vec<(u8, Map)> {
            self.listed.iter().filter_map(|pt| Some((*pt, map_of(*pt)?))).collect()
        };
        let names = listed(&named);
        let known = names.iter().find(|(_, map)| map.is_known()).cloned();
        known
            .or_else(|| listed(&guessed).into_iter().next())
            .or_else(|| names.into_iter().next())
            .unwrap_or_else(|| {
                let clock_rate = if kind == Kind::Audio { 8000 } else { 90000 };
                (
                    self.listed.first().copied().unwrap_or(0),
                    Map { encoding: String::new(), clock_rate, channels: 1 },
                )
            })
    }
}

impl Media {
    fn attribute(&mut self, name: &str, value: Option<&str>) {
        match (name, value) {
            ("rtpmap" | "fmtp", _) => {}
            ("control", Some(value)) => self.control = Some(value.to_owned()),
            ("x-dimensions", Some(value)) => self.dimensions = size(value, ',').or(self.dimensions),
            ("framesize", Some(value)) => {
                let text = fmtp::split_payload_type(value).map_or(value, |(_, rest)| rest);
                self.dimensions = self.dimensions.or_else(|| size(text, '-'));
            }
            _ => match direction_named(name) {
                Some(direction) => self.direction = Some(direction),
                None => self.attributes.push((name.to_owned(), value.map(str::to_owned))),
            },
        }
    }
}

fn direction_named(name: &str) -> Option<Direction> {
    [Direction::SendRecv, Direction::SendOnly, Direction::RecvOnly, Direction::Inactive]
        .into_iter()
        .find(|direction| direction.name().eq_ignore_ascii_case(name.trim()))
}

fn size(text: &str, separator: char) -> Option<(u32, u32)> {
    let (width, height) = text.split_once(separator)?;
    let (width, height) = (width.trim().parse().ok()?, height.trim().parse().ok()?);
    ((1..=65535).contains(&width) && (1..=65535).contains(&height)).then_some((width, height))
}

fn connection_of(connection: &sdp_types::Connection) -> Option<Connection> {
    let mut parts = connection.connection_address.split('/');
    let address = parts.next()?.parse().ok()?;
    Some(Connection { address, ttl: parts.next().and_then(|ttl| ttl.parse().ok()) })
}
