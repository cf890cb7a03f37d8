//! A control group (v2) for each plugin's process, where this server was given a part of the hierarchy.
//!
//! A group that holds processes gives its children no controllers, so the server moves itself into a group beside them. It
//! does so only where the part is its own: systemd's `Delegate=yes` marks it by an attribute, a container sees it as `/`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// Processes and threads that a plugin may have.
pub const MAX_PROCESSES: u64 = 512;

/// systemd's mark of a group that was given away, from version 251 on.
const DELEGATED: &str = "user.delegate";

/// The name of the server's own group.
const OWN: &str = "patchbay-server";

/// The part of the hierarchy that is this server's, made ready; `None`: there is none.
pub fn base() -> Option<&'static Base> {
    static BASE: OnceLock<Option<Base>> = OnceLock::new();
    BASE.get_or_init(|| Base::find().and_then(|base| base.prepare().ok())).as_ref()
}

/// A group whose children are the server's to make.
#[derive(Debug)]
pub struct Base {
    folder: PathBuf,
}

impl Base {
    /// Looks for it.
    fn find() -> Option<Self> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
        let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
        let (mount, own) = (mount_point(&mounts)?, own_group(&groups)?);
        let folder = mount.join(own.trim_start_matches('/'));
        // The root of the whole machine has no type.
        let container = own == "/" && folder.join("cgroup.type").exists();
        let given = container || is_delegated(&folder);
        if given {
            return Some(Self { folder });
        }
        // `DelegateSubgroup=`: the server already is in a group of its own below the one that was given.
        let parent = folder.parent().filter(|parent| is_delegated(parent))?;
        Some(Self { folder: parent.to_owned() })
    }

    /// Moves the server's processes aside and hands the controllers to the groups below.
    fn prepare(self) -> io::Result<Self> {
        let controllers = fs::read_to_string(self.folder.join("cgroup.controllers"))?;
        if !["memory", "pids"].iter().all(|name| controllers.split_whitespace().any(|has| has == *name)) {
            return Err(io::Error::other("no memory controller"));
        }
        let own = self.folder.join(OWN);
        fs::create_dir_all(&own)?;
        for process in fs::read_to_string(self.folder.join("cgroup.procs"))?.lines() {
            fs::write(own.join("cgroup.procs"), process)?;
        }
        fs::write(self.folder.join("cgroup.subtree_control"), "+memory +pids")?;
        Ok(self)
    }

    /// A group for the process `pid` of plugin `name` with at most `memory` bytes (0: no limit).
    pub fn group(&self, name: &str, pid: u32, memory: u64) -> io::Result<Group> {
        let folder = self.folder.join(format!("plugin-{name}-{pid}"));
        fs::create_dir(&folder)?;
        let group = Group { folder };
        if memory > 0 {
            group.set("memory.max", memory)?;
            // Without swap accounting there is no such file.
            let _ = group.set("memory.swap.max", 0);
            group.set("memory.oom.group", 1)?;
        }
        group.set("pids.max", MAX_PROCESSES)?;
        group.set("cgroup.procs", pid)?;
        Ok(group)
    }
}

/// The group of one process; gone, with what is still in it, when it is dropped.
#[derive(Debug)]
pub struct Group {
    folder: PathBuf,
}

impl Group {
    fn set(&self, file: &str, value: impl ToString) -> io::Result<()> {
        fs::write(self.folder.join(file), value.to_string())
    }

    /// Ends every process in it, also those that the plugin has started.
    pub fn kill(&self) {
        let _ = self.set("cgroup.kill", 1);
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
        // What was killed leaves a little later.
        for _ in 0..50 {
            match fs::remove_dir(&self.folder) {
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                    std::thread::sleep(std::time::Duration::from_millis(2));
                }
                _ => return,
            }
        }
    }
}

fn is_delegated(folder: &Path) -> bool {
    let mut value = [0; 8];
    let found = rustix::fs::getxattr(folder, DELEGATED, &mut value[..]);
    found.is_ok_and(|len| value.get(..len) == Some(b"1".as_slice()))
}

/// Where the v2 hierarchy is mounted, from `/proc/self/mountinfo`.
fn mount_point(mounts: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let point = left.split(' ').nth(4)?;
        right.starts_with("cgroup2 ").then(|| PathBuf::from(point))
    })
}

/// The group of this process in the v2 hierarchy, from `/proc/self/cgroup`.
fn own_group(groups: &str) -> Option<&str> {
    groups.lines().find_map(|line| line.strip_prefix("0::"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hierarchy_is_found() {
        let mounts = "25 30 0:23 / /sys rw,nosuid - sysfs sysfs rw\n\
            35 25 0:30 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";
        assert_eq!(mount_point(mounts), Some(PathBuf::from("/sys/fs/cgroup")));
        assert_eq!(mount_point("25 30 0:23 / /sys rw - sysfs sysfs rw\n"), None);
        assert_eq!(
            own_group("4:memory:/x\n0::/system.slice/patchbay.service\n"),
            Some("/system.slice/patchbay.service")
        );
        assert_eq!(own_group("4:memory:/x\n"), None);
    }

    #[test]
    fn limits_are_written_and_the_server_moves_aside() {
        let folder = tempfile::tempdir().unwrap();
        let read = |file: &str| fs::read_to_string(folder.path().join(file)).unwrap();
        fs::write(folder.path().join("cgroup.controllers"), "cpu memory pids\n").unwrap();
        fs::write(folder.path().join("cgroup.procs"), "41\n").unwrap();
        let base = Base { folder: folder.path().to_owned() }.prepare().unwrap();
        assert_eq!(
            (read("patchbay-server/cgroup.procs"), read("cgroup.subtree_control")),
            ("41".into(), "+memory +pids".into())
        );
        let group = base.group("acme", 42, 1 << 20).unwrap();
        assert_eq!(read("plugin-acme-42/memory.max"), "1048576");
        assert_eq!(
            (read("plugin-acme-42/pids.max"), read("plugin-acme-42/cgroup.procs")),
            ("512".into(), "42".into())
        );
        group.kill();
        assert_eq!(read("plugin-acme-42/cgroup.kill"), "1");
    }

    #[test]
    fn without_controllers_there_is_no_base() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("cgroup.controllers"), "cpu\n").unwrap();
        assert!(Base { folder: folder.path().to_owned() }.prepare().is_err());
        assert!(!folder.path().join(OWN).exists());
    }
}
