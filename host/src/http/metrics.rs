//! `/metrics` in Prometheus' text form.

use std::fmt::Write as _;

use axum::body::Body;
use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::response::Response;
use std::sync::atomic::Ordering;

use crate::app::App;

pub(super) fn page(app: &App) -> Response {
    let mut text = String::new();
    let mut metric = |name: &str, kind: &str, labels: &str, value: u64| {
        if !text.contains(&format!("# TYPE {name} ")) {
            let _ = writeln!(text, "# TYPE {name} {kind}");
        }
        let _ = writeln!(text, "{name}{labels} {value}");
    };
    let (streams, sources, consumers) = app.stream_counts();
    metric("patchbay_streams", "gauge", "", streams as u64);
    metric("patchbay_sources", "gauge", "", sources as u64);
    metric("patchbay_consumers", "gauge", "", consumers as u64);
    metric("patchbay_sessions", "gauge", "", app.session_count() as u64);
    metric("patchbay_ring_bytes", "gauge", "", app.budget.used());
    metric("patchbay_ring_limit_bytes", "gauge", "", app.budget.limit());
    let (blobs, bytes) = app.blobs.totals();
    metric("patchbay_blobs", "gauge", "", blobs as u64);
    metric("patchbay_blob_bytes", "gauge", "", bytes as u64);
    let (held, given_up) = super::held::figures();
    metric("patchbay_http_held_bytes", "gauge", "", held);
    metric("patchbay_http_given_up_total", "counter", "", given_up);
    metric("patchbay_log_lines_dropped_total", "counter", "", app.log.dropped());
    for source in app.sources() {
        let tracks = source.counters().into_iter().enumerate();
        for (track, counters) in tracks.filter(|(_, counters)| counters.is_known) {
            let labels = format!("{{source=\"{}\",track=\"{track}\"}}", source.id);
            metric("patchbay_source_units_total", "counter", &labels, counters.units);
            metric("patchbay_source_bytes_total", "counter", &labels, counters.bytes);
            metric("patchbay_source_refused_total", "counter", &labels, counters.refused);
        }
    }
    metric("patchbay_mux_runs", "gauge", "", app.runs().len() as u64);
    for run in app.runs() {
        let labels = format!("{{session=\"{}\"}}", run.session);
        metric("patchbay_mux_viewers", "gauge", &labels, run.viewers());
        metric("patchbay_mux_skips_total", "counter", &labels, run.skips.load(Ordering::Relaxed));
    }
    for instance in app.running() {
        let name = &instance.manifest.name;
        metric(
            "patchbay_plugin_wakes_total",
            "counter",
            &format!("{{plugin=\"{name}\"}}"),
            instance.wakes.load(Ordering::Relaxed),
        );
        for (direction, bytes) in instance.socket_bytes().into_iter().flatten() {
            let labels = format!("{{plugin=\"{name}\",direction=\"{direction}\"}}");
            metric("patchbay_plugin_socket_bytes_total", "counter", &labels, bytes);
        }
        for (counter, value) in instance.counters.lock().iter() {
            let safe: String =
                counter.chars().filter(|c| c.is_ascii_lowercase() || *c == '_').take(64).collect();
            metric(&format!("patchbay_plugin_{safe}"), "counter", &format!("{{plugin=\"{name}\"}}"), *value);
        }
    }
    let mut response = Response::new(Body::from(text));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; version=0.0.4"));
    response
}
