//! The API's listeners: TCP, a Unix socket, TLS.

use std::os::unix::fs::FileTypeExt as _;
use std::sync::Arc;

use tokio::net::{TcpListener, UnixListener};
use tokio_rustls::TlsAcceptor;

use super::entrance::{self, Listener};
use super::tls;
use crate::app::App;
use crate::log::Level;

/// Binds the configured listeners and serves; a listener that cannot be bound is logged.
pub async fn listen(app: &Arc<App>) {
    let config = app.config();
    let api = &config.api;
    if !config.allows_module(Some("api")) {
        app.log.write(Level::Info, "api", "off: it is not in app: modules", &[]);
        return;
    }
    if !api.listen.is_empty() {
        listen_tcp(app, &api.listen, None).await;
    }
    if !api.unix_listen.is_empty() {
        match bind_unix(&api.unix_listen) {
            Ok(listener) => {
                tokio::spawn(entrance::run(Arc::clone(app), Listener::Unix(listener), None));
                app.log.write(Level::Info, "api", "listen", &[("addr", &api.unix_listen)]);
            }
            Err(error) => not_bound(app, "listen", &api.unix_listen, &error.to_string()),
        }
    }
    // As in the reference: all three or nothing.
    let (certificate, key) = (&api.tls_cert, api.tls_key.expose());
    if !api.tls_listen.is_empty() && !certificate.is_empty() && !key.is_empty() {
        match tls::acceptor(certificate, key) {
            Ok(acceptor) => listen_tcp(app, &api.tls_listen, Some(acceptor)).await,
            Err(error) => not_bound(app, "tls listen", &api.tls_listen, &error.to_string()),
        }
    } else if !api.tls_listen.is_empty() {
        not_bound(app, "tls listen", &api.tls_listen, "tls_listen needs tls_cert and tls_key");
    }
}

async fn listen_tcp(app: &Arc<App>, address: &str, tls: Option<TlsAcceptor>) {
    let what = if tls.is_some() { "tls listen" } else { "listen" };
    match bind(address).await {
        Ok(listener) => {
            let bound = listener.local_addr().ok().filter(|_| address.ends_with(":0"));
            let shown = bound.map_or_else(|| address.to_owned(), |address| address.to_string());
            tokio::spawn(entrance::run(Arc::clone(app), Listener::Tcp(listener), tls));
            app.log.write(Level::Info, "api", what, &[("addr", &shown)]);
        }
        Err(error) => not_bound(app, what, address, &error.to_string()),
    }
}

fn not_bound(app: &App, what: &str, address: &str, error: &str) {
    app.log.write(Level::Error, "api", what, &[("error", error), ("addr", address)]);
}

/// A socket that an earlier run has left is replaced; any other file is not touched.
fn bind_unix(path: &str) -> std::io::Result<UnixListener> {
    if std::fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket()) {
        std::fs::remove_file(path)?;
    }
    UnixListener::bind(path)
}

async fn bind(address: &str) -> std::io::Result<TcpListener> {
    match address.strip_prefix(':') {
        Some(port) => match TcpListener::bind(format!("[::]:{port}")).await {
            Ok(listener) => Ok(listener),
            Err(_) => TcpListener::bind(format!("0.0.0.0:{port}")).await,
        },
        None => TcpListener::bind(address).await,
    }
}
