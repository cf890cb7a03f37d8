//! The kit finds what the fixture is told to do wrong: `fixture:garbage` announces and pushes what it must not, `fixture:deaf` hears
//! nothing of what it says that it takes.
#![allow(clippy::unwrap_used)] // a test

use patchbay_testkit::{Material, Verdict, conformance};

#[test]
fn a_source_that_lies_is_found_out() {
    let material = Material {
        url: Some("fixture:garbage".to_owned()),
        refused: Some("fixture:refuse-auth".to_owned()),
        ..Material::default()
    };
    let table = patchbay_plugin_fixture::patchbay_table();
    let findings = conformance(table, "fixture", include_str!("../manifest.json"), &material).unwrap();
    let verdict = |rule: &str| {
        let found = findings.iter().find(|finding| finding.rule == rule);
        found.map(|finding| finding.verdict.clone()).unwrap_or(Verdict::Skipped("no such rule"))
    };
    let Verdict::Broken(how) = verdict("source: units are valid") else { panic!("{findings:#?}") };
    assert!(how.contains("id above 63"), "{how}");
    for rule in [
        "plugin: starts",
        "source: tells a refused login",
        "output fixture: muxes",
        "sink: says why it cannot push",
        "sink: takes tracks that change",
        "sink: ends when it is closed",
        "service fixture: survives calls that are garbage",
        "service fixture: ends when it is closed",
    ] {
        assert_eq!(verdict(rule), Verdict::Kept, "{rule}: {findings:#?}");
    }
}
