//! What `patchbay check` says of a configuration, with the manifests of shipped plugins.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // a test

use std::path::PathBuf;

use patchbay::catalogue::{Catalogue, Entry, Stamp};
use patchbay::check::problems;
use patchbay::config::{Config, Severity, Sources, Variables};
use patchbay_plugin_api::Manifest;

fn catalogue() -> Catalogue {
    let shipped = [
        ("demo", include_str!("../../plugins/demo/manifest.json")),
        ("exec", include_str!("../../plugins/exec/manifest.json")),
        ("file", include_str!("../../plugins/file/manifest.json")),
        ("http", include_str!("../../plugins/http/manifest.json")),
        ("rtmp", include_str!("../../plugins/rtmp/manifest.json")),
        ("rtsp", include_str!("../../plugins/rtsp/manifest.json")),
        ("tcp", include_str!("../../plugins/tcp/manifest.json")),
        ("transcode", include_str!("../../plugins/transcode/manifest.json")),
        ("webrtc", include_str!("../../plugins/webrtc/manifest.json")),
    ];
    let entry = |(name, text): (&str, &str)| {
        let mut manifest: Manifest = serde_json::from_str(text).unwrap();
        manifest.name = name.to_owned();
        Entry {
            manifest,
            path: PathBuf::new(),
            shipped: true,
            enabled: name != "demo",
            stamp: Stamp::default(),
        }
    };
    Catalogue { entries: shipped.map(entry).into(), ..Catalogue::default() }
}

/// What is said of a text: severity, line and message, with the hint behind it.
fn said(text: &str) -> Vec<(Severity, u32, String)> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plugins.yaml");
    std::fs::write(&path, text).unwrap();
    let sources = Sources::from_args(&[path.display().to_string()], folder.path());
    let config = Config::load(&sources, Variables::default());
    assert!(config.problems.is_empty(), "{:?}", config.problems);
    let shown = |hint: Option<String>| hint.map(|hint| format!(" ({hint})")).unwrap_or_default();
    let found = problems(&catalogue(), &config).into_iter();
    found.map(|found| (found.severity, found.line, found.message + &shown(found.hint))).collect()
}

#[test]
fn sources_that_cannot_be_dialled_are_told() {
    for (url, told) in [
        ("rtsp://u:p@192.0.2.1:554/x?a=b#transport=udp#media=video", ""),
        ("rtsp://[2001:db8::1]/x#timeout=30#linger=5#video=copy#transport=ws://h/x", ""),
        ("rtsp://u:a#trasport=@h/x", ""),
        ("rtspx://camera.local", ""),
        ("http://192.0.2.1:8080/?action=stream", ""),
        ("exec:sh -c 'x' #killsignal=15", ""),
        ("webrtc:ws://192.0.2.1:1984/api/ws?src=x#format=wyze", ""),
        ("transcode:cam#audio=opus", ""),
        ("tcp://192.0.2.1:1", ""),
        ("rtsp:/192.0.2.1/x", "the rtsp: URL of stream \"cam\" has no host (write rtsp://HOST/PATH)"),
        ("http://", "the http: URL of stream \"cam\" has no host (write http://HOST/PATH)"),
        (
            "rtsp://h:99999/x",
            "the rtsp: URL of stream \"cam\" has a port that is not a number from 1 to 65535",
        ),
        (
            "rtsp://u:p/w@h/x",
            "the rtsp: URL of stream \"cam\" has a port that is not a number from 1 to 65535 (a / in a password is written %2F)",
        ),
        ("tcp://192.0.2.1", "the tcp: URL of stream \"cam\" has no port (write HOST:PORT)"),
        (
            "webrtc:https:192.0.2.1",
            "the webrtc: URL of stream \"cam\" has no host (write webrtc:https://HOST/PATH)",
        ),
        (
            "exec:no-such-program -x",
            "the exec: URL of stream \"cam\" runs no-such-program, which is not installed here",
        ),
        ("exec:", "exec: says nothing more (stream \"cam\")"),
        ("file:/no/such/clip.mp4", "the file: URL of stream \"cam\" names a file that is not there"),
        (
            "transcode:cma",
            "the transcode: URL of stream \"cam\" names a stream that is not there (did you mean \"cam\"?)",
        ),
        ("htpp://h/x", "no plugin dials htpp: (stream \"cam\") (did you mean http:?)"),
        ("demo:", "no plugin dials demo: (stream \"cam\") (the plugin \"demo\" is switched off)"),
        ("192.0.2.1", "stream \"cam\" has a source without a scheme such as rtsp://"),
        ("rtsp://${HOST}/x", "stream \"cam\" has a variable that is not set"),
        (
            "rtsp://h/x#trasport=udp",
            "there is no option #trasport of stream \"cam\" (did you mean #transport?)",
        ),
        (
            "rtsp://h/x#transport=tpc",
            "#transport of stream \"cam\" must be one of tcp, udp, multicast, http (did you mean \"tcp\"?)",
        ),
        ("rtsp://h/x#timeout=soon", "#timeout of stream \"cam\" must be a whole number"),
    ] {
        let expected = if told.is_empty() { vec![] } else { vec![(Severity::Warning, 3, told.to_owned())] };
        assert_eq!(said(&format!("streams:\n  cam:\n    - {url:?}\n")), expected, "{url}");
    }
}

