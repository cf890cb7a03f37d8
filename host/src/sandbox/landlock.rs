//! Landlock rules of a plugin's process, set by its runner before the plugin's library is loaded and while there is one
//! thread: they hold for the threads and programs that it starts later.
#![allow(unsafe_code)]

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible as _, LandlockStatus,
    PathBeneath, PathFd, RestrictionStatus, Ruleset, RulesetAttr as _, RulesetCreatedAttr as _, RulesetError,
    Scope, path_beneath_rules,
};

use super::{Capability, Grants};

/// The newest ABI whose rules are known here; an older kernel enforces what it has of them.
const NEWEST: ABI = ABI::V9;

/// Read by everybody: libraries, the names of hosts, certificates, time zones, what a runtime asks about its machine.
const SYSTEM: [&str; 40] = [
    "/lib",
    "/lib32",
    "/lib64",
    "/usr/lib",
    "/usr/lib32",
    "/usr/lib64",
    "/usr/local/lib",
    "/nix/store",
    "/gnu/store",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/host.conf",
    "/etc/gai.conf",
    "/etc/nsswitch.conf",
    "/etc/services",
    "/etc/protocols",
    "/run/systemd/resolve",
    "/run/NetworkManager",
    "/run/resolvconf",
    "/etc/ssl/certs",
    "/etc/ssl/cert.pem",
    "/etc/ssl/openssl.cnf",
    "/etc/pki/tls",
    "/etc/pki/ca-trust",
    "/etc/ca-certificates",
    "/usr/share/ca-certificates",
    "/usr/local/share/ca-certificates",
    "/usr/share/zoneinfo",
    "/etc/localtime",
    "/etc/timezone",
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/proc/sys/vm/overcommit_memory",
    "/proc/sys/kernel/random",
    "/sys/devices/system/cpu",
    "/sys/fs/cgroup",
    "/dev/urandom",
];

/// What a program needs to be run: interpreters, their libraries, the dynamic linker.
const INSTALLED: [&str; 9] =
    ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/opt", "/nix/store", "/gnu/store"];

/// Sockets by which the C library resolves names.
const RESOLVERS: [&str; 3] = ["/run/systemd/resolve", "/run/nscd", "/run/dbus/system_bus_socket"];

/// Folders that `files` and `exec` do not open.
const SPECIAL: [&str; 3] = ["/dev", "/proc", "/sys"];

/// The kernel's version of Landlock; 0: none.
pub fn version() -> u32 {
    /// Asks for the version alone (linux/landlock.h).
    const CREATE_RULESET_VERSION: u32 = 1;
    // SAFETY: with this flag the call takes no attributes and gives a number.
    let version = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<libc::c_void>(),
            0_usize,
            CREATE_RULESET_VERSION,
        )
    };
    u32::try_from(version).unwrap_or(0)
}

/// Leaves this thread, and what it will start, only what `grants` names, and `own` to be read. Gives Landlock's version in
/// force, or why there is none.
pub fn restrict(grants: &Grants, own: impl AsFd) -> Result<u32, String> {
    checked(grants, own, &[])
}

/// The same before the process becomes the program at `own`: that, what is in `own.d`, and what is installed on this
/// machine, can be read and run.
pub fn restrict_program(grants: &Grants, own: &Path) -> Result<u32, String> {
    let file = PathFd::new(own).map_err(|error| error.to_string())?;
    let beside = own.with_extension("d");
    let programs: Vec<&Path> = INSTALLED.iter().map(Path::new).chain([own, &beside]).collect();
    checked(grants, file, &programs)
}

/// The folders of a `PATH` where such a program finds something that it can run: an interpreter in somebody's home is out
/// of its reach, and would be found first.
pub fn reachable(path: &OsStr) -> OsString {
    let reached = |folder: &PathBuf| {
        let real = fs::canonicalize(folder);
        real.is_ok_and(|real| INSTALLED.iter().any(|installed| real.starts_with(installed)))
    };
    let folders: Vec<PathBuf> = std::env::split_paths(path).filter(reached).collect();
    let folders = if folders.is_empty() { vec!["/usr/bin".into(), "/bin".into()] } else { folders };
    std::env::join_paths(folders).unwrap_or_default()
}

