//! Entry points of the fuzz targets.

use patchbay_plugin_api::abi::RawUnit;

use crate::config::{Config, format, node, patch, vars};
use crate::wire;

/// What the first bytes on the API's port are taken for.
pub fn look(data: &[u8]) {
    crate::http::fuzz_look(data);
}

/// A configuration, and one key set in it and taken away again: what is written can be read. The text begins
/// after the first line, which is the key's path and its value.
///
/// # Panics
/// When it does not.
pub fn config(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let _ = (crate::redact::mask_userinfo(&text), crate::redact::mask_query(&text));
    let Some((line, text)) = text.split_once('\n') else { return };
    let _ = Config::check_text(text);
    let _ = format::authority(line, true);
    for form in ["listen", "listen/transport", "host:port", "url", "ice-url", "stream"] {
        let _ = format::judge(form, line, &[text]);
    }
    let mut words = line.split(' ');
    let value = node::Node::string(words.next_back().unwrap_or_default());
    let path: Vec<&str> = words.take(4).collect();
    let Ok(patched) = patch::set(text, &path, &value) else { return };
    assert!(vars::parse_raw(&patched).is_ok(), "{patched}");
    if let Ok(without) = patch::delete(&patched, &path) {
        assert!(vars::parse_raw(&without).is_ok(), "{without}");
    }
}

/// Frames of a plugin's own process, units and chunks in them.
///
/// # Panics
/// When a unit is not what it is written as again.
pub fn frames(data: &[u8]) {
    let mut reader = wire::Reader::new(data);
    while let Ok(message) = reader.message() {
        if let Some((unit, data)) = wire::unit::decode(&message.payload) {
            let unit: RawUnit = unit;
            let again = wire::unit::encode(&unit, data);
            assert_eq!(wire::unit::decode(&again).map(|(_, data)| data), Some(data));
        }
        let _ = wire::chunk::decode(&message.payload, |chunk| chunk.data.len());
    }
}
