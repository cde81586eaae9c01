//! Services that are not HTTP: one that speaks first, and the echo behind TLS.

use std::sync::Arc;

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
};

use super::{BANNER, log::Log};

/// Greets every connection as a mail server does, before the client has said anything; then reads all that it is
/// sent, so that a client that only sends loses nothing of it.
pub async fn speak_first(listener: TcpListener, log: Arc<Log>) {
    loop {
        let Ok((mut stream, peer)) = listener.accept().await else { continue };
        if let Ok(local) = stream.local_addr() {
            log.connection(local, peer);
        }
        tokio::spawn(async move {
            if stream.write_all(BANNER.as_bytes()).await.is_ok() {
                let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
            }
        });
    }
}

/// Sends back what arrives, at once, until the other side is done.
pub async fn echo<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(count @ 1..) = stream.read(&mut buffer).await {
        if stream.write_all(&buffer[..count]).await.is_err() || stream.flush().await.is_err() {
            return;
        }
    }
    let _ = stream.shutdown().await;
}
