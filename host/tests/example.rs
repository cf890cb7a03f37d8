//! The shipped `plugins.yaml` is a configuration without problems, also with every comment taken as an example.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // a test

use patchbay::config::{Config, Sources, Variables};

fn load(text: &str) -> Config {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plugins.yaml");
    std::fs::write(&path, text).unwrap();
    Config::load(&Sources::from_args(&[path.display().to_string()], folder.path()), Variables::of_process())
}

fn shipped() -> String {
    std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../plugins.yaml")).unwrap()
}

#[test]
fn the_shipped_file_has_no_problems() {
    let config = load(&shipped());
    assert!(config.problems.is_empty(), "{:?}", config.problems);
    assert_eq!(config.streams[0].name, "demo");
    assert_eq!(config.streams[0].sources, ["demo:"]);
}

#[test]
fn its_examples_are_right_too() {
    // A commented key is `# key:` or deeper; prose has no colon behind its first word.
    let uncomment = |line: &str| {
        let trimmed = line.trim_start();
        let indent = &line[..line.len() - trimmed.len()];
        let Some(rest) = trimmed.strip_prefix("# ") else { return line.to_owned() };
        let first = rest.split_whitespace().next().unwrap_or("");
        let example = first.ends_with(':')
            && first.chars().all(|c| c.is_ascii_lowercase() || c == '_' || c == ':')
            || first == "-";
        if example { format!("{indent}{rest}").trim_end().to_owned() } else { line.to_owned() }
    };
    let text: Vec<String> = shipped().lines().map(uncomment).collect();
    let config = load(&text.join("\n"));
    assert!(config.problems.is_empty(), "{:?}\n{}", config.problems, text.join("\n"));
    assert!(config.streams.len() >= 5, "{}", config.streams.len());
    assert_eq!(config.plugin("demo").enabled, Some(false));
    assert!(config.api.has_login());
}