#[test]
fn settings_and_names_that_cannot_work_are_told() {
    let warning = |line, text: &str| (Severity::Warning, line, text.to_owned());
    assert_eq!(
        said(concat!(
            "api: {tls_listen: ':1', listen: ''}\n",
            "rtsp: {listen: 8554}\n",
            "webrtc: {listen: ':8555/sctp'}\n",
            "streams: {yard: }\n",
            "preload: {yrad: , yard: }\n",
            "publish: {yard: 'http://h/x'}\n",
        )),
        [
            warning(1, "\"api.tls_listen\" does nothing without a certificate (set tls_cert and tls_key)"),
            warning(2, "rtsp: listen has no port (write HOST:PORT)"),
            warning(3, "webrtc: listen ends with something else than /tcp or /udp"),
            warning(5, "\"preload.yrad\" names a stream that is not there (did you mean \"yard\"?)"),
            warning(6, "no plugin pushes to http: (stream \"yard\")"),
        ]
    );
    let told = said("api: {listen: 1984}\n");
    assert_eq!((told.len(), told[0].0), (1, Severity::Error), "{told:?}");
    assert!(told[0].2.starts_with("\"api.listen\" has no port"), "{told:?}");
    assert_eq!(
        said("api: {listen: '127.0.0.1:0'}\nstreams: {a: 'rtsp://h'}\npublish: {a: 'rtmp://h/x/y'}\n"),
        []
    );
    assert_eq!(
        said("app: {modules: [api]}\nstreams: {a: 'rtsp://h'}\n"),
        [warning(2, "rtsp: is not in \"app.modules\" (stream \"a\")")]
    );
}

/// Whoever copies an example must get a configuration.
#[test]
fn examples_in_documents_are_read() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let folder = |path: &str| std::fs::read_dir(root.join(path)).unwrap().map(|entry| entry.unwrap().path());
    let documents = folder("docs").filter(|path| path.extension().is_some_and(|end| end == "md"));
    let of_plugins = folder("plugins").map(|path| path.join("README.md")).filter(|path| path.exists());
    let mut examples = 0;
    for path in documents.chain(of_plugins).chain([root.join("README.md")]) {
        let text = std::fs::read_to_string(&path).unwrap();
        for example in text.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap()) {
            let folder = tempfile::tempdir().unwrap();
            std::fs::write(folder.path().join("plugins.yaml"), example).unwrap();
            let config = Config::load(&Sources::of_folder(folder.path()), Variables::default());
            assert!(config.problems.is_empty(), "{}: {:?}", path.display(), config.problems);
            examples += 1;
        }
    }
    assert!(examples > 15, "{examples} examples");
}
