//! The cgroup tree below the mount: where accounts' and the daemon's processes sit.
//!
//! `<root>/meter/daemon` is the sidecar's own, `<root>/meter/agents/<agent>/<task>/...` the accounts'. A process that
//! makes cgroups of its own below its account's stays in the account: the deepest one wins.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    str::FromStr,
};

use super::{KernelError, mounts};
use crate::ids::AccountPath;

const METER: &str = "meter";
const DAEMON: &str = "meter/daemon";
const AGENTS: &str = "meter/agents";

/// The tree that accounts' cgroups are made in.
#[derive(Clone, Debug)]
pub struct CgroupTree {
    mount: PathBuf,
}

impl CgroupTree {
    /// Finds the cgroup v2 mount; makes nothing.
    pub fn find() -> Result<Self, KernelError> {
        Ok(Self { mount: mount()? })
    }

    /// The folder of an account's cgroup, there or not. The host has none of its own.
    pub fn path(&self, account: &AccountPath) -> PathBuf {
        let agents = self.mount.join(AGENTS);
        if account.is_host() { agents } else { agents.join(account.as_str()) }
    }

    pub fn daemon_path(&self) -> PathBuf {
        self.mount.join(DAEMON)
    }

    /// Makes an account's cgroup and those above it, and returns its id. It may be there already.
    pub fn create(&self, account: &AccountPath) -> Result<u64, KernelError> {
        let path = self.path(account);
        fs::create_dir_all(&path).map_err(failed(&path, "made"))?;
        id(&path)
    }

    /// Puts the calling process into the daemon's cgroup.
    pub fn enter_daemon(&self) -> Result<(), KernelError> {
        let path = self.daemon_path();
        fs::create_dir_all(&path).map_err(failed(&path, "made"))?;
        move_into(&path, std::process::id())
    }

    /// The id of an account's cgroup; `None` when there is no such cgroup.
    pub fn id(&self, account: &AccountPath) -> Option<u64> {
        fs::metadata(self.path(account)).ok().map(|meta| meta.ino())
    }

    pub fn move_pid(&self, account: &AccountPath, pid: u32) -> Result<(), KernelError> {
        move_into(&self.path(account), pid)
    }

    /// Whether the account's cgroup or any below it has a living process. One that is gone has none.
    pub fn is_populated(&self, account: &AccountPath) -> bool {
        is_populated(&self.path(account))
    }

    /// Processes in the account's cgroup and in all below it.
    pub fn pids(&self, account: &AccountPath) -> Vec<u32> {
        let mut pids = Vec::new();
        let mut folders = vec![self.path(account)];
        while let Some(folder) = folders.pop() {
            let list = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
            pids.extend(list.lines().filter_map(|line| line.parse::<u32>().ok()));
            folders.extend(children(&folder));
        }
        pids
    }

    /// Ids of the account's cgroup and of all below it, accounts or not: what a socket may have been made in.
    pub fn ids_within(&self, account: &AccountPath) -> Vec<u64> {
        let mut ids = Vec::new();
        let mut folders = vec![self.path(account)];
        while let Some(folder) = folders.pop() {
            ids.extend(fs::metadata(&folder).map(|meta| meta.ino()));
            folders.extend(children(&folder));
        }
        ids
    }

    /// Removes the account's cgroup and what is below it, deepest first. `false` when some of it still has processes
    /// and stays.
    pub fn remove(&self, account: &AccountPath) -> bool {
        remove_empty(&self.path(account))
    }

    /// Removes the daemon's own cgroup, and what is above it where nothing else is: an account's may be empty and open.
    pub fn remove_daemon(&self) {
        for folder in [DAEMON, AGENTS, METER] {
            // Busy with somebody's process or cgroup, it stays.
            let _ = fs::remove_dir(self.mount.join(folder));
        }
    }

    /// Removes every cgroup of meter that is empty; `false` when there was none.
    pub fn remove_all(&self) -> bool {
        let before = self.count();
        remove_empty(&self.mount.join(METER));
        self.count() < before
    }

