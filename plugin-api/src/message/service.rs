//! Calls from plugin to plugin, through the host.
//!
//! ```text
//! caller    CALL (new id) ◀          ▶ ANSWER ... ▶ REFUSED   CALL (same id) ◀   DETACH ◀
//! service   open (ServiceOpen) ▶     ◀ ANSWER ... ◀ ENDED     CALL ▶             close ▶
//! ```
//!
//! A call that names a source session of its caller lets the service announce tracks, push units and take demand for that
//! source: to the service they are its own, numbered from 0. The host adds [`DELEGATED`] and more to their ids.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Ids of a source's tracks from here on are those of the services that it has called; its own lie below.
pub const DELEGATED: u32 = 32;

/// The service that is the host itself: no plugin may give it. 1.0 has no methods of it; whoever calls it is told so by
/// [`super::command::REFUSED`] with [`super::Class::Unsupported`], as later versions will of methods that they lack.
pub const HOST_SERVICE: &str = "host";

/// Longest payload of a call or answer, in bytes.
pub const MAX_CALL: usize = 1 << 20;

/// Bytes behind calls (or answers) of one conversation that may be outstanding; one whole message is always taken.
pub const CALL_WINDOW: u64 = 256 << 10;

/// Most conversations that one plugin has open.
pub const MAX_CALLS: usize = 1024;

/// [`super::event::CALL`]: the first one of an id opens a conversation with a service, further ones belong to it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Call {
    /// Name of the service, as in the manifest of its plugin; in the first call only.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub service: String,
    /// What to do.
    pub method: String,
    /// With what.
    pub value: Value,
    /// A source session of the caller that the service may feed; 0: none. In the first call only.
    #[serde(skip_serializing_if = "is_zero")]
    pub session: u64,
}

fn is_zero(value: &u64) -> bool {
    *value == 0
}

/// `open` of a service: the first call.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServiceOpen {
    /// Name of the service.
    pub service: String,
    /// What to do.
    pub method: String,
    /// With what.
    pub value: Value,
    /// Name of the calling plugin.
    pub caller: String,
    /// There is a source behind the call: tracks may be announced and units pushed.
    pub feeds: bool,
}

/// [`super::event::ANSWER`] of a service, and [`super::command::ANSWER`] to its caller; as many as it likes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Answer {
    /// What it tells.
    pub method: String,
    /// The rest.
    pub value: Value,
}

/// A payload of JSON with bytes behind it: 0, the length of the JSON (4 bytes, big-endian), the JSON, the bytes. Without
/// bytes it is the JSON alone.
pub fn with_bytes(message: &impl Serialize, bytes: Option<&[u8]>) -> Vec<u8> {
    let json = serde_json::to_vec(message).unwrap_or_default();
    let Some(bytes) = bytes else { return json };
    let mut payload = Vec::with_capacity(5 + json.len() + bytes.len());
    payload.push(0);
    payload.extend_from_slice(&u32::try_from(json.len()).unwrap_or(u32::MAX).to_be_bytes());
    payload.extend_from_slice(&json);
    payload.extend_from_slice(bytes);
    payload
}

/// The JSON of a payload that [`with_bytes`] made, and the bytes behind it. `None` when it is cut off or longer than
/// [`MAX_CALL`].
pub fn split_bytes(payload: &[u8]) -> Option<(&[u8], Option<&[u8]>)> {
    if payload.len() > MAX_CALL {
        return None;
    }
    let Some((0, rest)) = payload.split_first().map(|(first, rest)| (*first, rest)) else {
        return Some((payload, None));
    };
    let (len, rest) = rest.split_first_chunk::<4>()?;
    let (json, bytes) = rest.split_at_checked(u32::from_be_bytes(*len) as usize)?;
    Some((json, Some(bytes)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_bytes_are_split_or_not(payload in proptest::collection::vec(any::<u8>(), 0..200)) {
            crate::fuzz::split_bytes(&payload);
        }

        #[test]
        fn any_message_comes_back(method in ".{0,20}", bytes in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..200))) {
            let answer = Answer { method, value: Value::Null };
            let payload = with_bytes(&answer, bytes.as_deref());
            let (json, found) = split_bytes(&payload).unwrap();
            prop_assert_eq!(serde_json::from_slice::<Answer>(json).unwrap(), answer);
            prop_assert_eq!(found, bytes.as_deref());
        }
    }

    #[test]
    fn bytes_come_back_and_cut_payloads_do_not() {
        let answer = Answer { method: "data".to_owned(), value: Value::from(3) };
        for bytes in [None, Some(&b""[..]), Some(&[0, 1, 2][..])] {
            let payload = with_bytes(&answer, bytes);
            let (json, found) = split_bytes(&payload).unwrap();
            assert_eq!(serde_json::from_slice::<Answer>(json).unwrap(), answer);
            assert_eq!(found, bytes);
        }
        assert_eq!(split_bytes(&[0, 0, 0]), None);
        assert_eq!(split_bytes(&[0, 0, 0, 0, 9, b'{']), None);
        assert_eq!(split_bytes(&vec![b' '; MAX_CALL + 1]), None);
    }
}
