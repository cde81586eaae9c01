//! Passes signals on to the command and waits for its end.
//!
//! The command shares this process' group, so what the terminal sends (Ctrl-C, a hang-up, a resize) it has got
//! already; only what somebody sent to this process alone is passed on.

use std::{
    io,
    mem::MaybeUninit,
    os::unix::process::CommandExt,
    process::{Child, Command, ExitStatus},
    ptr,
};

use rustix::process::{Pid, kill_process};

const PASSED_ON: [rustix::process::Signal; 8] = [
    rustix::process::Signal::INT,
    rustix::process::Signal::TERM,
    rustix::process::Signal::HUP,
    rustix::process::Signal::QUIT,
    rustix::process::Signal::USR1,
    rustix::process::Signal::USR2,
    rustix::process::Signal::WINCH,
    rustix::process::Signal::CONT,
];

/// The signals that are blocked here and taken one by one.
pub(super) struct Signals {
    set: libc::sigset_t,
    before: libc::sigset_t,
}

impl Signals {
    /// Blocks them in this thread, the process' only one.
    pub(super) fn block() -> io::Result<Self> {
        let mut set = MaybeUninit::<libc::sigset_t>::uninit();
        let mut before = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: sigemptyset makes all of each set; the calls after it change sets that have been made.
        let (code, set, before) = unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            libc::sigemptyset(before.as_mut_ptr());
            for signal in PASSED_ON {
                libc::sigaddset(set.as_mut_ptr(), signal.as_raw());
            }
            libc::sigaddset(set.as_mut_ptr(), libc::SIGCHLD);
            let code = libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), before.as_mut_ptr());
            (code, set.assume_init(), before.assume_init())
        };
        if code == 0 { Ok(Self { set, before }) } else { Err(io::Error::from_raw_os_error(code)) }
    }

    /// Gives the command the signal mask that meter itself was started with: a block would be inherited.
    pub(super) fn unblock_in(&self, command: &mut Command) {
        let before = self.before;
        // SAFETY: between fork and exec, where sigprocmask is allowed (signal-safety(7)); nothing is allocated.
        unsafe {
            command.pre_exec(move || match libc::sigprocmask(libc::SIG_SETMASK, &raw const before, ptr::null_mut()) {
                0 => Ok(()),
                _ => Err(io::Error::last_os_error()),
            });
        }
    }

    /// Waits for the child's end, passing on what comes meanwhile.
    pub(super) fn wait(self, mut child: Child) -> io::Result<ExitStatus> {
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(status);
            }
            let Some(info) = self.next() else { continue };
            let passed = PASSED_ON.iter().find(|signal| signal.as_raw() == info.si_signo);
            // Positive codes are the kernel's own, for instance the terminal's.
            if let Some(signal) = passed
                && info.si_code <= 0
                && let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw)
            {
                // The child is not waited for yet, so that the id is still its own; it may have ended.
                let _ = kill_process(pid, *signal);
            }
        }
    }

    /// The next one; `None` when the wait was interrupted, for instance by a stop and its continuation.
    fn next(&self) -> Option<libc::siginfo_t> {
        let mut info = MaybeUninit::<libc::siginfo_t>::uninit();
        // SAFETY: both pointers are to memory that outlives the call.
        let signal = unsafe { libc::sigwaitinfo(&raw const self.set, info.as_mut_ptr()) };
        // SAFETY: a positive result means that `info` was filled in.
        (signal > 0).then(|| unsafe { info.assume_init() })
    }
}
