//! Known answers of the configuration: variables, single-key writes, merging.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // a test

use patchbay::config::{Config, ConfigFile, Node, Sources, Variables};

fn file(text: &str) -> (tempfile::TempDir, ConfigFile) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plugins.yaml");
    std::fs::write(&path, text).unwrap();
    let file = ConfigFile::new(path);
    (folder, file)
}

fn written(before: &str, path: &[&str], value: Option<&Node>) -> Result<String, String> {
    let (_folder, file) = file(before);
    let done = match value {
        Some(value) => file.set(path, value),
        None => file.delete(path),
    };
    done.map_err(|error| error.to_string())?;
    Ok(file.read().unwrap())
}

#[test]
fn a_key_below_a_single_value_is_refused() {
    let text = "streams:\n  cam: rtsp://a\n  other: {url: x}\n";
    let value = Node::string("y");
    for path in [&["streams", "cam", "key"][..], &["streams", "other", "url", "key"]] {
        assert!(written(text, path, Some(&value)).is_err(), "{path:?}");
    }
}

/// Observed on go2rtc: what a write of one key makes of a file.
#[test]
fn single_key_writes_keep_everything_else() {
    const S: &str =
        "streams:\n    a: rtsp://a # note\n    # before b\n    b: rtsp://b\n\nlog:\n    level: info\n";
    let list = |items: &[&str]| Node::strings(items.iter().map(|item| (*item).to_owned()));
    let text = |text: &str| Node::string(text);
    let cases: Vec<(&str, &[&str], Option<Node>, &str)> = vec![
        ("", &["streams", "hall"], Some(list(&["rtsp://a"])), "streams:\n  hall:\n    - rtsp://a\n"),
        (
            "# top\nlog:\n  level: info # keep\n",
            &["streams", "hall"],
            Some(list(&["rtsp://a", "ffmpeg:hall#audio=opus"])),
            "# top\nlog:\n  level: info # keep\nstreams:\n  hall:\n    - rtsp://a\n    - ffmpeg:hall#audio=opus\n",
        ),
        (
            S,
            &["streams", "a"],
            Some(list(&["x"])),
            "streams:\n    a:\n      - x\n    # before b\n    b: rtsp://b\n\nlog:\n    level: info\n",
        ),
        (S, &["streams", "a"], None, "streams:\n    # before b\n    b: rtsp://b\n\nlog:\n    level: info\n"),
        (
            S,
            &["streams", "c"],
            Some(list(&["x"])),
            "streams:\n    a: rtsp://a # note\n    # before b\n    b: rtsp://b\n    c:\n      - x\n\nlog:\n    level: info\n",
        ),
        (
            "streams:\nlog:\n  level: info\n",
            &["streams", "c"],
            Some(text("x")),
            "streams:\n  c: x\nlog:\n  level: info\n",
        ),
        (
            "xiaomi:\n  1: t\n",
            &["xiaomi", "123"],
            Some(text("V1:abc")),
            "xiaomi:\n  1: t\n  \"123\": V1:abc\n",
        ),
        (
            "streams:\n  \"cam 1\": x\n",
            &["streams", "cam 1"],
            Some(text("y: z")),
            "streams:\n  cam 1: 'y: z'\n",
        ),
        ("streams:\n  a: x", &["streams", "b"], Some(text("${VAR}")), "streams:\n  a: x\n  b: ${VAR}\n"),
        (
            "homekit:\n  cam:\n    pin: 123\n",
            &["homekit", "cam", "pairings"],
            Some(list(&["client_id=1"])),
            "homekit:\n  cam:\n    pin: 123\n    pairings:\n      - client_id=1\n",
        ),
    ];
    for (before, path, value, after) in cases {
        assert_eq!(written(before, path, value.as_ref()).as_deref(), Ok(after), "{path:?} in {before:?}");
    }
}

