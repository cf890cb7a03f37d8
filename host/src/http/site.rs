//! The web page: files embedded in the host, or those of `api: static_dir:`.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::ErrorKind;
use std::path::Path;
use std::sync::LazyLock;

use axum::body::{Body, Bytes};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use axum::response::Response;
use tower_http::services::ServeDir;

use super::{empty, not_found, text};

/// What a page may load: its own files, and media that it makes. No script in HTML, no text that becomes HTML.
const POLICY: &str = "default-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; object-src 'none'; \
                      base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'";

/// Pages that other sites may show in a frame: the players.
const FRAMED: [&str; 3] = ["stream.html", "webrtc.html", "hls.html"];

/// All other pages: file, title, the module that fills it, the entry of the navigation it belongs to.
const PAGES: [(&str, &str, &str, &str); 7] = [
    ("index.html", "Streams", "streams.js", "index.html"),
    ("watch.html", "Stream", "watch.js", "index.html"),
    ("links.html", "Stream", "watch.js", "index.html"),
    ("add.html", "Add a stream", "add.js", "index.html"),
    ("plugins.html", "Plugins", "plugins.js", "plugins.html"),
    ("log.html", "Log", "log.js", "log.html"),
    ("config.html", "Configuration", "config.js", "config.html"),
];

/// What the pages have in common; `{title}`, `{module}` and `{entry}` differ.
const PAGE: &str = include_str!("../web/page.html");

/// The page of a player.
const FRAME: &str = include_str!("../web/frame.html");

macro_rules! files {
    ($($name:literal),* $(,)?) => {
        [$(($name, include_bytes!(concat!("../web/", $name)).as_slice())),*]
    };
}

/// A file and what its ETag is.
struct File {
    content: Bytes,
    tag: HeaderValue,
}

static FILES: LazyLock<HashMap<&'static str, File>> = LazyLock::new(|| {
    let files = files![
        "add.js",
        "api.js",
        "config.js",
        "dom.js",
        "form.js",
        "frame.js",
        "guard.js",
        "icon.svg",
        "log.js",
        "modes.js",
        "patchbay-player.js",
        "player-look.js",
        "plugins.js",
        "publish.js",
        "shell.js",
        "streams.js",
        "style.css",
        "theme.js",
        "turns.js",
        "video-rtc.js",
        "video-stream.js",
        "watch.js",
    ];
    let scripts = files.into_iter().map(|(name, content)| (name, Bytes::from_static(content)));
    let pages = PAGES.into_iter().map(|(name, title, module, entry)| {
        let text = PAGE.replace("{title}", title).replace("{module}", module).replace("{entry}", entry);
        (name, Bytes::from(text))
    });
    let frames = FRAMED.into_iter().map(|name| (name, Bytes::from_static(FRAME.as_bytes())));
    let tagged = scripts.chain(pages).chain(frames).filter_map(|(name, content)| {
        let mut hasher = DefaultHasher::new();
        content.hash(&mut hasher);
        let tag = HeaderValue::from_str(&format!("\"{:016x}\"", hasher.finish())).ok()?;
        Some((name, File { content, tag }))
    });
    tagged.collect()
});

/// Answers a request for a page or a file of `folder` (the embedded ones when it is empty); `path` is without the base
/// path and its slash.
pub(super) async fn serve(folder: &str, path: &str, parts: &Parts) -> Response {
    if parts.method != Method::GET && parts.method != Method::HEAD {
        return not_found();
    }
    let mut response = match folder {
        "" => embedded(path, &parts.headers),
        folder => from_folder(Path::new(folder), path, parts).await,
    };
    let name = if path.is_empty() { "index.html" } else { path };
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    // Somebody's own pages have their own rules.
    if folder.is_empty() && kind(name).starts_with("text/html") {
        let ancestors = if FRAMED.contains(&name) { "" } else { "; frame-ancestors 'self'" };
        if let Ok(policy) = HeaderValue::from_str(&format!("{POLICY}{ancestors}")) {
            headers.insert(CONTENT_SECURITY_POLICY, policy);
        }
    }
    response
}

