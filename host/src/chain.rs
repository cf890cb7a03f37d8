//! A transport feeding a demuxer: the host carries the bytes, so that neither knows the other.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use patchbay_plugin_api::Code;
use patchbay_plugin_api::message::{
    Class, Connection, Credit, Demand, DemuxerOpen, Ended, Head, Seek, command,
};

use crate::app::App;
use crate::instance::Instance;

/// Bytes that are looked at to find the format.
const PROBE: usize = 1024;

/// Bytes that a transport may have outstanding, with one whole write above it.
const WINDOW: usize = (256 << 10) + (1 << 20);

/// One source made of two sessions.
pub struct Chain {
    /// The source it feeds.
    pub source: u64,
    url: String,
    transport: Arc<Instance>,
    transport_session: u64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    head: Head,
    first: Vec<u8>,
    demuxer: Option<(Arc<Instance>, u64)>,
    outstanding: usize,
    seeking: bool,
    closed: bool,
    demand: Option<Demand>,
}

impl Chain {
    /// A chain whose transport is about to be opened.
    pub fn new(source: u64, url: &str, transport: Arc<Instance>, transport_session: u64) -> Self {
        Self { source, url: url.to_owned(), transport, transport_session, state: Mutex::default() }
    }

    pub(crate) fn is_demuxer(&self, ctx: u64, session: u64) -> bool {
        self.state.lock().demuxer.as_ref().is_some_and(|(instance, id)| instance.ctx == ctx && *id == session)
    }

    pub(crate) fn head(&self, head: Head) {
        self.state.lock().head = head;
    }

    /// Adds what the transport knows to the description of the connection.
    pub(crate) fn describe(&self, connection: &mut Connection) {
        let state = self.state.lock();
        let known = &state.head.connection;
        for (field, value) in [
            (&mut connection.protocol, &known.protocol),
            (&mut connection.remote_addr, &known.remote_addr),
            (&mut connection.user_agent, &known.user_agent),
        ] {
            if field.is_empty() {
                field.clone_from(value);
            }
        }
    }

    /// Bytes of the transport; none: it has come to the end (a seek may follow).
    pub(crate) fn data(self: &Arc<Self>, app: &App, data: &[u8]) -> Code {
        let mut state = self.state.lock();
        if state.closed {
            return Code::Closed;
        }
        if state.seeking {
            // Read before the transport heard of the seek; it has forgotten its window by then.
            return Code::Ok;
        }
        if state.outstanding > WINDOW {
            return Code::Busy;
        }
        state.outstanding += data.len();
        if let Some((instance, session)) = &state.demuxer {
            if data.is_empty() {
                instance.command(
                    *session,
                    command::DATA_END,
                    &Ended { class: Class::Eof, ..Ended::default() },
                );
            } else {
                instance.command_bytes(*session, command::DATA, Bytes::copy_from_slice(data));
            }
            return Code::Ok;
        }
        state.first.extend_from_slice(data);
        let known = !state.head.hint.is_empty();
        if !known && state.first.len() < PROBE && !data.is_empty() {
            let bytes = data.len() as u64;
            state.outstanding = 0;
            self.transport.command(self.transport_session, command::WRITABLE, &Credit { bytes });
            return Code::Ok;
        }
        let first = std::mem::take(&mut state.first);
        let catalogue = app.catalogue();
        let found = catalogue.demuxer(&state.head, &first);
        let Some((entry, demuxes)) = found else {
            let hex: String = first.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
            let message = if first.is_empty() {
                "magic: EOF before the first byte".to_owned()
            } else {
                format!("magic: unsupported header: {hex}")
            };
            drop(state);
            app.chain_failed(self, Ended { class: Class::Unsupported, message, retry_after_ms: 0 });
            return Code::Closed;
        };
        let open =
            DemuxerOpen { format: demuxes.format.clone(), url: self.url.clone(), head: state.head.clone() };
        let name = entry.manifest.name.clone();
        let Some((instance, session)) = app.open_demuxer(self, &name, &open) else {
            drop(state);
            let message = format!("plugin {name} cannot be started: see its lines in the log");
            app.chain_failed(self, Ended { class: Class::Unsupported, message, retry_after_ms: 0 });
            return Code::Closed;
        };
        if let Some(demand) = &state.demand {
            instance.command(session, command::DEMAND, demand);
        }
        // What was looked at was credited already, but for the last part.
        let credited = first.len().saturating_sub(data.len());
        state.outstanding = first.len();
        if credited > 0 {
            state.outstanding -= credited;
        }
        if !first.is_empty() {
            instance.command_bytes(session, command::DATA, Bytes::from(first));
        }
        if data.is_empty() {
            instance.command(session, command::DATA_END, &Ended { class: Class::Eof, ..Ended::default() });
        }
        state.demuxer = Some((instance, session));
        Code::Ok
    }

    /// The demuxer took bytes.
    pub(crate) fn consumed(&self, bytes: u64) {
        let mut state = self.state.lock();
        if state.seeking {
            return;
        }
        let bytes = bytes.min(state.outstanding as u64);
        state.outstanding -= bytes as usize;
        self.transport.command(self.transport_session, command::WRITABLE, &Credit { bytes });
    }

    /// The demuxer wants other bytes.
    pub(crate) fn seek(&self, offset: u64) {
        let mut state = self.state.lock();
        state.seeking = true;
        state.outstanding = 0;
        self.transport.command(self.transport_session, command::SEEK, &Seek { offset });
    }

    /// The transport goes on from there.
    pub(crate) fn sought(&self, offset: u64) {
        let mut state = self.state.lock();
        state.seeking = false;
        if let Some((instance, session)) = &state.demuxer {
            instance.command(*session, command::DATA_AT, &Seek { offset });
        }
    }

    pub(crate) fn demand(&self, demand: &Demand) {
        let mut state = self.state.lock();
        state.demand = Some(demand.clone());
        if let Some((instance, session)) = &state.demuxer {
            instance.command(*session, command::DEMAND, demand);
        }
    }

    /// The transport broke or ended. False: there is no demuxer that could tell, the source is over.
    pub(crate) fn transport_ended(&self, ended: &Ended) -> bool {
        let state = self.state.lock();
        match &state.demuxer {
            Some((instance, session)) => {
                instance.command(*session, command::DATA_END, ended);
                true
            }
            None => state.closed,
        }
    }

    /// Ends both sessions.
    pub(crate) fn close(&self) {
        let mut state = self.state.lock();
        if !std::mem::replace(&mut state.closed, true) {
            self.transport.close(self.transport_session);
            if let Some((instance, session)) = &state.demuxer {
                instance.close(*session);
            }
        }
    }
}
