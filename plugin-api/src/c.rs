//! The door for libraries that are not built with abi_stable: the tables of `include/patchbay_plugin.h`.
//!
//! The functions are those of [`crate::abi::PluginTable`]; `start` gets the host's table as a plain C struct.
#![allow(unsafe_code)]

use abi_stable::prefix_type::PrefixTypeTrait as _;

use crate::abi::{HostTable, HostTableRef, Slice, StartPtr};

/// The header, for those who write one.
pub const HEADER: &str = include_str!("../include/patchbay_plugin.h");

/// The function that such a library exports.
pub const SYMBOL: &str = "patchbay_plugin_v1";

/// Its type.
pub type EntryPoint = unsafe extern "C" fn() -> *const PluginTable;

/// `patchbay_plugin`: a function that is missing is null.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct PluginTable {
    /// Size of the library's table in bytes.
    pub size: u64,
    /// See [`crate::abi::PluginTable::start`].
    pub start: Option<extern "C" fn(host: *const HostTable, info: StartPtr) -> i32>,
    /// See [`crate::abi::PluginTable::open`].
    pub open: Option<extern "C" fn(session: u64, role: u32, request: Slice) -> i32>,
    /// See [`crate::abi::PluginTable::command`].
    pub command: Option<extern "C" fn(session: u64, kind: u32, payload: Slice) -> i32>,
    /// See [`crate::abi::PluginTable::close`].
    pub close: Option<extern "C" fn(session: u64) -> i32>,
    /// See [`crate::abi::PluginTable::stop`].
    pub stop: Option<extern "C" fn() -> i32>,
}

/// Bytes of `patchbay_plugin` in 1.0: the least that one has.
pub const FIRST_PLUGIN: u64 = 48;

/// Bytes of `patchbay_host` in 1.0: the least that one has.
pub const FIRST_HOST: u64 = 96;

/// Why a library's C table cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CTableError {
    /// The entry point returned nothing.
    #[error("{SYMBOL} returned no table")]
    Null,
    /// It is smaller than the first version's.
    #[error("the table of {SYMBOL} has {size} bytes instead of {FIRST_PLUGIN}: set its size")]
    Small {
        /// Its size.
        size: u64,
    },
    /// A function is null.
    #[error("the table of {SYMBOL} lacks {0}")]
    Missing(&'static str),
}

/// A checked table.
#[derive(Clone, Copy)]
pub(crate) struct Calls {
    pub(crate) start: extern "C" fn(*const HostTable, StartPtr) -> i32,
    pub(crate) open: extern "C" fn(u64, u32, Slice) -> i32,
    pub(crate) command: extern "C" fn(u64, u32, Slice) -> i32,
    pub(crate) close: extern "C" fn(u64) -> i32,
    pub(crate) stop: extern "C" fn() -> i32,
}

impl Calls {
    /// Checks a library's table.
    ///
    /// # Safety
    /// `table` must be null or point to a `patchbay_plugin` of at least the size that it says.
    pub(crate) unsafe fn check(table: *const PluginTable) -> Result<Self, CTableError> {
        if table.is_null() {
            return Err(CTableError::Null);
        }
        // SAFETY: the caller promises a table, whose first field is its size.
        let size = unsafe { (*table).size };
        if size < FIRST_PLUGIN {
            return Err(CTableError::Small { size });
        }
        // SAFETY: it is as large as what is read here, which is what 1.0 has.
        let table = unsafe { *table };
        Ok(Self {
            start: table.start.ok_or(CTableError::Missing("start"))?,
            open: table.open.ok_or(CTableError::Missing("open"))?,
            command: table.command.ok_or(CTableError::Missing("command"))?,
            close: table.close.ok_or(CTableError::Missing("close"))?,
            stop: table.stop.ok_or(CTableError::Missing("stop"))?,
        })
    }
}

/// A host's table as the library sees it, made from `patchbay_host`. Leaked: a plugin keeps it for ever.
///
/// # Safety
/// `table` must be null or point to a `patchbay_host` of at least the size that it says.
pub(crate) unsafe fn host_of(table: *const HostTable) -> Option<HostTableRef> {
    // SAFETY: the caller promises a table, whose first field is its size.
    if table.is_null() || unsafe { (*table).size } < FIRST_HOST {
        return None;
    }
    // SAFETY: each of these functions is within the first version's table.
    let host = unsafe {
        HostTable {
            size: size_of::<HostTable>() as u64,
            emit: (*table).emit,
            push: (*table).push,
            write: (*table).write,
            read: (*table).read,
            locate: (*table).locate,
            track_config: (*table).track_config,
            pending: (*table).pending,
            retain: (*table).retain,
            log: (*table).log,
            state_get: (*table).state_get,
            state_put: (*table).state_put,
            // What a later version has and this host has not is one that says so.
            #[cfg(patchbay_abi_next)]
            next: if (*table).size >= size_of::<HostTable>() as u64 { (*table).next } else { lacks },
        }
    };
    Some(host.leak_into_prefix())
}

#[cfg(patchbay_abi_next)]
extern "C" fn lacks(_: u64) -> i32 {
    crate::Code::Unsupported as i32
}

/// The host's table as `patchbay_host`. Leaked: a plugin keeps it for ever.
pub(crate) fn host_table(host: HostTableRef) -> &'static HostTable {
    Box::leak(Box::new(HostTable {
        size: size_of::<HostTable>() as u64,
        emit: host.emit(),
        push: host.push(),
        write: host.write(),
        read: host.read(),
        locate: host.locate(),
        track_config: host.track_config(),
        pending: host.pending(),
        retain: host.retain(),
        log: host.log(),
        state_get: host.state_get(),
        state_put: host.state_put(),
        #[cfg(patchbay_abi_next)]
        next: crate::entry::next_host,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    extern "C" fn start(_: *const HostTable, _: StartPtr) -> i32 {
        0
    }
    #[test]
    fn sizes_are_those_of_the_first_version() {
        assert_eq!(FIRST_PLUGIN, size_of::<PluginTable>() as u64);
        assert!(FIRST_HOST <= size_of::<HostTable>() as u64);
        // SAFETY: null is allowed.
        assert!(unsafe { host_of(std::ptr::null()) }.is_none());
    }

    extern "C" fn open(_: u64, _: u32, _: Slice) -> i32 {
        0
    }
    extern "C" fn close(_: u64) -> i32 {
        0
    }
    extern "C" fn stop() -> i32 {
        0
    }

    fn table() -> PluginTable {
        let size = size_of::<PluginTable>() as u64;
        let (start, open, close, stop) =
            (Some(start as _), Some(open as _), Some(close as _), Some(stop as _));
        PluginTable { size, start, open, command: open, close, stop }
    }

    fn refusal(table: *const PluginTable) -> Option<CTableError> {
        // SAFETY: null, or a whole table of this test.
        unsafe { Calls::check(table) }.err()
    }

    #[test]
    fn tables_are_checked_before_they_are_used() {
        assert_eq!(refusal(&table()), None);
        assert_eq!(refusal(&PluginTable { size: 4096, ..table() }), None, "a newer library has more");
        assert_eq!(refusal(std::ptr::null()), Some(CTableError::Null));
        assert_eq!(refusal(&PluginTable { size: 40, ..table() }), Some(CTableError::Small { size: 40 }));
        assert_eq!(refusal(&PluginTable { stop: None, ..table() }), Some(CTableError::Missing("stop")));
    }
}
