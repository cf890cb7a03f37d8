//! Times of lines: the local clock, Unix times, and layouts as Go writes them.

use jiff::{Timestamp, Zoned, tz::TimeZone};
use std::fmt::Write;

/// One moment in the local time zone.
pub(crate) type Now = Zoned;

/// `log.time`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TimeFormat {
    /// No times.
    Off,
    /// Milliseconds since 1970.
    UnixMs,
    /// Microseconds since 1970.
    UnixMicro,
    /// Nanoseconds since 1970.
    UnixNano,
    /// Seconds since 1970 (`UNIX`).
    Unix,
    /// A layout such as `2006-01-02T15:04:05.000Z07:00`: the reference time of Go written in the wanted form.
    Layout(String),
}

impl TimeFormat {
    /// Reads the value of `log.time`.
    pub fn parse(text: &str) -> Self {
        match text {
            "" => Self::Off,
            "UNIX" => Self::Unix,
            "UNIXMS" => Self::UnixMs,
            "UNIXMICRO" => Self::UnixMicro,
            "UNIXNANO" => Self::UnixNano,
            layout => Self::Layout(layout.to_owned()),
        }
    }

    /// The time as a JSON value.
    pub(crate) fn json(&self, now: &Now) -> Option<String> {
        let at = now.timestamp();
        match self {
            Self::Off => None,
            Self::Unix => Some(at.as_second().to_string()),
            Self::UnixMs => Some(at.as_millisecond().to_string()),
            Self::UnixMicro => Some(at.as_microsecond().to_string()),
            Self::UnixNano => Some(at.as_nanosecond().to_string()),
            Self::Layout(layout) => Some(serde_json::Value::from(go_layout(now, layout)).to_string()),
        }
    }
}

/// The time of a line that is written now.
pub(crate) fn now() -> Now {
    Timestamp::now().to_zoned(TimeZone::system())
}

/// `HH:MM:SS.mmm`.
pub(crate) fn clock(now: &Now) -> String {
    format!("{:02}:{:02}:{:02}.{:03}", now.hour(), now.minute(), now.second(), now.millisecond())
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

/// Words of a layout, longest first where one starts with another.
const WORDS: [&str; 35] = [
    "January",
    "Jan",
    "Monday",
    "Mon",
    "MST",
    "2006",
    "-07:00:00",
    "-07:00",
    "-0700",
    "-07",
    "Z07:00:00",
    "Z07:00",
    "Z0700",
    "Z07",
    "002",
    "01",
    "02",
    "03",
    "04",
    "05",
    "06",
    "15",
    "PM",
    "pm",
    "__2",
    "_2",
    "1",
    "2",
    "3",
    "4",
    "5",
    ".000000000",
    ".000000",
    ".000",
    ",000",
];

/// Formats a time by a layout in which Go's reference time (Mon Jan 2 15:04:05 MST 2006) stands in the wanted form.
fn go_layout(now: &Now, layout: &str) -> String {
    let mut out = String::new();
    let mut rest = layout;
    while let Some(first) = rest.chars().next() {
        let word = WORDS.iter().filter(|word| rest.starts_with(**word)).max_by_key(|word| word.len());
        match word {
            Some(word) => {
                put(&mut out, now, word);
                rest = rest.get(word.len()..).unwrap_or_default();
            }
            None => {
                out.push(first);
                rest = rest.get(first.len_utf8()..).unwrap_or_default();
            }
        }
    }
    out
}

fn put(out: &mut String, now: &Now, word: &str) {
    let month =
        usize::try_from(now.month() - 1).ok().and_then(|at| MONTHS.get(at)).copied().unwrap_or_default();
    let day = usize::try_from(now.weekday().to_monday_zero_offset()).ok().and_then(|at| DAYS.get(at));
    let day = day.copied().unwrap_or_default();
    let hour12 = if now.hour() % 12 == 0 { 12 } else { now.hour() % 12 };
    let offset = now.offset().seconds();
    let (sign, h, m, s) =
        (if offset < 0 { '-' } else { '+' }, offset.abs() / 3600, offset.abs() / 60 % 60, offset.abs() % 60);
    let _ = match word {
        "Z07:00:00" | "Z07:00" | "Z0700" | "Z07" if offset == 0 => write!(out, "Z"),
        "-07:00:00" | "Z07:00:00" => write!(out, "{sign}{h:02}:{m:02}:{s:02}"),
        "-07:00" | "Z07:00" => write!(out, "{sign}{h:02}:{m:02}"),
        "-0700" | "Z0700" => write!(out, "{sign}{h:02}{m:02}"),
        "-07" | "Z07" => write!(out, "{sign}{h:02}"),
        "January" => write!(out, "{month}"),
        "Jan" => write!(out, "{}", month.get(..3).unwrap_or_default()),
        "Monday" => write!(out, "{day}"),
        "Mon" => write!(out, "{}", day.get(..3).unwrap_or_default()),
        "MST" => write!(out, "{}", now.strftime("%Z")),
        "2006" => write!(out, "{:04}", now.year()),
        "06" => write!(out, "{:02}", now.year().rem_euclid(100)),
        "01" => write!(out, "{:02}", now.month()),
        "1" => write!(out, "{}", now.month()),
        "02" => write!(out, "{:02}", now.day()),
        "_2" => write!(out, "{:2}", now.day()),
        "2" => write!(out, "{}", now.day()),
        "002" => write!(out, "{:03}", now.day_of_year()),
        "__2" => write!(out, "{:3}", now.day_of_year()),
        "15" => write!(out, "{:02}", now.hour()),
        "03" => write!(out, "{hour12:02}"),
        "3" => write!(out, "{hour12}"),
        "04" => write!(out, "{:02}", now.minute()),
        "4" => write!(out, "{}", now.minute()),
        "05" => write!(out, "{:02}", now.second()),
        "5" => write!(out, "{}", now.second()),
        "PM" => write!(out, "{}", if now.hour() < 12 { "AM" } else { "PM" }),
        "pm" => write!(out, "{}", if now.hour() < 12 { "am" } else { "pm" }),
        ".000" | ",000" => write!(out, "{}{:03}", word.get(..1).unwrap_or_default(), now.millisecond()),
        ".000000" => write!(out, ".{:06}", now.subsec_nanosecond() / 1000),
        ".000000000" => write!(out, ".{:09}", now.subsec_nanosecond()),
        _ => Ok(()),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_follow_the_reference_time() {
        let zone = TimeZone::fixed(jiff::tz::offset(2));
        let at = Timestamp::from_nanosecond(1_795_209_844_724_012_345).unwrap().to_zoned(zone);
        for (layout, answer) in [
            ("2006-01-02T15:04:05Z07:00", "2026-11-20T23:24:04+02:00"),
            ("2006-01-02 15:04:05.000000", "2026-11-20 23:24:04.724012"),
            ("Mon Jan _2 3:04PM 06 -0700", "Fri Nov 20 11:24PM 26 +0200"),
            ("Monday, January 2 (002)", "Friday, November 20 (324)"),
            ("15h é", "23h é"),
        ] {
            assert_eq!(go_layout(&at, layout), answer, "{layout}");
        }
        assert_eq!(TimeFormat::UnixMs.json(&at).as_deref(), Some("1795209844724"));
        assert_eq!(TimeFormat::parse("").json(&at), None);
        assert_eq!(clock(&at), "23:24:04.724");
    }
}