fn embedded(path: &str, headers: &HeaderMap) -> Response {
    let name = if path.is_empty() { "index.html" } else { path };
    let Some(file) = FILES.get(name) else { return not_found() };
    let known = headers.get(IF_NONE_MATCH).and_then(|value| value.to_str().ok()).unwrap_or("");
    let mut response = if is_listed(known, &file.tag) {
        empty(StatusCode::NOT_MODIFIED)
    } else {
        let mut response = Response::new(Body::from(file.content.clone()));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind(name)));
        response
    };
    response.headers_mut().insert(ETAG, file.tag.clone());
    response
}

/// Whether an `If-None-Match` (RFC 9110 section 13.1.2) names the tag.
fn is_listed(known: &str, tag: &HeaderValue) -> bool {
    let tags = known.split(',').map(|known| known.trim().trim_start_matches("W/"));
    tags.into_iter().any(|known| known == "*" || tag.to_str().is_ok_and(|tag| known == tag))
}

/// A file of a folder, with ranges and `Last-Modified`; paths that lead out of it are not found.
async fn from_folder(folder: &Path, path: &str, parts: &Parts) -> Response {
    // A second slash would make the rest absolute.
    if path.starts_with('/') {
        return not_found();
    }
    let mut request =
        match Request::builder().method(&parts.method).uri(format!("/{path}")).body(Body::empty()) {
            Ok(request) => request,
            Err(_) => return not_found(),
        };
    request.headers_mut().clone_from(&parts.headers);
    match ServeDir::new(folder).try_call(request).await {
        Ok(response) if response.status() == StatusCode::NOT_FOUND => not_found(),
        Ok(response) => response.map(Body::new),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => not_found(),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

fn kind(name: &str) -> &'static str {
    match name.rsplit_once('.').map_or("", |(_, end)| end) {
        "html" => "text/html; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn get(folder: &str, path: &str, tag: Option<&str>) -> Response {
        let mut request = Request::builder().uri(format!("/{path}"));
        if let Some(tag) = tag {
            request = request.header(IF_NONE_MATCH, tag);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        serve(folder, path, &parts).await
    }

    #[tokio::test]
    async fn a_known_file_is_not_sent_again() {
        let first = get("", "", None).await;
        assert_eq!(first.status(), StatusCode::OK);
        assert!(first.headers()[CONTENT_SECURITY_POLICY].to_str().unwrap().contains("frame-ancestors"));
        let tag = first.headers()[ETAG].to_str().unwrap().to_owned();
        assert_eq!(get("", "index.html", Some(&tag)).await.status(), StatusCode::NOT_MODIFIED);
        assert_eq!(get("", "", Some(&format!("\"x\", W/{tag}"))).await.status(), StatusCode::NOT_MODIFIED);
        assert_eq!(get("", "", Some("\"x\"")).await.status(), StatusCode::OK);
        for (name, title, module, _) in PAGES {
            let body = axum::body::to_bytes(get("", name, None).await.into_body(), 1 << 16).await.unwrap();
            let page = std::str::from_utf8(&body).unwrap();
            assert!(
                page.contains(&format!("<title>{title} · Patchbay</title>")) && !page.contains('{'),
                "{page}"
            );
            assert!(FILES.contains_key(module) && page.contains(module), "{page}");
        }
        assert_eq!(get("", "nothing.html", None).await.status(), StatusCode::NOT_FOUND);
        let player = get("", "stream.html", None).await;
        assert!(!player.headers()[CONTENT_SECURITY_POLICY].to_str().unwrap().contains("frame-ancestors"));
    }

    #[tokio::test]
    async fn a_folder_is_served_and_not_left() {
        let outer = tempfile::tempdir().unwrap();
        let folder = outer.path().join("site");
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("index.html"), "mine").unwrap();
        std::fs::write(outer.path().join("secret.txt"), "secret").unwrap();
        let folder = folder.to_str().unwrap();
        assert_eq!(get(folder, "", None).await.status(), StatusCode::OK);
        assert_eq!(get(folder, "index.html", None).await.status(), StatusCode::OK);
        for path in ["../secret.txt", "..%2fsecret.txt", "%2e%2e/secret.txt", "/etc/passwd", "no.html"] {
            assert_eq!(get(folder, path, None).await.status(), StatusCode::NOT_FOUND, "{path}");
        }
    }
}
