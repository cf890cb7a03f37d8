//! Pictures as text for a terminal: a character per pixel, colours by ECMA-48 SGR sequences.

use std::fmt::Write as _;

use patchbay_picture::{Picture, PictureError};

/// What the picture is cleared with, once.
pub const CLEAR: &str = "\x1b[2J";

/// Characters from dark to bright.
const RAMP: &str = " .'`,:;-~+=*?coaA%8@";

/// Most characters of a list.
const MAX_RAMP: usize = 64;

/// Wider pictures than this are made smaller: no terminal shows them.
const MAX_COLUMNS: u32 = 240;

/// Columns of a picture that was too wide.
const COLUMNS: u32 = 160;

/// Most characters of a picture that was asked for by its size.
const MAX_CELLS: u32 = 500 * 500;

/// The eight colours of every terminal, as xterm shows them.
const EIGHT: [[u8; 3]; 8] = [
    [0, 0, 0],
    [205, 0, 0],
    [0, 205, 0],
    [205, 205, 0],
    [0, 0, 238],
    [205, 0, 205],
    [0, 205, 205],
    [229, 229, 229],
];

/// How a picture is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Style {
    front: Colour,
    back: Colour,
    /// From dark to bright; never empty.
    ramp: Vec<char>,
    /// Columns and rows, 0: by the picture.
    size: (u32, u32),
}

/// How one ground is coloured.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Colour {
    None,
    Eight,
    Palette,
    Rgb,
    /// SGR parameters, the same for the whole picture.
    Fixed(String),
}

impl Style {
    /// Reads the values of `color`, `back`, `text`, `width` and `height`.
    pub fn parse(value: impl Fn(&str) -> Option<String>) -> Self {
        let ramp: Vec<char> = match value("text").as_deref() {
            None | Some("") => RAMP.chars().collect(),
            Some("block") => vec!['\u{2588}'],
            // Control characters would be sequences of their own.
            Some(text) => text.chars().filter(|c| !c.is_control()).take(MAX_RAMP).collect(),
        };
        let side = |key| value(key).and_then(|text| text.parse().ok()).unwrap_or(0);
        let (width, height): (u32, u32) = (side("width"), side("height"));
        Self {
            front: Colour::parse(value("color")),
            back: Colour::parse(value("back")),
            ramp: if ramp.is_empty() { RAMP.chars().collect() } else { ramp },
            size: (width.min(MAX_CELLS), height.min(MAX_CELLS)),
        }
    }

    /// One picture, from the upper left corner on.
    pub fn write(&self, picture: &Picture) -> Result<String, PictureError> {
        let (width, height) = self.size_of(picture);
        let picture = picture.scaled(width, height)?;
        let (pixels, _) = picture.rgb.as_chunks::<3>();
        let mut out = String::with_capacity(pixels.len() * 4);
        out.push_str("\x1b[H");
        for ground in [&self.front, &self.back] {
            if let Colour::Fixed(parameters) = ground {
                let _ = write!(out, "\x1b[{parameters}m");
            }
        }
        let mut last = [None, None];
        for row in pixels.chunks(width.max(1) as usize) {
            for pixel in row {
                for ((ground, first), last) in [(&self.front, 3), (&self.back, 4)].into_iter().zip(&mut last)
                {
                    ground.write(first, *pixel, last, &mut out);
                }
                out.push(self.character(*pixel));
            }
            out.push('\n');
        }
        out.push_str("\x1b[0m");
        Ok(out)
    }

    /// Columns and rows: what was asked for, else a pixel each, or less of both when there are too many. Characters are
    /// twice as high as wide.
    fn size_of(&self, picture: &Picture) -> (u32, u32) {
        let (width, height) = match self.size {
            (0, 0) if picture.width <= MAX_COLUMNS => (picture.width, picture.height),
            (0, 0) => {
                let (_, height) = picture.proportional(COLUMNS, 0);
                (COLUMNS, height.div_ceil(2))
            }
            (width, 0) => (width, picture.proportional(width, 0).1.div_ceil(2)),
            (0, height) => (picture.proportional(0, height).0.saturating_mul(2), height),
            size => size,
        };
        if u64::from(width) * u64::from(height) > u64::from(MAX_CELLS) { (500, 500) } else { (width, height) }
    }

    fn character(&self, pixel: [u8; 3]) -> char {
        let at = usize::from(luma(pixel)) * self.ramp.len() / 256;
        self.ramp.get(at).copied().unwrap_or(' ')
    }
}

impl Colour {
    fn parse(value: Option<String>) -> Self {
        match value.as_deref() {
            None | Some("") => Self::None,
            Some("8") => Self::Eight,
            Some("256") => Self::Palette,
            Some("rgb") => Self::Rgb,
            Some(text)
                if text.len() <= 32 && text.bytes().all(|c| c.is_ascii_digit() || c == b';' || c == b':') =>
            {
                Self::Fixed(text.to_owned())
            }
            Some(_) => Self::None,
        }
    }

    /// Writes the sequence for a pixel, unless the last one still holds. `first` is 3 for the text, 4 for its ground.
    fn write(&self, first: u8, pixel: [u8; 3], last: &mut Option<[u8; 3]>, out: &mut String) {
        let [r, g, b] = match self {
            Self::None | Self::Fixed(_) => return,
            Self::Eight => [nearest(pixel), 0, 0],
            Self::Palette => [palette(pixel), 0, 0],
            Self::Rgb => pixel,
        };
        if last.replace([r, g, b]) == Some([r, g, b]) {
            return;
        }
        let _ = match self {
            Self::Eight => write!(out, "\x1b[{first}{r}m"),
            Self::Palette => write!(out, "\x1b[{first}8;5;{r}m"),
            _ => write!(out, "\x1b[{first}8;2;{r};{g};{b}m"),
        };
    }
}

