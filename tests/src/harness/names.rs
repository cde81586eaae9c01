//! Where names lead: a private mount namespace with a hosts file, or a name server, of the test's own.
//!
//! Commands that enter it resolve as any program does; the host's own files stay as they are.

use std::{
    fmt::Write,
    fs,
    net::IpAddr,
    os::{
        fd::{AsFd, OwnedFd},
        unix::process::CommandExt,
    },
    path::Path,
    process::Command,
    thread,
};

use rustix::{
    fs::{Mode, OFlags, open},
    mount::{MountPropagationFlags, mount_bind, mount_change},
    process::chdir,
    thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe},
};
use tempfile::TempDir;

/// The namespace; it ends with this value and the last command in it.
pub struct Names {
    namespace: OwnedFd,
    _folder: TempDir,
}

impl Names {
    /// Names from a hosts file.
    pub fn hosts(entries: &[(&str, IpAddr)]) -> Self {
        let mut hosts = "127.0.0.1 localhost\n::1 localhost\n".to_owned();
        for (name, address) in entries {
            let _ = writeln!(hosts, "{address} {name}");
        }
        Self::new(&hosts, None)
    }

    /// Names from a name server; the hosts file knows only `localhost`.
    pub fn resolver(server: IpAddr) -> Self {
        Self::new("127.0.0.1 localhost\n::1 localhost\n", Some(server))
    }

    fn new(hosts: &str, server: Option<IpAddr>) -> Self {
        let folder = TempDir::new().expect("a folder for the names");
        let mut over = Vec::new();
        let mut file = |name: &str, text: &str, target: &'static str| {
            let path = folder.path().join(name);
            fs::write(&path, text).expect("a file of names");
            over.push((path, target));
        };
        file("hosts", hosts, "/etc/hosts");
        if let Some(server) = server {
            file("resolv.conf", &format!("nameserver {server}\noptions timeout:2 attempts:2\n"), "/etc/resolv.conf");
        }
        let order = "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n";
        file("nsswitch.conf", order, "/etc/nsswitch.conf");
        // A thread may leave its mount namespace by itself; the namespace lives on in its descriptor.
        let namespace = thread::spawn(move || -> std::io::Result<OwnedFd> {
            // SAFETY: no descriptor table is unshared, and the thread ends below, so nothing else runs in here.
            unsafe { unshare_unsafe(UnshareFlags::NEWNS)? };
            mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)?;
            for (source, target) in over {
                // What is a link on this system is covered where it leads.
                let target = fs::canonicalize(target).unwrap_or_else(|_| Path::new(target).to_owned());
                mount_bind(source, target)?;
            }
            Ok(open("/proc/thread-self/ns/mnt", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
        });
        let namespace = namespace.join().expect("the thread does not panic").expect("root can make a mount namespace");
        Self { namespace, _folder: folder }
    }

    /// Makes `command` run in the namespace, in the current folder.
    pub fn enter(&self, command: &mut Command) {
        let namespace = self.namespace.try_clone().expect("a descriptor can be copied");
        let folder = std::env::current_dir().expect("a current folder");
        let folder = std::ffi::CString::new(folder.as_os_str().as_encoded_bytes()).expect("a path has no NUL");
        // SAFETY: between fork and exec only two system calls are made, on values that outlive the spawn.
        unsafe {
            command.pre_exec(move || {
                move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Mount))?;
                // Entering moved to the namespace's root.
                Ok(chdir(folder.as_c_str())?)
            });
        }
    }
}
