//! Users and groups of the system, as its own name service knows them (not only `/etc/passwd`).
//!
//! Also who is behind `sudo`. Looks up and changes nothing.

use std::{
    ffi::{CStr, CString, OsStr, OsString},
    mem::MaybeUninit,
    os::unix::ffi::OsStrExt,
    path::PathBuf,
    ptr,
};

/// The group whose members may use the control socket.
pub const METER_GROUP: &str = "meter";
/// Room for one entry with its texts; a group of some thousand members fits.
const ENTRY_BYTES: usize = 256 << 10;
/// The kernel's own bound on a process' groups (`NGROUPS_MAX`).
const GROUPS_MAX: usize = 65_536;

/// One user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
    pub name: OsString,
    pub home: PathBuf,
    pub shell: PathBuf,
}

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The user that called `sudo`: root's own `sudo` counts as none.
pub fn sudo_user() -> Option<u32> {
    if !is_root() {
        return None;
    }
    let uid: u32 = std::env::var("SUDO_UID").ok()?.parse().ok()?;
    (uid != 0).then_some(uid)
}

/// The id of a group.
pub fn group_id(name: &str) -> Option<u32> {
    let name = CString::new(name).ok()?;
    let mut entry = MaybeUninit::<libc::group>::uninit();
    let mut texts = vec![0; ENTRY_BYTES];
    let mut found = ptr::null_mut();
    // SAFETY: every pointer is to memory that outlives the call, and `texts` is as long as is said.
    let code =
        unsafe { libc::getgrnam_r(name.as_ptr(), entry.as_mut_ptr(), texts.as_mut_ptr(), texts.len(), &raw mut found) };
    if code != 0 || found.is_null() {
        return None;
    }
    // SAFETY: a non-null result means that the entry was filled in.
    Some(unsafe { entry.assume_init() }.gr_gid)
}

/// The user with an id.
pub fn user(uid: u32) -> Option<User> {
    let mut entry = MaybeUninit::<libc::passwd>::uninit();
    let mut texts = vec![0; ENTRY_BYTES];
    let mut found = ptr::null_mut();
    // SAFETY: every pointer is to memory that outlives the call, and `texts` is as long as is said.
    let code = unsafe { libc::getpwuid_r(uid, entry.as_mut_ptr(), texts.as_mut_ptr(), texts.len(), &raw mut found) };
    if code != 0 || found.is_null() {
        return None;
    }
    // SAFETY: a non-null result means that the entry was filled in, its texts within `texts`, which is alive.
    let entry = unsafe { entry.assume_init() };
    let text = |start: *const libc::c_char| {
        if start.is_null() {
            return OsString::new();
        }
        // SAFETY: the name service ends its texts with a zero byte.
        OsStr::from_bytes(unsafe { CStr::from_ptr(start) }.to_bytes()).to_owned()
    };
    Some(User {
        uid: entry.pw_uid,
        gid: entry.pw_gid,
        name: text(entry.pw_name),
        home: PathBuf::from(text(entry.pw_dir)),
        shell: PathBuf::from(text(entry.pw_shell)),
    })
}

/// Every group of a user, its own first.
pub fn groups(user: &User) -> Vec<u32> {
    let Ok(name) = CString::new(user.name.as_bytes()) else { return vec![user.gid] };
    let mut ids = vec![0; GROUPS_MAX];
    let mut count = libc::c_int::try_from(ids.len()).unwrap_or(libc::c_int::MAX);
    // SAFETY: `name` ends with a zero byte, and `ids` has room for `count` entries.
    let code = unsafe { libc::getgrouplist(name.as_ptr(), user.gid, ids.as_mut_ptr(), &raw mut count) };
    if code < 0 {
        return vec![user.gid];
    }
    ids.truncate(usize::try_from(count).unwrap_or(0));
    ids
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_found_with_its_home_and_groups() {
        let root = user(0).unwrap();
        assert_eq!((root.gid, root.name.to_str()), (0, Some("root")));
        assert!(root.home.is_absolute());
        assert!(groups(&root).contains(&0));
    }

    #[test]
    fn who_is_not_there_is_none() {
        assert_eq!(user(4_000_000_123), None);
        assert_eq!(group_id("no-such-group-here"), None);
        assert_eq!(group_id("root"), Some(0));
    }
}