fn checked(grants: &Grants, own: impl AsFd, programs: &[&Path]) -> Result<u32, String> {
    if grants.unrestricted {
        return Err("it is allowed everything".to_owned());
    }
    match enforce(grants, own, programs).map_err(|error| format!("the kernel refuses it: {error}"))?.landlock
    {
        LandlockStatus::Available { effective_abi, kernel_abi } => {
            Ok(kernel_abi.unwrap_or(effective_abi as i32).cast_unsigned())
        }
        LandlockStatus::NotEnabled => Err("it is switched off in this kernel".to_owned()),
        LandlockStatus::NotImplemented => Err("this kernel has none".to_owned()),
    }
}

fn enforce(grants: &Grants, own: impl AsFd, programs: &[&Path]) -> Result<RestrictionStatus, RulesetError> {
    let has = |capability| grants.has(capability);
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let write = AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::Truncate;
    let device = write | AccessFs::ReadDir | AccessFs::IoctlDev;
    let all = AccessFs::from_all(NEWEST);
    let change = all & !(AccessFs::Execute | AccessFs::IoctlDev | AccessFs::MakeChar | AccessFs::MakeBlock);

    let mut net = BitFlags::<AccessNet>::empty();
    if !has(Capability::NetTcp) {
        net |= AccessNet::ConnectTcp;
    }
    if !has(Capability::Listen) {
        net |= AccessNet::BindTcp;
    }
    let mut rules = Ruleset::default().set_compatibility(CompatLevel::BestEffort).handle_access(all)?;
    if !net.is_empty() {
        rules = rules.handle_access(net)?;
    }
    let mut rules = rules.scope(Scope::from_all(NEWEST))?.create()?.no_new_privs(true);
    rules = rules
        .add_rule(PathBeneath::new(own, AccessFs::ReadFile))?
        .add_rules(path_beneath_rules(SYSTEM, read))?
        .add_rules(path_beneath_rules(programs, read | AccessFs::Execute))?
        .add_rules(path_beneath_rules(certificates(), read))?
        .add_rules(path_beneath_rules(["/dev/null", "/dev/zero", "/dev/random"], write))?;
    if has(Capability::NetTcp) || has(Capability::NetUdp) {
        rules = rules.add_rules(path_beneath_rules(RESOLVERS, AccessFs::ResolveUnix))?;
    }
    if has(Capability::Files) {
        rules = rules.add_rules(path_beneath_rules(top_level(), read))?;
    }
    if has(Capability::FilesWrite) {
        rules = rules.add_rules(path_beneath_rules(top_level(), change))?;
    }
    if has(Capability::Exec) {
        rules = rules.add_rules(path_beneath_rules(top_level(), read | AccessFs::Execute))?;
    }
    if has(Capability::Devices) {
        rules = rules
            .add_rules(path_beneath_rules(["/dev"], device))?
            .add_rules(path_beneath_rules(["/sys", "/run/udev"], read))?;
    }
    if let Ok(process) = PathFd::new("/proc/self") {
        rules = rules.add_rule(PathBeneath::new(&process, read))?;
        // The rule is the inode's, which lives as long as somebody holds it.
        std::mem::forget(process);
    }
    rules.restrict_self()
}

/// Where the environment says that certificates are.
fn certificates() -> impl Iterator<Item = PathBuf> {
    ["SSL_CERT_FILE", "SSL_CERT_DIR"].into_iter().filter_map(std::env::var_os).map(PathBuf::from)
}

/// Everything directly below `/` but what is special.
fn top_level() -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir("/") else { return Vec::new() };
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    paths.filter(|path| !SPECIAL.iter().any(|special| path == Path::new(special))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_looks_for_others_where_it_may_run_them() {
        let home = tempfile::tempdir().unwrap();
        let path =
            std::env::join_paths([home.path(), Path::new("/usr/bin"), Path::new("/nowhere/bin")]).unwrap();
        assert_eq!(reachable(&path), "/usr/bin");
        assert_eq!(reachable(home.path().as_os_str()), "/usr/bin:/bin");
    }
}
