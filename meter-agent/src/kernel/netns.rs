//! Network namespaces by their cookie, the number that the kernel programs know them by. Never reused within a boot.

use std::{
    io,
    mem::size_of,
    net::UdpSocket,
    os::fd::{AsRawFd, BorrowedFd},
};

use super::KernelError;

/// The cookie of the calling thread's namespace.
pub fn current_cookie() -> Result<u64, KernelError> {
    // A socket keeps the namespace that it was made in.
    let socket = UdpSocket::bind("127.0.0.1:0")
        .or_else(|_| UdpSocket::bind("[::1]:0"))
        .map_err(KernelError::system("no socket could be opened in this network namespace; bring its `lo` up"))?;
    cookie_of(std::os::fd::AsFd::as_fd(&socket)).map_err(KernelError::system("this kernel knows no SO_NETNS_COOKIE"))
}

/// The cookie of the namespace that a socket was made in.
pub fn cookie_of(socket: BorrowedFd<'_>) -> io::Result<u64> {
    let mut cookie = 0_u64;
    let mut len = libc::socklen_t::try_from(size_of::<u64>()).expect("8 fits");
    // SAFETY: the kernel writes at most `len` bytes to `cookie`.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut len,
        )
    };
    if result == 0 { Ok(cookie) } else { Err(io::Error::last_os_error()) }
}
