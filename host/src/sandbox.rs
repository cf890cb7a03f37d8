//! What a plugin in a process of its own may do: what its manifest asks for, what it is allowed of that, and what the
//! kernel enforces.
//!
//! A shipped plugin gets all it asks for. One from elsewhere gets the network; files, devices and programs only when
//! `allow` in its settings names them.

use std::fmt;

use patchbay_plugin_api::Manifest;
use serde::{Deserialize, Serialize};

pub mod cgroup;
pub mod landlock;

/// Something that a manifest may ask for under `capabilities`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Capability {
    /// Connect by TCP.
    #[serde(rename = "net.tcp")]
    NetTcp,
    /// UDP. No kernel restricts it by Landlock yet.
    #[serde(rename = "net.udp")]
    NetUdp,
    /// Multicast groups, beside UDP.
    #[serde(rename = "net.multicast")]
    NetMulticast,
    /// Bind a TCP port. A manifest with `listen` asks for it without the word.
    #[serde(rename = "listen")]
    Listen,
    /// Read any file that the server's user can read, outside `/dev`, `/proc` and `/sys`.
    #[serde(rename = "files")]
    Files,
    /// Read, write, make and remove files there.
    #[serde(rename = "files.write")]
    FilesWrite,
    /// Cameras, microphones and encoders: all of `/dev`, and reading `/sys`.
    #[serde(rename = "devices")]
    Devices,
    /// Run programs; they may do what the plugin may, and read files.
    #[serde(rename = "exec")]
    Exec,
}

impl Capability {
    /// Every one.
    pub const ALL: [Self; 8] = [
        Self::NetTcp,
        Self::NetUdp,
        Self::NetMulticast,
        Self::Listen,
        Self::Files,
        Self::FilesWrite,
        Self::Devices,
        Self::Exec,
    ];

    /// What a plugin from elsewhere gets without being allowed it.
    const USUAL: [Self; 4] = [Self::NetTcp, Self::NetUdp, Self::NetMulticast, Self::Listen];

    /// Its word in a manifest.
    pub fn word(self) -> &'static str {
        match self {
            Self::NetTcp => "net.tcp",
            Self::NetUdp => "net.udp",
            Self::NetMulticast => "net.multicast",
            Self::Listen => "listen",
            Self::Files => "files",
            Self::FilesWrite => "files.write",
            Self::Devices => "devices",
            Self::Exec => "exec",
        }
    }

    /// The capability of a word.
    pub fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|capability| capability.word() == word)
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(self.word())
    }
}

/// In `allow`: no Landlock for this plugin.
pub const ALLOW_ALL: &str = "all";

/// What a plugin asks for and gets.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Grants {
    /// It gets these.
    pub granted: Vec<Capability>,
    /// It asks for these and is not allowed them.
    pub refused: Vec<Capability>,
    /// Words of its manifest that mean nothing to this version.
    pub unknown: Vec<String>,
    /// `allow: [all]`.
    pub unrestricted: bool,
}

impl Grants {
    /// What the plugin of `manifest` gets; `allow` is the user's setting.
    pub fn of(manifest: &Manifest, shipped: bool, allow: Option<&[String]>) -> Self {
        let mut grants = Self::default();
        let allowed = |capability: Capability| match allow {
            Some(words) => words.iter().any(|word| word == capability.word() || word == ALLOW_ALL),
            None => shipped || Capability::USUAL.contains(&capability),
        };
        grants.unrestricted = allow.is_some_and(|words| words.iter().any(|word| word == ALLOW_ALL));
        let mut asked: Vec<Capability> = manifest.listen.iter().map(|_| Capability::Listen).collect();
        for word in &manifest.capabilities {
            match Capability::of(word) {
                Some(capability) => asked.push(capability),
                None => grants.unknown.push(word.clone()),
            }
        }
        asked.sort();
        asked.dedup();
        (grants.granted, grants.refused) = asked.into_iter().partition(|capability| allowed(*capability));
        grants
    }

    /// Whether it has `capability`.
    pub fn has(&self, capability: Capability) -> bool {
        self.granted.contains(&capability)
    }

    /// For the log when it asks for more than it may; `None` when it does not.
    pub fn complaint(&self, name: &str) -> Option<String> {
        InForce { refused: self.refused.clone(), unknown: self.unknown.clone(), ..InForce::default() }
            .complaint(name)
    }
}

/// Words with commas between them.
pub fn words(capabilities: &[Capability]) -> String {
    capabilities.iter().map(|capability| capability.word()).collect::<Vec<_>>().join(", ")
}

/// What is enforced in a process, as its runner says before the plugin's library is loaded.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct InForce {
    /// Version of Landlock's ABI in force; 0: none.
    pub landlock: u32,
    /// Why there is none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub why: String,
    /// It got these.
    pub granted: Vec<Capability>,
    /// It asks for these and did not get them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<Capability>,
    /// Words of its manifest that nothing knows.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unknown: Vec<String>,
    /// The user allows it everything.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub unrestricted: bool,
    /// What it can do although it did not get it: the kernel cannot forbid it.
    pub open: Vec<String>,
    /// No program that it runs gets more rights than it has.
    pub no_new_privs: bool,
    /// Descriptors that it may have open.
    pub descriptors: u64,
    /// Bytes of memory; 0: no limit.
    pub memory: u64,
    /// What holds it to that: `cgroup` or `rlimit`.
    pub memory_by: String,
    /// Processes and threads that it may have; 0: no limit.
    pub processes: u64,
}

