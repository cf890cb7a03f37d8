//! The kit's rules of talk: `fixture:talk` hears.
#![allow(clippy::unwrap_used)] // a test

use patchbay_testkit::{Material, assert_conforms};

#[test]
fn a_source_that_hears_keeps_every_rule() {
    let material = Material {
        url: Some("fixture:talk".to_owned()),
        refused: Some("fixture:refuse-auth".to_owned()),
        ..Material::default()
    };
    let table = patchbay_plugin_fixture::patchbay_table();
    let findings = assert_conforms(table, "fixture", include_str!("../manifest.json"), &material);
    for rule in [
        "source: hears what players say",
        "source: goes on when a talk ends",
        "source: passes over a talk that it did not offer",
    ] {
        assert!(findings.iter().any(|finding| finding.rule == rule), "{rule}: {findings:#?}");
    }
}
