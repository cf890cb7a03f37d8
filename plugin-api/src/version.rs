//! Which libraries a host loads.

use semver::Version;

/// The literal of [`ABI`], for macros that build a manifest at compile time.
#[cfg(not(patchbay_abi_next))]
#[macro_export]
macro_rules! abi_version {
    () => {
        "1.0.0"
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

/// Version of the ABI. A plugin built for 1.x runs in every host 1.y with y >= x; a draft (`1.1.0-draft.1`) is loaded only when equal.
/// The minor version is raised with every addition to a table, struct or message, the package's with it.
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
    fn the_package_has_the_major_version_of_the_abi() {
        // abi_stable compares the packages of types, with the minor version too were the major one 0.
        let package = env!("CARGO_PKG_VERSION").split('.').next().and_then(|major| major.parse().ok());
        assert_eq!(package, Some(numbers().0));
        assert!(LAYOUT.starts_with("1."));
    }

    #[test]
    fn drafts_must_be_equal() {
        let (draft, other, declared) = ("1.1.0-draft.2", "1.1.0-draft.1", "1.0.0");
        assert_eq!(check(draft, None, draft), Ok(Direction::PluginHasAll));
        assert!(matches!(check(other, None, draft), Err(Refusal::Draft { .. })));
        assert!(matches!(check(declared, None, draft), Err(Refusal::Draft { .. })));
        let refusal = check("1.0.0-draft.4", None, declared).unwrap_err().to_string();
        assert_eq!(
            refusal,
            "it was built for ABI 1.0.0-draft.4, this host has 1.0.0: rebuild it with patchbay-sdk for 1.0.0"
        );
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