#[test]
fn writes_that_cannot_be_made_say_so_and_change_nothing() {
    let cases: [(&str, &[&str], &str); 2] = [
        ("a: 1\n", &["streams", "zz"], "yaml: path not exist"),
        ("- a\n", &["streams", "zz"], "yaml: can't patch"),
    ];
    for (before, path, text) in cases {
        let value = Node::string("x");
        let given = (text == "yaml: can't patch").then_some(&value);
        let error = written(before, path, given).unwrap_err();
        assert!(error.contains(text), "{error}");
    }
}

/// Where go2rtc gives up, Patchbay must not.
#[test]
fn flow_mappings_and_unindented_lists_can_be_written() {
    for before in ["streams: {a: rtsp://a}\n", "streams: {}\n", "streams:\n  a:\n  - x\n  - y\n  b: z\n"] {
        let after = written(before, &["streams", "new"], Some(&Node::string("rtsp://n"))).unwrap();
        let (folder, file) = file(&after);
        let sources = Sources::from_args(&[file.path().display().to_string()], folder.path());
        let config = Config::load(&sources, Variables::of_process());
        assert!(config.problems.is_empty(), "{after}: {:?}", config.problems);
        let new = config.streams.iter().find(|stream| stream.name == "new").unwrap();
        assert_eq!(new.sources, ["rtsp://n"], "{after}");
        if before.contains("a:") {
            assert!(config.streams.iter().any(|stream| stream.name == "a"), "{after}");
        }
    }
}

#[test]
fn a_fragment_is_merged_and_comments_stay() {
    let (_folder, file) = file("# top\nlog:\n  level: info # keep\nstreams:\n  a: x\n");
    file.merge("log: {level: debug}\nstreams: {b: y}\n").unwrap();
    let text = file.read().unwrap();
    assert!(text.starts_with("# top\n"), "{text}");
    let value: serde_yaml::Value = serde_yaml::from_str(&text).unwrap();
    assert_eq!(value["log"]["level"], "debug");
    assert_eq!((&value["streams"]["a"], &value["streams"]["b"]), (&"x".into(), &"y".into()));
}

#[test]
fn variables_are_replaced_in_files_and_become_secrets() {
    let text = "env:\n  PASS: geheim\nstreams:\n  cam: rtsp://u:${PASS}@h/${PATCHBAY_NO_SUCH:def}\n";
    let (folder, file) = file(text);
    let sources = Sources::from_args(&[file.path().display().to_string()], folder.path());
    let config = Config::load(&sources, Variables::of_process());
    assert_eq!(config.streams[0].sources, ["rtsp://u:geheim@h/def"]);
    assert!(config.secrets.iter().any(|secret| secret == "geheim"), "{:?}", config.secrets);
    assert!(!config.secrets.iter().any(|secret| secret == "def"), "a default is no secret");
}

#[test]
fn later_sources_win_key_by_key() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(
        folder.path().join("a.yaml"),
        "streams: {a: one, b: x}\nrtsp: {listen: ':1', username: u}\n",
    )
    .unwrap();
    let args = [
        folder.path().join("a.yaml").display().to_string(),
        "{streams: {b: y, c: [p, q], d: {url: z}}}".to_owned(),
        "rtsp.listen=':2'".to_owned(),
    ];
    let config = Config::load(&Sources::from_args(&args, folder.path()), Variables::of_process());
    let found: Vec<(&str, Vec<&str>)> = config
        .streams
        .iter()
        .map(|s| (s.name.as_str(), s.sources.iter().map(String::as_str).collect()))
        .collect();
    assert_eq!(found, [("a", vec!["one"]), ("b", vec!["y"]), ("c", vec!["p", "q"]), ("d", vec!["z"])]);
    let rtsp: serde_yaml::Value = serde_yaml::from_str(&config.plugin_yaml("rtsp")).unwrap();
    assert_eq!((&rtsp["listen"], &rtsp["username"]), (&":2".into(), &"u".into()));
}