impl InForce {
    /// For the log when it asks for more than it may; `None` when it does not.
    pub fn complaint(&self, name: &str) -> Option<String> {
        let mut text = Vec::new();
        if !self.refused.is_empty() {
            let refused = words(&self.refused);
            text.push(format!(
                "it asks for {refused} and does not get it: to allow it, plugins: {{{name}: {{allow: [{refused}]}}}}"
            ));
        }
        if !self.unknown.is_empty() {
            text.push(format!("its manifest asks for {}, which nothing knows", self.unknown.join(", ")));
        }
        (!text.is_empty()).then(|| text.join("; "))
    }

    /// What Landlock of version `abi` leaves open for `grants`.
    pub fn open(abi: u32, grants: &Grants) -> Vec<String> {
        let lacks = |capability, since: u32| !grants.has(capability) && abi < since;
        let open = [
            (lacks(Capability::Files, 1) && lacks(Capability::FilesWrite, 1), "files"),
            (lacks(Capability::Exec, 1), "programs"),
            (lacks(Capability::NetTcp, 4), "tcp"),
            (lacks(Capability::Listen, 4), "listen"),
            (!grants.has(Capability::NetUdp) && !grants.has(Capability::NetMulticast), "udp"),
            (abi < 6, "signals"),
            (abi < 9, "unix sockets"),
            (true, "system calls"),
        ];
        open.into_iter().filter(|(open, _)| *open).map(|(_, what)| what.to_owned()).collect()
    }
}

impl fmt::Display for InForce {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.landlock {
            0 => write!(to, "no Landlock ({})", self.why)?,
            abi => write!(to, "Landlock {abi}")?,
        }
        let granted = if self.granted.is_empty() { "nothing".to_owned() } else { words(&self.granted) };
        write!(to, ", gets {granted}")?;
        if !self.refused.is_empty() {
            write!(to, ", does not get {}", words(&self.refused))?;
        }
        if !self.unknown.is_empty() {
            write!(to, ", asks for the unknown {}", self.unknown.join(", "))?;
        }
        if self.memory > 0 {
            write!(to, ", {} MiB", self.memory >> 20)?;
            if !self.memory_by.is_empty() {
                write!(to, " by {}", self.memory_by)?;
            }
        }
        write!(to, "; open: {}", self.open.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(capabilities: &[&str], listen: bool) -> Manifest {
        Manifest {
            capabilities: capabilities.iter().map(|word| (*word).to_owned()).collect(),
            listen: listen.then(Default::default),
            ..Manifest::default()
        }
    }

    #[test]
    fn shipped_plugins_get_what_they_ask_for_others_the_network() {
        use Capability::{Exec, Files, Listen, NetTcp};
        let asks = manifest(&["exec", "net.tcp", "files", "moon"], true);
        let shipped = Grants::of(&asks, true, None);
        assert_eq!(shipped.granted, [NetTcp, Listen, Files, Exec]);
        assert_eq!((shipped.refused.len(), shipped.unknown.as_slice()), (0, &["moon".to_owned()][..]));
        let other = Grants::of(&asks, false, None);
        assert_eq!(
            (other.granted.as_slice(), other.refused.as_slice()),
            (&[NetTcp, Listen][..], &[Files, Exec][..])
        );
        let complaint = other.complaint("acme").unwrap();
        assert!(complaint.contains("allow: [files, exec]") && complaint.contains("moon"), "{complaint}");
        assert_eq!(Grants::of(&manifest(&["net.udp"], false), false, None).complaint("acme"), None);
    }

    #[test]
    fn the_setting_rules_and_gives_nothing_that_is_not_asked_for() {
        let asks = manifest(&["net.tcp", "exec"], false);
        let allow = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            Grants::of(&asks, true, Some(&words))
        };
        assert_eq!(allow(&[]).granted, []);
        assert_eq!(allow(&["exec", "files"]).granted, [Capability::Exec]);
        let all = allow(&["all"]);
        assert!(all.unrestricted && all.refused.is_empty());
    }

    #[test]
    fn what_is_open_depends_on_the_kernel() {
        let nothing = Grants::default();
        assert_eq!(InForce::open(7, &nothing), ["udp", "unix sockets", "system calls"]);
        assert_eq!(
            InForce::open(3, &nothing),
            ["tcp", "listen", "udp", "signals", "unix sockets", "system calls"]
        );
        assert_eq!(InForce::open(0, &nothing).len(), 8);
        let udp = Grants { granted: vec![Capability::NetUdp], ..Grants::default() };
        assert_eq!(InForce::open(9, &udp), ["system calls"]);
    }

    #[test]
    fn words_and_capabilities_agree() {
        for capability in Capability::ALL {
            assert_eq!(Capability::of(capability.word()), Some(capability));
            assert_eq!(serde_json::to_value(capability).unwrap(), capability.word());
        }
    }
}
