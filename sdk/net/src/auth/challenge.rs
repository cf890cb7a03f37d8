//! Parameters of `WWW-Authenticate` and `Authorization`.

/// Most challenges, and most parameters of one, that are read from a header.
const MAX_ITEMS: usize = 32;

/// A scheme with its parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    /// Scheme as written.
    pub scheme: String,
    /// Parameters: names in small letters, values without quotes and escapes.
    pub params: Vec<(String, String)>,
}

impl Challenge {
    /// First parameter named `name` (small letters).
    pub fn get(&self, name: &str) -> Option<&str> {
        self.params.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// Whether the scheme is `scheme`, without case.
    pub fn is(&self, scheme: &str) -> bool {
        self.scheme.eq_ignore_ascii_case(scheme)
    }
}

/// All challenges of one header value. Several may stand in one line (C23); double blanks, missing and trailing commas
/// are forgiven; what cannot be read is left out.
pub fn parse_challenges(header: &str) -> Vec<Challenge> {
    let mut challenges: Vec<Challenge> = Vec::new();
    let mut rest = header;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',', '\r', '\n']);
        if rest.is_empty() {
            return challenges;
        }
        let end = rest.find([' ', '\t', ',', '=', '\r', '\n']).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        match after.trim_start().strip_prefix('=') {
            Some(value) if !word.is_empty() => {
                let (value, tail) = take_value(value.trim_start());
                rest = tail;
                if let Some(last) = challenges.last_mut().filter(|c| c.params.len() < MAX_ITEMS) {
                    last.params.push((word.to_ascii_lowercase(), value));
                }
            }
            Some(value) => rest = value,
            None if challenges.len() < MAX_ITEMS => {
                challenges.push(Challenge { scheme: word.to_owned(), params: Vec::new() });
                rest = after;
            }
            None => return challenges,
        }
    }
}

/// A token or quoted string, and what follows it. Quotes that never end reach to the end of the line.
fn take_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        let (value, rest) = text.split_at(end);
        return (value.trim().to_owned(), rest);
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, quoted.get(at + 1..).unwrap_or_default()),
            '\\' => value.extend(chars.next().map(|(_, c)| c)),
            c => value.push(c),
        }
    }
    (value, "")
}
