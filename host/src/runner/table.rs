//! The host's functions as the plugin in this process calls them.

use std::mem::MaybeUninit;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use patchbay_plugin_api::Code;
use patchbay_plugin_api::abi::{RawUnit, ReadOut};
use patchbay_plugin_api::entry::{ChunkRef, HostEntry};

use super::{Runner, eprintln_line, runner};
use crate::reading;
use crate::wire::{self, Message, kind};

/// How long a missing configuration entry is waited for.
const CONFIG_WAIT: Duration = Duration::from_secs(1);

impl HostEntry for Runner {
    fn emit(_: u64, session: u64, kind_of: u32, payload: &[u8]) -> Code {
        runner().map_or(Code::Closed, |r| {
            let x = u64::from(kind_of);
            r.tell(&Message {
                kind: kind::EMIT,
                id: session,
                x,
                payload: payload.to_vec(),
                ..Message::default()
            })
        })
    }

    fn push(_: u64, session: u64, unit: &RawUnit, data: &[u8]) -> Code {
        if data.len() > crate::source::MAX_RAW_UNIT {
            return Code::OverLimit;
        }
        let payload = wire::unit::encode(unit, data);
        runner().map_or(Code::Closed, |r| {
            r.tell(&Message { kind: kind::PUSH, id: session, payload, ..Message::default() })
        })
    }

    fn write(_: u64, session: u64, chunk: ChunkRef<'_>) -> Code {
        if chunk.data.len() > crate::hub::MAX_CHUNK {
            return Code::OverLimit;
        }
        let payload = wire::chunk::encode(&chunk);
        runner().map_or(Code::Closed, |r| {
            r.tell(&Message { kind: kind::WRITE, id: session, payload, ..Message::default() })
        })
    }

    fn read(_: u64, id: u64, cursor: u64, mask: u64, buf: &mut [MaybeUninit<u8>], out: &mut ReadOut) -> Code {
        let Some(runner) = runner() else { return Code::Closed };
        let Some((memory, gone)) = runner.memory(id) else { return Code::Closed };
        let read = memory.read(cursor, mask, buf);
        let code = reading::report(&read, gone, out);
        if code != Code::Ok || !read.end {
            return code;
        }
        out.end = 1;
        runner.tell(&Message { kind: kind::ARM, id, x: read.next, y: mask, ..Message::default() })
    }

    fn locate(_: u64, id: u64, what: u32, arg: u64) -> Result<u64, Code> {
        let (memory, _) = runner().and_then(|runner| runner.memory(id)).ok_or(Code::Closed)?;
        memory.locate(reading::place(what, arg)?).ok_or(Code::Unknown)
    }

    fn track_config(_: u64, source: u64, track: u32, epoch: u32) -> Result<Vec<u8>, Code> {
        let runner = runner().ok_or(Code::Closed)?;
        let key = (source, u64::from(track), u64::from(epoch));
        let mut configs = runner.configs.lock();
        if let Some(found) = configs.get(&key) {
            return Ok(found.clone());
        }
        // The unit was seen before the frame that describes it.
        let asked = Message { kind: kind::WANT_CONFIG, id: source, x: key.1, y: key.2, ..Message::default() };
        runner.send(&asked).map_err(|_| Code::Closed)?;
        let end = Instant::now() + CONFIG_WAIT;
        loop {
            if let Some(found) = configs.get(&key) {
                return Ok(found.clone());
            }
            if runner.news.wait_until(&mut configs, end).timed_out() {
                return Err(Code::Unknown);
            }
        }
    }

    fn pending(_: u64, out: &mut [u64]) -> usize {
        let Some(runner) = runner() else { return 0 };
        let mut pending = runner.pending.lock();
        let n = pending.len().min(out.len());
        for (slot, source) in out.iter_mut().zip(pending.drain(..n)) {
            *slot = source;
        }
        if pending.is_empty() {
            runner.signalled.store(false, Ordering::Release);
        }
        n
    }

    fn retain(_: u64, source: u64, ms: u64) -> Code {
        runner().map_or(Code::Closed, |r| {
            r.tell(&Message { kind: kind::RETAIN, id: source, x: ms, ..Message::default() })
        })
    }

    fn log(_: u64, level: u32, target: &str, event: &[u8]) {
        if let Some(runner) = runner() {
            let payload = [target.as_bytes(), event].concat();
            let (x, y) = (u64::from(level), target.len() as u64);
            let _ = runner.send(&Message { kind: kind::LOG, x, y, payload, ..Message::default() });
        }
    }

    fn state_get(_: u64, key: &str) -> Result<Vec<u8>, Code> {
        runner().ok_or(Code::Closed)?.state.lock().get(key).cloned().ok_or(Code::Unknown)
    }

    fn state_put(_: u64, key: &str, value: &[u8]) -> Code {
        let Some(runner) = runner() else { return Code::Closed };
        if value.len() > 64 << 10 || key.len() > 256 {
            return Code::OverLimit;
        }
        match value {
            [] => runner.state.lock().remove(key),
            value => runner.state.lock().insert(key.to_owned(), value.to_vec()),
        };
        let payload = [key.as_bytes(), value].concat();
        runner.tell(&Message { kind: kind::STATE_PUT, y: key.len() as u64, payload, ..Message::default() })
    }

    fn panicked(_: u64, call: &'static str, message: &str) {
        eprintln_line(&format!("panic of the runner in {call}: {message}"));
    }
}
