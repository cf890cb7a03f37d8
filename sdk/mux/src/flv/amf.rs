//! AMF0 values. Action Message Format AMF0 (Adobe, 2007).

use bytes::{BufMut, BytesMut};

/// Deepest nesting of objects and arrays that is read.
pub const MAX_DEPTH: usize = 8;
/// Most values of one message, members included.
pub const MAX_VALUES: usize = 4_096;

/// A value.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)] // the names are AMF0's
pub enum Value {
    Number(f64),
    Boolean(bool),
    String(String),
    Object(Vec<(String, Value)>),
    Null,
    Undefined,
    /// An object whose stated number of members means nothing.
    EcmaArray(Vec<(String, Value)>),
    StrictArray(Vec<Value>),
    /// Milliseconds since 1970 UTC.
    Date(f64),
}

impl Value {
    /// The text of a string.
    pub fn as_str(&self) -> Option<&str> {
        if let Self::String(text) = self { Some(text) } else { None }
    }

    /// The number.
    pub fn as_f64(&self) -> Option<f64> {
        if let Self::Number(number) = self { Some(*number) } else { None }
    }

    /// The members of an object or ECMA array; none of anything else.
    pub fn members(&self) -> &[(String, Value)] {
        match self {
            Self::Object(members) | Self::EcmaArray(members) => members,
            _ => &[],
        }
    }

