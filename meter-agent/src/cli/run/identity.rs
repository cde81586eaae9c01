//! Under `sudo meter run`, the command runs as the user who called sudo.
//!
//! This process stays root, which the control socket may need; the child gives its rights up between fork and
//! exec. Which variables sudo removed is told by name: their values are never looked at further.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs, io,
    os::unix::{ffi::OsStringExt, process::CommandExt},
    process::Command,
};

use anyhow::Context;

use super::say;
use crate::users::{self, User};

/// Processes between sudo and this one: sudo itself, its monitor on a pseudo-terminal, a shell or two.
const ANCESTORS_MAX: usize = 8;
/// Ends of names that agents and their SDKs look for.
const TELLING_ENDS: [&str; 8] =
    ["_API_KEY", "_TOKEN", "_BASE_URL", "_API_BASE", "_ENDPOINT", "_PROXY", "_proxy", "_CREDENTIALS"];
const TELLING_NAMES: [&str; 9] = [
    "VIRTUAL_ENV",
    "CONDA_PREFIX",
    "PYTHONPATH",
    "NODE_PATH",
    "NODE_OPTIONS",
    "AWS_PROFILE",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "SSL_CERT_FILE",
];

/// The user behind sudo.
#[derive(Debug)]
pub(super) struct Identity {
    user: User,
    groups: Vec<libc::gid_t>,
}

impl Identity {
    /// `None` when this is not root, or root by itself.
    pub(super) fn behind_sudo() -> anyhow::Result<Option<Self>> {
        let Some(uid) = users::sudo_user() else { return Ok(None) };
        let user =
            users::user(uid).with_context(|| format!("there is no user {uid}, who SUDO_UID says called sudo"))?;
        let groups = users::groups(&user);
        Ok(Some(Self { user, groups }))
    }

    /// Makes the command run as the user: ids, groups, and the variables that name them.
    pub(super) fn apply(&self, command: &mut Command) {
        command.env("HOME", &self.user.home).env("SHELL", &self.user.shell);
        command.env("USER", &self.user.name).env("LOGNAME", &self.user.name);
        let (uid, gid, groups) = (self.user.uid, self.user.gid, self.groups.clone());
        let become_user = move || become_user(uid, gid, &groups);
        // SAFETY: the closure makes three system calls and allocates nothing, which is allowed between fork and exec.
        unsafe { command.pre_exec(become_user) };
    }

    /// One line, if there is anything to tell.
    pub(super) fn tell_what_sudo_removed(&self) {
        let Some(before) = sudo_environment() else { return };
        let now: BTreeMap<OsString, OsString> = std::env::vars_os().collect();
        let removed = removed(&before, &now);
        if !removed.is_empty() {
            let user = self.user.name.display();
            say(&format!(
                "sudo removed or changed {}; use `meter run` without sudo as {user} to keep your environment",
                removed.join(", ")
            ));
        }
    }
}

fn become_user(uid: u32, gid: u32, groups: &[libc::gid_t]) -> io::Result<()> {
    let done = |code: libc::c_int| if code == 0 { Ok(()) } else { Err(io::Error::last_os_error()) };
    // SAFETY: the pointer is to as many ids as is said. Groups first: without root they can't be changed any more.
    done(unsafe { libc::setgroups(groups.len(), groups.as_ptr()) })?;
    // SAFETY: no pointers.
    done(unsafe { libc::setgid(gid) })?;
    // SAFETY: no pointers.
    done(unsafe { libc::setuid(uid) })
}

/// Names that matter to an agent and that sudo dropped or replaced, in order.
fn removed(before: &BTreeMap<OsString, OsString>, now: &BTreeMap<OsString, OsString>) -> Vec<String> {
    let missing = before.keys().filter(|name| !now.contains_key(*name)).filter_map(|name| name.to_str());
    let mut names: Vec<String> = missing.filter(|name| is_telling(name)).map(str::to_owned).collect();
    let path = OsString::from("PATH");
    if before.contains_key(&path) && before.get(&path) != now.get(&path) {
        names.push("PATH".to_owned());
    }
    names
}

fn is_telling(name: &str) -> bool {
    TELLING_NAMES.contains(&name) || TELLING_ENDS.iter().any(|end| name.ends_with(end))
}

/// What the user had exported when calling sudo: the environment that the topmost sudo above this process was
/// started with.
fn sudo_environment() -> Option<BTreeMap<OsString, OsString>> {
    let mut pid = std::process::id();
    let mut sudo = None;
    for _ in 0..ANCESTORS_MAX {
        pid = parent(pid)?;
        if fs::read_to_string(format!("/proc/{pid}/comm")).ok()?.trim_end() == "sudo" {
            sudo = Some(pid);
        } else if sudo.is_some() {
            break;
        }
    }
    let bytes = fs::read(format!("/proc/{}/environ", sudo?)).ok()?;
    Some(bytes.split(|b| *b == 0).filter_map(variable).collect())
}

fn variable(entry: &[u8]) -> Option<(OsString, OsString)> {
    let at = entry.iter().position(|b| *b == b'=')?;
    Some((OsString::from_vec(entry[..at].to_vec()), OsString::from_vec(entry[at + 1..].to_vec())))
}

/// Field 4 of `/proc/PID/stat`, counted after the name, which can hold anything.
fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(1)?.parse().ok().filter(|pid| *pid > 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(entries: &[&str]) -> BTreeMap<OsString, OsString> {
        entries.iter().filter_map(|entry| variable(entry.as_bytes())).collect()
    }

    #[test]
    fn what_matters_to_an_agent_is_named_and_no_value_is() {
        let before =
            environment(&["OPENAI_API_KEY=sk-1", "HTTPS_PROXY=http://p", "LS_COLORS=x", "PATH=/a:/b", "TERM=t"]);
        let now = environment(&["PATH=/usr/bin", "TERM=t"]);
        assert_eq!(removed(&before, &now), ["HTTPS_PROXY", "OPENAI_API_KEY", "PATH"]);
        assert!(removed(&before, &before).is_empty());
    }

    #[test]
    fn this_process_has_a_parent() {
        assert!(parent(std::process::id()).is_some());
    }
}
