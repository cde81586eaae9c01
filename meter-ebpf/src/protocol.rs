//! Numbers of the socket interface (`linux/net.h`, `linux/in.h`, `linux/socket.h`) and the ports with rules of their own.

pub const SOCK_STREAM: u32 = 1;
pub const SOCK_DGRAM: u32 = 2;

pub const TCP: u32 = 6;
pub const UDP: u32 = 17;

pub const AF_INET: u32 = 2;

pub const SOL_SOCKET: i32 = 1;
pub const SO_BINDTODEVICE: i32 = 25;

/// QUIC: what goes there would be neither read nor priced, so agents fall back to TCP.
pub const HTTPS_PORT: u16 = 443;
pub const DNS_PORT: u16 = 53;