    /// The member `name` of an object or ECMA array; case does not matter.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.members().iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// Writes the value. Strings longer than 65,535 bytes become long strings, such names of members are cut.
    pub fn write(&self, out: &mut BytesMut) {
        match self {
            Self::Number(number) => {
                out.put_u8(0);
                out.put_f64(*number);
            }
            Self::Boolean(value) => out.put_slice(&[1, u8::from(*value)]),
            Self::String(text) => match u16::try_from(text.len()) {
                Ok(length) => {
                    out.put_u8(2);
                    out.put_u16(length);
                    out.put_slice(text.as_bytes());
                }
                Err(_) => {
                    out.put_u8(12);
                    out.put_u32(u32::try_from(text.len()).unwrap_or(u32::MAX));
                    out.put_slice(text.as_bytes());
                }
            },
            Self::Object(members) => {
                out.put_u8(3);
                write_members(members, out);
            }
            Self::Null => out.put_u8(5),
            Self::Undefined => out.put_u8(6),
            Self::EcmaArray(members) => {
                out.put_u8(8);
                out.put_u32(u32::try_from(members.len()).unwrap_or(u32::MAX));
                write_members(members, out);
            }
            Self::StrictArray(values) => {
                out.put_u8(10);
                out.put_u32(u32::try_from(values.len()).unwrap_or(u32::MAX));
                values.iter().for_each(|value| value.write(out));
            }
            Self::Date(time) => {
                out.put_u8(11);
                out.put_f64(*time);
                out.put_i16(0);
            }
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::String(text.to_owned())
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Self::Number(number)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Boolean(value)
    }
}

/// An object of `members`.
pub fn object<const N: usize>(members: [(&str, Value); N]) -> Value {
    Value::Object(members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

/// Writes values one behind the other.
pub fn write_all<'a>(values: impl IntoIterator<Item = &'a Value>, out: &mut BytesMut) {
    values.into_iter().for_each(|value| value.write(out));
}

/// Reads values up to the end, or to the first that is broken, unknown (AMF3 too) or beyond [`MAX_VALUES`].
pub fn read_all(data: &[u8]) -> Vec<Value> {
    let mut reader = Reader { rest: data, left: MAX_VALUES };
    std::iter::from_fn(|| reader.value(0)).collect()
}

fn write_members(members: &[(String, Value)], out: &mut BytesMut) {
    for (name, value) in members {
        let name = name.as_bytes();
        let name = name.get(..usize::from(u16::MAX)).unwrap_or(name);
        out.put_u16(u16::try_from(name.len()).unwrap_or(u16::MAX));
        out.put_slice(name);
        value.write(out);
    }
    out.put_slice(&[0, 0, 9]);
}

struct Reader<'a> {
    rest: &'a [u8],
    left: usize,
}

impl<'a> Reader<'a> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.rest.split_first_chunk::<N>()?;
        self.rest = rest;
        Some(*head)
    }

    fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(head)
    }

    fn text(&mut self, length: usize) -> Option<String> {
        Some(String::from_utf8_lossy(self.bytes(length)?).into_owned())
    }

    fn number(&mut self) -> Option<f64> {
        self.array().map(f64::from_be_bytes)
    }

    /// The next value. Behind one that cannot be read nothing can.
    fn value(&mut self, depth: usize) -> Option<Value> {
        let value = self.try_value(depth);
        if value.is_none() {
            self.rest = &[];
        }
        value
    }

    fn try_value(&mut self, depth: usize) -> Option<Value> {
        if depth > MAX_DEPTH {
            return None;
        }
        self.left = self.left.checked_sub(1)?;
        let [marker] = self.array::<1>()?;
        Some(match marker {
            0 => Value::Number(self.number()?),
            1 => Value::Boolean(self.array::<1>()? != [0]),
            2 => {
                let length = u16::from_be_bytes(self.array()?);
                Value::String(self.text(usize::from(length))?)
            }
            3 => Value::Object(self.object(depth)),
            5 => Value::Null,
            6 | 13 => Value::Undefined,
            8 => {
                self.array::<4>()?;
                Value::EcmaArray(self.object(depth))
            }
            10 => {
                let count = u32::from_be_bytes(self.array()?);
                let mut values = Vec::new();
                for _ in 0..count {
                    match self.value(depth + 1) {
                        Some(value) => values.push(value),
                        None => break,
                    }
                }
                Value::StrictArray(values)
            }
            11 => {
                let time = self.number()?;
                self.array::<2>()?;
                Value::Date(time)
            }
            12 | 15 => {
                let length = u32::from_be_bytes(self.array()?);
                Value::String(self.text(usize::try_from(length).ok()?)?)
            }
            // A typed object: its class name does not matter here.
            16 => {
                let length = u16::from_be_bytes(self.array()?);
                self.bytes(usize::from(length))?;
                Value::Object(self.object(depth))
            }
            // References (7) and AMF3 (17) too.
            _ => return None,
        })
    }

    /// Members up to the end marker; those before the first broken one are kept.
    fn object(&mut self, depth: usize) -> Vec<(String, Value)> {
        let mut members = Vec::new();
        loop {
            if let Some(rest) = self.rest.strip_prefix(&[0, 0, 9]) {
                self.rest = rest;
                return members;
            }
            let Some(length) = self.array::<2>() else { return members };
            let Some(name) = self.text(usize::from(u16::from_be_bytes(length))) else { return members };
            let Some(value) = self.value(depth + 1) else { return members };
            members.push((name, value));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(values: &[Value]) -> Vec<u8> {
        let mut out = BytesMut::new();
        write_all(values, &mut out);
        out.to_vec()
    }

    /// The start of a `connect` command of ffmpeg 9: fourCcList is a strict array.
    #[test]
    fn a_connect_command() {
        let data = [
            &b"\x02\x00\x07connect\x00\x3f\xf0\0\0\0\0\0\0\x03\x00\x03app\x02\x00\x04live"[..],
            b"\x00\x0afourCcList\x0a\0\0\0\x02\x02\0\x04hvc1\x02\0\x04av01\0\0\x09",
        ]
        .concat();
        let values = read_all(&data);
        assert_eq!(values[0].as_str(), Some("connect"));
        assert_eq!(values[1].as_f64(), Some(1.0));
        assert_eq!(values[2].get("APP").and_then(Value::as_str), Some("live"));
        let list = Value::StrictArray(vec!["hvc1".into(), "av01".into()]);
        assert_eq!(values[2].get("fourCcList"), Some(&list));
        assert_eq!(written(&values), data);
    }

    #[test]
    fn broken_values_end_what_is_read() {
        // An array that says 0 members and has one, then AMF3.
        let data = [8, 0, 0, 0, 0, 0, 1, b'a', 1, 1, 0, 0, 9, 17, 5, 5];
        assert_eq!(read_all(&data), [Value::EcmaArray(vec![("a".to_owned(), true.into())])]);
        // An object without its end.
        assert_eq!(read_all(&[3, 0, 1, b'a', 5]), [Value::Object(vec![("a".to_owned(), Value::Null)])]);
        // 4 G values that are not there.
        assert_eq!(read_all(&[10, 255, 255, 255, 255, 5]), [Value::StrictArray(vec![Value::Null])]);
        let deep = [3, 0, 1, b'a'].repeat(1_000);
        assert_eq!(read_all(&deep).len(), 1);
        assert!(read_all(&[5; 10_000]).len() <= MAX_VALUES);
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<f64>().prop_filter("equal to itself", |n| !n.is_nan()).prop_map(Value::Number),
            any::<bool>().prop_map(Value::Boolean),
            "[a-z]{0,8}".prop_map(Value::String),
            Just(Value::String("long".repeat(20_000))),
            Just(Value::Null),
            Just(Value::Undefined),
            (-1e12..1e12).prop_map(Value::Date),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            let members = proptest::collection::vec(("[a-z]{1,4}", inner.clone()), 0..4);
            prop_oneof![
                members.clone().prop_map(Value::Object),
                members.prop_map(Value::EcmaArray),
                proptest::collection::vec(inner, 0..4).prop_map(Value::StrictArray),
            ]
        })
    }

    proptest! {
        #[test]
        fn values_round_trip(values in proptest::collection::vec(value(), 0..5)) {
            prop_assert_eq!(read_all(&written(&values)), values);
        }

        #[test]
        fn any_bytes_never_panic(data: Vec<u8>) {
            let again = written(&read_all(&data));
            let _ = read_all(&again);
        }
    }
}
