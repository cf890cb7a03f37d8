//! Which libraries a host loads.

use semver::Version;

/// The literal of [`ABI`], for macros that build a manifest at compile time.
#[cfg(not(patchbay_abi_next))]
#[macro_export]
macro_rules! abi_version {
    () => {
        "1.0.0-draft.5"
    };
}

/// Only in the fixture that stands for the next minor version.
#[cfg(patchbay_abi_next)]
#[macro_export]
macro_rules! abi_version {
    () => {
        "1.1.0-draft.1"
    };
}

/// Version of the ABI. A draft is loaded only when equal; N is raised with every change of a table, struct or message.
/// From 1.0.0 on a plugin built for 1.x runs in every host 1.y with y >= x.
pub const ABI: &str = abi_version!();

/// What abi_stable compares: the same numbers without the draft, never 0.x.
pub const LAYOUT: &str = "1.0.0";

/// Major and minor of [`ABI`].
pub fn numbers() -> (u32, u32) {
    let mut parts = ABI.split('.').map_while(|part| part.parse().ok());
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

/// Why a library is not loaded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The manifest's version is no version.
    #[error("its ABI version {0:?} is not a version: rebuild it with a current patchbay-sdk")]
    Unreadable(String),
    /// Drafts must be equal.
    #[error("it was built for ABI {plugin}, this host has {host}: rebuild it with patchbay-sdk for {host}")]
    Draft {
        /// The plugin's version.
        plugin: String,
        /// The host's version.
        host: String,
    },
    /// Another major version.
    #[error("it was built for ABI {plugin}, this host has {host}: update {}", if *newer { "Patchbay" } else { "the plugin" })]
    Major {
        /// The plugin's version.
        plugin: String,
        /// The host's version.
        host: String,
        /// The plugin is the newer one.
        newer: bool,
    },
    /// The plugin needs services that this host does not have.
    #[error(
        "it was built for ABI {plugin} and needs at least {needed}, this host has {host}: update Patchbay"
    )]
    Newer {
        /// The plugin's version.
        plugin: String,
        /// The lowest host version it can use.
        needed: String,
        /// The host's version.
        host: String,
    },
}

/// How the layouts of an accepted library are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The plugin has the tables of this host or more: abi_stable's own check.
    PluginHasAll,
    /// The plugin is older: the check with the roles swapped (its view must be a prefix of the host's).
    Swapped,
}

/// Whether a host of ABI `host` loads a plugin of ABI `plugin` that needs host version `min_host` (default: its own).
pub fn check(plugin: &str, min_host: Option<&str>, host: &str) -> Result<Direction, Refusal> {
    let parse = |text: &str| Version::parse(text).map_err(|_| Refusal::Unreadable(text.to_owned()));
    let (p, h) = (parse(plugin)?, parse(host)?);
    if !p.pre.is_empty() || !h.pre.is_empty() {
        if p == h {
            return Ok(Direction::PluginHasAll);
        }
        return Err(Refusal::Draft { plugin: plugin.to_owned(), host: host.to_owned() });
    }
    if p.major != h.major {
        let newer = p.major > h.major;
        return Err(Refusal::Major { plugin: plugin.to_owned(), host: host.to_owned(), newer });
    }
    if p.minor <= h.minor {
        return Ok(if p.minor == h.minor { Direction::PluginHasAll } else { Direction::Swapped });
    }
    let needed = min_host.unwrap_or(plugin);
    if parse(needed)? <= h {
        return Ok(Direction::PluginHasAll);
    }
    Err(Refusal::Newer { plugin: plugin.to_owned(), needed: needed.to_owned(), host: host.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drafts_must_be_equal() {
        assert_eq!(check("1.0.0-draft.5", None, "1.0.0-draft.5"), Ok(Direction::PluginHasAll));
        assert!(matches!(check("1.0.0-draft.3", None, "1.0.0-draft.5"), Err(Refusal::Draft { .. })));
        assert!(matches!(check("1.0.0", None, "1.0.0-draft.5"), Err(Refusal::Draft { .. })));
    }

    #[test]
    fn older_is_swapped_newer_needs_leave() {
        assert_eq!(check("1.0.0", None, "1.2.0"), Ok(Direction::Swapped));
        assert_eq!(check("1.2.5", None, "1.2.0"), Ok(Direction::PluginHasAll));
        assert!(matches!(check("1.3.0", None, "1.2.0"), Err(Refusal::Newer { .. })));
        assert_eq!(check("1.3.0", Some("1.1.0"), "1.2.0"), Ok(Direction::PluginHasAll));
        assert!(matches!(check("2.0.0", None, "1.2.0"), Err(Refusal::Major { newer: true, .. })));
        assert!(matches!(check("soon", None, "1.2.0"), Err(Refusal::Unreadable(_))));
    }
}
