//! Settings, and what a request asks for.

use std::num::IntErrorKind;
use std::time::Duration;

use patchbay_picture::{MAX_PIXELS, MAX_SIDE, PictureError};
use patchbay_sdk::routes::query_values;
use serde::Deserialize;

/// Longest `cache` and `max_age`.
const MAX_DURATION: Duration = Duration::from_secs(24 * 3600);

/// Settings of the plugin.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// The ffmpeg program.
    pub ffmpeg: String,
    /// Quality of the pictures, 1 to 100.
    pub quality: u8,
    /// Pictures that are decoded at once.
    pub workers: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { ffmpeg: "ffmpeg".to_owned(), quality: 80, workers: 2 }
    }
}

/// How a picture is made from what was decoded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Look {
    /// Pixels before turning, 0: by the other side, or as it came.
    pub width: u32,
    /// Pixels before turning, likewise.
    pub height: u32,
    /// Quarter turns clockwise, 0 to 3.
    pub turns: u8,
    /// 1 to 100; 0: the setting.
    pub quality: u8,
}

impl Look {
    /// The picture as it came.
    pub fn is_plain(&self) -> bool {
        *self == Self::default()
    }

    /// Refuses sizes that no picture is made in, whatever it looks like.
    pub fn check(&self) -> Result<(), PictureError> {
        let Self { width, height, .. } = *self;
        if width.max(height) > MAX_SIDE || u64::from(width) * u64::from(height) > MAX_PIXELS {
            return Err(PictureError::Size { width, height });
        }
        Ok(())
    }
}

/// What a request asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wish {
    /// Name of the stream.
    pub stream: String,
    /// How the picture is made.
    pub look: Look,
    /// A picture that was made not longer ago may be given again.
    pub cache: Option<Duration>,
    /// The picture may be so old; an older key picture is decoded on to the newest one.
    pub max_age: Option<Duration>,
}

impl Wish {
    /// Reads a raw query string. What cannot be read counts as not asked for; `hardware` and `hw` are ignored.
    pub fn parse(query: &str) -> Self {
        let value = |keys: &[&str]| keys.iter().find_map(|key| query_values(query, key).into_iter().next());
        let side = |keys: &[&str]| {
            let pixels = value(keys).map_or(Ok(0), |text| text.parse::<u32>());
            pixels.unwrap_or_else(|error| match error.kind() {
                IntErrorKind::PosOverflow => u32::MAX,
                _ => 0,
            })
        };
        let turns = match value(&["rotate"]).and_then(|text| text.parse::<i32>().ok()) {
            Some(90) => 1,
            Some(180 | -180) => 2,
            Some(270 | -90) => 3,
            _ => 0,
        };
        let quality = value(&["quality"]).and_then(|text| text.parse::<u8>().ok());
        Self {
            stream: value(&["src"]).unwrap_or_default(),
            look: Look {
                width: side(&["width", "w"]),
                height: side(&["height", "h"]),
                turns,
                quality: quality.filter(|quality| (1..=100).contains(quality)).unwrap_or(0),
            },
            cache: value(&["cache"]).and_then(|text| duration(&text)),
            max_age: value(&["max_age"]).and_then(|text| duration(&text)),
        }
    }
}

/// A duration as Go writes it: `10s`, `1m`, `1h30m`, `500ms`, `1.5s`; 0 without a unit. At most a day.
pub fn duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut sum = 0.0_f64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        let unit = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(unit);
        let seconds = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "\u{b5}s" | "\u{3bc}s" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        sum += number.parse::<f64>().ok()? * seconds;
        rest = after;
    }
    let found = Duration::try_from_secs_f64(sum).ok()?;
    (!text.is_empty()).then_some(found.min(MAX_DURATION))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        for (text, ms) in
            [("10s", 10_000), ("1m", 60_000), ("1h30m", 5_400_000), ("500ms", 500), ("1.5s", 1500), ("0", 0)]
        {
            assert_eq!(duration(text), Some(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "10", "s", "-1s", "1x", "1s1", "1..5s"] {
            assert_eq!(duration(text), None, "{text}");
        }
    }

    #[test]
    fn requests_are_read() {
        let wish = Wish::parse("src=cam&w=320&h=abc&rotate=-90&hw=vaapi&cache=1s&max_age=x&quality=101");
        let look = Look { width: 320, height: 0, turns: 3, quality: 0 };
        assert_eq!(
            wish,
            Wish { stream: "cam".into(), look, cache: Some(Duration::from_secs(1)), max_age: None }
        );
        assert!(Wish::parse("src=cam&width=0&rotate=45").look.is_plain());
    }

    #[test]
    fn sizes_that_no_picture_is_made_in_are_refused() {
        for (query, is_made) in [
            ("", true),
            ("w=8192", true),
            ("h=8192&w=1", true),
            ("w=8192&h=4608", true),
            ("w=8193", false),
            ("w=8192&h=4609", false),
            ("height=4294967295", false),
            ("height=99999999999999999999&w=1", false),
            ("width=-1", true),
        ] {
            assert_eq!(Wish::parse(query).look.check().is_ok(), is_made, "{query}");
        }
    }

    proptest! {
        #[test]
        fn any_query_is_read(query: String) {
            let wish = Wish::parse(&query);
            prop_assert!(wish.look.quality <= 100 && wish.look.turns < 4);
            let _ = wish.look.check();
            let _ = duration(&query);
        }
    }
}
