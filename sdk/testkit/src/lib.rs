//! Tests for plugin authors.
//!
//! ```ignore
//! // tests/conformance.rs of the plugin's crate, which is built as cdylib and rlib
//! #[test]
//! fn keeps_the_rules() {
//!     let camera = patchbay_testkit::Emulator::start(|mut peer| { /* play the camera */ });
//!     let material = Material { url: Some(format!("acme://{}/", camera.address())), ..Material::default() };
//!     patchbay_testkit::assert_conforms(acme::patchbay_table(), "acme", include_str!("../manifest.json"), &material);
//! }
//! ```
//!
//! A test binary holds one plugin and runs its rules once: the host table of the kit is global.
#![forbid(unsafe_code)]

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

pub use patchbay_conformance::{Finding, Material, Verdict};
use patchbay_plugin_api::abi::PluginTableRef;
use patchbay_plugin_api::{Manifest, Plugin};

/// Runs the rules on a plugin that is linked into this test: `table` is its `patchbay_table()`, `manifest` its
/// `manifest.json`.
///
/// # Errors
/// When the manifest is not its JSON.
pub fn conformance(
    table: PluginTableRef,
    name: &str,
    manifest: &str,
    material: &Material,
) -> Result<Vec<Finding>, serde_json::Error> {
    let manifest = Manifest { name: name.to_owned(), ..serde_json::from_str(manifest)? };
    Ok(patchbay_conformance::check(Plugin::from_table(table), &manifest, material))
}

/// [`conformance`] for a test: panics with every rule that is broken. What became of each rule, for what a test of a plugin of its
/// kind asks besides.
///
/// # Panics
/// When a rule is broken, or the manifest is not its JSON.
pub fn assert_conforms(
    table: PluginTableRef,
    name: &str,
    manifest: &str,
    material: &Material,
) -> Vec<Finding> {
    let findings = match conformance(table, name, manifest, material) {
        Ok(findings) => findings,
        Err(error) => panic!("manifest.json: {error}"),
    };
    let broken: Vec<String> = findings
        .iter()
        .filter_map(|finding| match &finding.verdict {
            Verdict::Broken(how) => Some(format!("{}: {how}", finding.rule)),
            _ => None,
        })
        .collect();
    assert!(
        broken.is_empty(),
        "{} of {} rules are broken:\n{}",
        broken.len(),
        findings.len(),
        broken.join("\n")
    );
    findings
}

/// A camera that is played by a closure, on a free port of this machine. Each connection is a thread of its own.
pub struct Emulator {
    address: SocketAddr,
    connections: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
}

impl Emulator {
    /// Listens; `play` gets each connection.
    ///
    /// # Errors
    /// When no port can be had.
    pub fn start(play: impl Fn(TcpStream) + Send + Sync + 'static) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let (connections, over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (count, end, play) = (Arc::clone(&connections), Arc::clone(&over), Arc::new(play));
        thread::spawn(move || {
            for peer in listener.incoming() {
                if end.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(peer) = peer else { continue };
                count.fetch_add(1, Ordering::Relaxed);
                let play = Arc::clone(&play);
                thread::spawn(move || play(peer));
            }
        });
        Ok(Self { address, connections, over })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections so far.
    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
    }
}
