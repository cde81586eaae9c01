//! The agent's socket as the sidecar holds it: bytes already read come first, and an end by the meter is a reset.

use std::{
    io,
    os::fd::AsRawFd,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Buf, BytesMut};
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use super::connections::Connection;

/// A peer that says nothing for so long is asked whether it is there,
const SILENT: Duration = Duration::from_secs(30);
/// again after so long,
const ASK_AGAIN: Duration = Duration::from_secs(10);
/// and is taken for gone after so many questions: a minute and a half, which outlasts a link that comes back.
const QUESTIONS: u32 = 6;

/// How a connection ends whose other side has vanished without a word: a provider whose machine or whose way there is
/// gone, an agent whose packets drop.
pub(super) fn keepalive() -> TcpKeepalive {
    TcpKeepalive::new().with_time(SILENT).with_interval(ASK_AGAIN).with_retries(QUESTIONS)
}

/// A TCP connection from an agent. Dropped after [`Connection::reset`], it sends a RST instead of a FIN, so that
/// nothing on the agent's side waits for it.
pub(crate) struct AgentStream {
    tcp: TcpStream,
    read: BytesMut,
    connection: Arc<Connection>,
}

impl AgentStream {
    pub(crate) fn new(tcp: TcpStream, connection: Arc<Connection>) -> Self {
        Self { tcp, read: BytesMut::new(), connection }
    }

    /// What was read ahead and not yet taken.
    pub(crate) fn peeked(&self) -> &[u8] {
        &self.read
    }

    /// Reads more ahead; `Ok(0)` at the end. Cancel-safe.
    pub(crate) async fn peek_more(&mut self) -> io::Result<usize> {
        self.tcp.read_buf(&mut self.read).await
    }

    /// A second handle on the socket, for after the stream is gone.
    pub(crate) fn socket(&self) -> io::Result<socket2::Socket> {
        SockRef::from(&self.tcp).try_clone()
    }

    pub(crate) fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }
}

/// Bytes written that the peer's kernel has not acknowledged and still may (`SIOCOUTQ`, tcp(7)).
pub(crate) fn unsent_bytes(socket: &socket2::Socket) -> usize {
    // Of a connection that the peer has reset, the kernel goes on counting what it has thrown away.
    if socket.take_error().is_ok_and(|error| error.is_some()) || socket.peer_addr().is_err() {
        return 0;
    }
    let mut unsent: libc::c_int = 0;
    // SAFETY: the descriptor is open, and the kernel writes one int.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut unsent) };
    if result == 0 { usize::try_from(unsent).unwrap_or(0) } else { 0 }
}

impl Drop for AgentStream {
    fn drop(&mut self) {
        if self.connection.is_reset() {
            let _ = SockRef::from(&self.tcp).set_linger(Some(Duration::ZERO));
        }
    }
}

impl AsyncRead for AgentStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.read.is_empty() {
            return Pin::new(&mut self.tcp).poll_read(cx, buf);
        }
        let n = self.read.len().min(buf.remaining());
        buf.put_slice(&self.read[..n]);
        self.read.advance(n);
        if self.read.is_empty() {
            self.read = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for AgentStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}
