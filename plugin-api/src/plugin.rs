//! The plugin table, safe to call: what the host builds on.
#![allow(unsafe_code)]

use abi_stable::abi_stability::abi_checking::check_layout_compatibility;
use abi_stable::library::{IsLayoutChecked, LibHeader};

use crate::abi::{HostTableRef, PluginTableRef, Slice, StartInfo, StartPtr};
use crate::c::{self, CTableError};
use crate::code::Code;
use crate::version::Direction;

/// A loaded plugin's table. Calls are for the host's one thread of this plugin.
#[derive(Clone, Copy)]
pub struct Plugin {
    table: Table,
}

/// By which door it came.
#[derive(Clone, Copy)]
enum Table {
    Checked(PluginTableRef),
    C(c::Calls),
}

/// Why a library's tables cannot be used; one line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TableError {
    /// abi_stable found a difference.
    #[error("its tables differ from this host's ({0}): rebuild it with a current patchbay-sdk")]
    Layout(String),
    /// The library was built without layout information.
    #[error("it carries no layout information")]
    NoLayout,
    /// The constructor failed.
    #[error("its table cannot be made: {0}")]
    Constructor(String),
    /// The C table is none.
    #[error(transparent)]
    C(#[from] CTableError),
}

impl Plugin {
    /// Checks a library's header and makes its table.
    ///
    /// The layout check stands here and not in abi_stable's loader, because that one refuses every plugin that is older
    /// than the host by one tail field, and caches one module per type.
    pub fn from_header(header: &'static LibHeader, direction: Direction) -> Result<Self, TableError> {
        let IsLayoutChecked::Yes(theirs) = header.root_mod_consts().layout() else {
            return Err(TableError::NoLayout);
        };
        let ours = <PluginTableRef as abi_stable::StableAbi>::LAYOUT;
        let checked = match direction {
            Direction::PluginHasAll => check_layout_compatibility(ours, theirs),
            Direction::Swapped => check_layout_compatibility(theirs, ours),
        };
        checked.map_err(|errors| TableError::Layout(first_line(&errors.to_string())))?;
        // SAFETY: the layouts were compared above: each side sees a prefix of the other's table.
        let table = unsafe { header.init_root_module_with_unchecked_layout::<PluginTableRef>() }
            .map_err(|error| TableError::Constructor(first_line(&error.to_string())))?;
        Ok(Self { table: Table::Checked(table) })
    }

    /// Takes what a library's [`c::SYMBOL`] returned. Its layout is that of the ABI version that its manifest names.
    ///
    /// # Safety
    /// `table` must be null or point to a `patchbay_plugin` that stays where it is for ever.
    pub unsafe fn from_c(table: *const c::PluginTable) -> Result<Self, TableError> {
        // SAFETY: the caller upholds it.
        Ok(Self { table: Table::C(unsafe { c::Calls::check(table) }?) })
    }

    /// A plugin linked into this program, for tests.
    pub fn from_table(table: PluginTableRef) -> Self {
        Self { table: Table::Checked(table) }
    }

    /// Starts it. `host` and what `info` points to must stay valid as the ABI says: the table for ever, `info` for the call.
    pub fn start(&self, host: HostTableRef, info: &StartInfo) -> Code {
        Code::from_raw(match self.table {
            Table::Checked(table) => (table.start())(host, StartPtr(info)),
            Table::C(calls) => (calls.start)(c::host_table(host), StartPtr(info)),
        })
    }

    /// Opens a session of `role`.
    pub fn open(&self, session: u64, role: u32, request: &[u8]) -> Code {
        Code::from_raw(match self.table {
            Table::Checked(table) => (table.open())(session, role, Slice::new(request)),
            Table::C(calls) => (calls.open)(session, role, Slice::new(request)),
        })
    }

    /// Sends a command.
    pub fn command(&self, session: u64, kind: u32, payload: &[u8]) -> Code {
        Code::from_raw(match self.table {
            Table::Checked(table) => (table.command())(session, kind, Slice::new(payload)),
            Table::C(calls) => (calls.command)(session, kind, Slice::new(payload)),
        })
    }

    /// Ends a session.
    pub fn close(&self, session: u64) -> Code {
        Code::from_raw(match self.table {
            Table::Checked(table) => (table.close())(session),
            Table::C(calls) => (calls.close)(session),
        })
    }

    /// Ends all sessions.
    pub fn stop(&self) -> Code {
        Code::from_raw(match self.table {
            Table::Checked(table) => (table.stop())(),
            Table::C(calls) => (calls.stop)(),
        })
    }
}

fn first_line(text: &str) -> String {
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("---"));
    lines.next().unwrap_or("unknown difference").chars().take(200).collect()
}