#[test]
fn scalars_reach_plugins_as_written() {
    let (folder, file) =
        file("homekit:\n  cam:\n    pin: 01234567\nplugins:\n  demo: off\n  rtsp: {listen: ':9'}\n");
    let sources = Sources::from_args(&[file.path().display().to_string()], folder.path());
    let config = Config::load(&sources, Variables::of_process());
    assert!(config.plugin_yaml("homekit").contains("01234567"), "{}", config.plugin_yaml("homekit"));
    assert_eq!(config.plugin("demo").enabled, Some(false));
    assert!(config.plugin_yaml("rtsp").contains(":9"));
}

#[test]
fn words_of_allow_that_allow_nothing_are_told_with_their_line() {
    let text =
        "plugins:\n  acme:\n    allow:\n      - net.tcp\n      - file\n      - all\nrtsp:\n  allow: [moon]\n";
    let (folder, file) = file(text);
    let sources = Sources::from_args(&[file.path().display().to_string()], folder.path());
    let config = Config::load(&sources, Variables::of_process());
    let mut told: Vec<String> = config
        .problems
        .iter()
        .map(|p| format!("{}: {} ({})", p.line, p.message, p.hint.clone().unwrap()))
        .collect();
    told.sort();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].starts_with("5: \"file\"") && told[0].contains("did you mean \"files\"?"), "{told:?}");
    assert!(told[1].starts_with("8: \"moon\"") && told[1].contains("net.tcp"), "{told:?}");
    assert!(!config.has_errors());
}

#[test]
fn one_key_that_does_not_fit_takes_no_other_with_it() {
    let text = "api:\n  listen: ':9'\n  username: u\n  password: p\n  local_auth: maybe\n  hosts: name\n";
    let (folder, file) = file(text);
    let sources = Sources::from_args(&[file.path().display().to_string()], folder.path());
    let config = Config::load(&sources, Variables::of_process());
    let told: Vec<(u32, &str)> = config.problems.iter().map(|p| (p.line, p.message.as_str())).collect();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].0 == 5 && told[0].1.contains("\"api.local_auth\": expected true or false"), "{told:?}");
    assert!(told[1].0 == 6 && told[1].1.contains("\"api.hosts\": expected a sequence"), "{told:?}");
    let api = &config.api;
    assert_eq!((api.listen.as_str(), api.username.as_str(), api.password.expose()), (":9", "u", "p"));
}

proptest::proptest! {
    /// Whatever the name and the value: the file parses, and only that key has changed.
    #[test]
    fn writes_change_one_key_only(name in "[a-zA-Z0-9 :#'\"{}\\[\\],&*!|>%@`é_-]{1,20}", value in "[ -~]{0,30}") {
        let before = "# top\nstreams:\n  a: rtsp://a # note\n\nlog:\n  level: info\n";
        let after = written(before, &["streams", &name], Some(&Node::string(value.clone()))).unwrap();
        let parsed: serde_yaml::Value = serde_yaml::from_str(&after).unwrap();
        proptest::prop_assert_eq!(parsed["streams"][name.as_str()].as_str(), Some(value.as_str()), "{}", after);
        if name != "a" {
            proptest::prop_assert_eq!(parsed["streams"]["a"].as_str(), Some("rtsp://a"));
            proptest::prop_assert!(after.contains("  a: rtsp://a # note\n"));
        }
        proptest::prop_assert_eq!(parsed["log"]["level"].as_str(), Some("info"));
        proptest::prop_assert!(after.starts_with("# top\n"));
    }
}

#[test]
fn what_guards_the_api_is_not_lost_in_silence() {
    let lost = |text: &str| {
        let (folder, file) = file(text);
        let sources = Sources::from_args(&[file.path().display().to_string()], folder.path());
        Config::load(&sources, Variables::of_process()).lost_guard
    };
    for text in ["api: {password: [x]}", "api: {local_auth: maybe}", "api: {allow_paths: /api}", "api: text"]
    {
        assert_eq!(lost(text).unwrap().line, 1, "{text}");
    }
    assert_eq!(lost("api: {listen: [1], username: u, password: p}"), None);
}