/// BT.601.
fn luma([r, g, b]: [u8; 3]) -> u8 {
    ((u32::from(r) * 299 + u32::from(g) * 587 + u32::from(b) * 114) / 1000) as u8
}

fn distance(a: [u8; 3], b: [u8; 3]) -> u32 {
    a.iter().zip(b).map(|(a, b)| u32::from(a.abs_diff(b)).pow(2)).sum()
}

fn nearest(pixel: [u8; 3]) -> u8 {
    let colours = EIGHT.iter().zip(0_u8..);
    colours.min_by_key(|(colour, _)| distance(**colour, pixel)).map_or(0, |(_, index)| index)
}

/// The nearest of xterm's 6 x 6 x 6 cube (16 to 231) and its grays (232 to 255).
fn palette(pixel: [u8; 3]) -> u8 {
    // Levels of the cube: 0, 95, 135, 175, 215, 255.
    let level = |value: u8| match value {
        0..48 => 0,
        48..115 => 1,
        value => (value - 35) / 40,
    };
    let value = |level: u8| if level == 0 { 0 } else { 55 + 40 * level };
    let [r, g, b] = pixel.map(level);
    let cube = [r, g, b].map(value);
    // Grays: 8, 18 ... 238.
    let gray = (u32::from(luma(pixel)).saturating_sub(3) / 10).min(23) as u8;
    if distance([8 + 10 * gray; 3], pixel) < distance(cube, pixel) {
        232 + gray
    } else {
        16 + 36 * r + 6 * g + b
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn style(options: &[(&str, &str)]) -> Style {
        Style::parse(|key| options.iter().find(|(k, _)| *k == key).map(|(_, v)| (*v).to_owned()))
    }

    fn picture(pixels: &[[u8; 3]], width: u32) -> Picture {
        Picture { width, height: pixels.len() as u32 / width, rgb: pixels.as_flattened().to_vec() }
    }

    const PIXELS: [[u8; 3]; 4] = [[0, 0, 0], [255, 255, 255], [255, 0, 0], [255, 0, 0]];

    #[test]
    fn one_character_per_pixel() {
        let picture = picture(&PIXELS, 2);
        let text = |options: &[(&str, &str)]| style(options).write(&picture).unwrap();
        assert_eq!(text(&[]), "\x1b[H @\n::\n\x1b[0m");
        assert_eq!(text(&[("text", "block")]), "\x1b[H\u{2588}\u{2588}\n\u{2588}\u{2588}\n\x1b[0m");
        assert_eq!(text(&[("text", "-+")]), "\x1b[H-+\n--\n\x1b[0m");
        assert_eq!(text(&[("text", "\x1b")]), text(&[]));
    }

    #[test]
    fn colours_are_written_when_they_change() {
        let picture = picture(&PIXELS, 4);
        let text = |options: &[(&str, &str)]| style(options).write(&picture).unwrap();
        assert_eq!(text(&[("color", "8"), ("text", "x")]), "\x1b[H\x1b[30mx\x1b[37mx\x1b[31mxx\n\x1b[0m");
        assert_eq!(
            text(&[("back", "256"), ("text", "x")]),
            "\x1b[H\x1b[48;5;16mx\x1b[48;5;231mx\x1b[48;5;196mxx\n\x1b[0m"
        );
        assert_eq!(
            text(&[("color", "rgb"), ("text", "x")]),
            "\x1b[H\x1b[38;2;0;0;0mx\x1b[38;2;255;255;255mx\x1b[38;2;255;0;0mxx\n\x1b[0m"
        );
        assert_eq!(text(&[("color", "92"), ("text", "x")]), "\x1b[H\x1b[92mxxxx\n\x1b[0m");
        assert_eq!(text(&[("color", "1m\x1b[2J"), ("text", "x")]), "\x1b[Hxxxx\n\x1b[0m");
    }

    #[test]
    fn large_pictures_fit_a_terminal() {
        let large = Picture { width: 640, height: 360, rgb: vec![9; 640 * 360 * 3] };
        let size = |options: &[(&str, &str)]| style(options).size_of(&large);
        assert_eq!(size(&[]), (160, 45));
        assert_eq!(size(&[("width", "80")]), (80, 23));
        assert_eq!(size(&[("height", "24")]), (86, 24));
        assert_eq!(size(&[("width", "4000000"), ("height", "4000000")]), (500, 500));
        let small = Picture { width: 240, height: 135, rgb: vec![9; 240 * 135 * 3] };
        assert_eq!(style(&[]).size_of(&small), (240, 135));
    }

    proptest! {
        #[test]
        fn any_options(color: String, back: String, text: String, width: u32, height: u32) {
            let (width, height) = (width.to_string(), height.to_string());
            let options =
                [("color", &*color), ("back", &*back), ("text", &*text), ("width", &*width), ("height", &*height)];
            let style = style(&options);
            let (columns, rows) = style.size_of(&picture(&PIXELS, 2));
            prop_assert!(columns * rows <= MAX_CELLS);
            prop_assert!(!style.ramp.is_empty());
        }

        #[test]
        fn palette_colours_are_near(pixel: [u8; 3]) {
            let index = palette(pixel);
            prop_assert!(index >= 16);
            let value = |level: u8| if level == 0 { 0 } else { 55 + 40 * level };
            let shown = match index {
                232.. => [8 + 10 * (index - 232); 3],
                index => [(index - 16) / 36, (index - 16) / 6 % 6, (index - 16) % 6].map(value),
            };
            prop_assert!(distance(shown, pixel) <= 3 * 48 * 48);
        }
    }
}