    /// The cgroups of meter, whatever they are for.
    fn count(&self) -> usize {
        let mut folders = vec![self.mount.join(METER)];
        let mut found = 0;
        while let Some(folder) = folders.pop() {
            found += usize::from(folder.exists());
            folders.extend(children(&folder));
        }
        found
    }

    /// The account cgroups that exist, parents before their children.
    pub fn accounts(&self) -> Vec<AccountPath> {
        let agents = self.mount.join(AGENTS);
        let mut found = Vec::new();
        let mut folders = children(&agents);
        while let Some(folder) = folders.pop() {
            if let Some(account) = account_of_folder(&folder, &agents) {
                found.push(account);
                folders.extend(children(&folder));
            }
        }
        found.sort();
        found
    }

    /// The account that a process's cgroup lies in by its folder: the deepest of the path that is a name.
    ///
    /// Whether such an account is bound is the caller's to know, who looks it up and then above it.
    pub fn account_of(&self, pid: u32) -> Option<AccountPath> {
        let table = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
        account_in(&table)
    }
}

/// Where cgroup v2 is mounted: hybrid hosts do not have it at /sys/fs/cgroup.
pub(super) fn mount() -> Result<PathBuf, KernelError> {
    mounts::read()
        .map_err(KernelError::system("the mount table could not be read"))?
        .into_iter()
        .find(|mount| mount.kind == "cgroup2")
        .map(|mount| mount.point)
        .ok_or(KernelError::NoCgroup2)
}

/// A cgroup's id, which is its folder's inode number.
pub fn id(path: &Path) -> Result<u64, KernelError> {
    Ok(fs::metadata(path).map_err(failed(path, "found"))?.ino())
}

pub fn move_into(path: &Path, pid: u32) -> Result<(), KernelError> {
    fs::write(path.join("cgroup.procs"), pid.to_string()).map_err(failed(path, "entered"))
}

fn is_populated(path: &Path) -> bool {
    fs::read_to_string(path.join("cgroup.events")).is_ok_and(|events| events.lines().any(|line| line == "populated 1"))
}

/// Removes a folder and all below it, as far as empty. A cgroup's own files can't and need not be removed.
pub(super) fn remove_empty(path: &Path) -> bool {
    // A parent is not removable while a child is there, so every child is tried first.
    let mut emptied = true;
    for child in children(path) {
        emptied &= remove_empty(&child);
    }
    match fs::remove_dir(path) {
        Ok(()) => emptied,
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

fn children(path: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(path) else { return Vec::new() };
    entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|e| e.path()).collect()
}

fn account_of_folder(folder: &Path, agents: &Path) -> Option<AccountPath> {
    AccountPath::from_str(folder.strip_prefix(agents).ok()?.to_str()?).ok()
}

/// From the text of /proc/PID/cgroup: the v2 line is `0::/path`, and ends in ` (deleted)` when the cgroup is gone.
fn account_in(table: &str) -> Option<AccountPath> {
    let path = table.lines().find_map(|line| line.strip_prefix("0::/"))?;
    // Below a container's cgroup namespace or another mount root, `meter/agents` may lie deeper.
    let below = path.split_once("meter/agents/").map(|(_, below)| below)?;
    let mut account = AccountPath::host();
    for name in below.split('/') {
        match account.child(name) {
            Ok(deeper) => account = deeper,
            Err(_) => break,
        }
    }
    (!account.is_host()).then_some(account)
}

fn failed(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> KernelError {
    move |source| KernelError::Cgroup { path: path.to_owned(), action, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_belongs_to_the_account_its_folder_names() {
        let of = |line: &str| account_in(&format!("12:cpu:/x\n{line}\n")).map(|account| account.to_string());
        assert_eq!(of("0::/meter/agents/research/t1"), Some("research/t1".into()));
        assert_eq!(of("0::/meter/agents/research"), Some("research".into()));
        assert_eq!(of("0::/meter/agents/research/t1/inner.scope"), Some("research/t1".into()));
        assert_eq!(of("0::/meter/agents/research/t1 (deleted)"), Some("research".into()));
        assert_eq!(of("0::/meter/daemon"), None);
        assert_eq!(of("0::/"), None);
        assert_eq!(account_in("12:cpu:/meter/agents/research\n"), None);
    }
}
