//! The socket address hooks' context, read and written one field at a time.
//!
//! Nothing is decided here.

use core::{mem::offset_of, ptr};

use aya_ebpf::{
    bindings::{bpf_sock, bpf_sock_addr},
    cty::c_void,
    helpers::generated::bpf_get_netns_cookie,
    programs::SockAddrContext,
};

use crate::{
    address::Address,
    field::{load, store},
    refusal::Destination,
};

/// A call on a socket with an address: connect, sendmsg, bind or getpeername.
#[derive(Clone, Copy)]
pub struct Call {
    raw: *mut bpf_sock_addr,
}

impl Call {
    #[inline(always)]
    pub fn new(ctx: &SockAddrContext) -> Self {
        Self { raw: ctx.sock_addr }
    }

    #[inline(always)]
    pub fn socket(self) -> *mut c_void {
        // SAFETY: the context is live for the whole program.
        unsafe { ptr::read_volatile(&raw const (*self.raw).__bindgen_anon_1.sk) }.cast()
    }

    /// IPPROTO_*.
    #[inline(always)]
    pub fn protocol(self) -> u32 {
        // SAFETY: as above.
        unsafe { load::<{ offset_of!(bpf_sock_addr, protocol) }, _>(self.raw) }
    }

    /// Interface that the socket is bound to; 0 for none.
    #[inline(always)]
    pub fn device(self) -> u32 {
        let socket: *const bpf_sock = self.socket().cast();
        // SAFETY: a socket address hook's socket is never null.
        unsafe { load::<{ offset_of!(bpf_sock, bound_dev_if) }, _>(socket) }
    }

    #[inline(always)]
    pub fn netns_cookie(self) -> u64 {
        // SAFETY: the helper takes the context.
        unsafe { bpf_get_netns_cookie(self.raw.cast()) }
    }

    #[inline(always)]
    pub fn as_ptr(self) -> *mut c_void {
        self.raw.cast()
    }

    #[inline(always)]
    pub fn port(self) -> u16 {
        // SAFETY: as above. The port sits in the low half, in network order.
        u16::from_be(unsafe { load::<{ offset_of!(bpf_sock_addr, user_port) }, _>(self.raw) } as u16)
    }

    #[inline(always)]
    pub fn v4(self) -> Destination {
        // SAFETY: as above.
        let word = unsafe { load::<{ offset_of!(bpf_sock_addr, user_ip4) }, _>(self.raw) };
        Destination { address: Address::v4(word), port: self.port() }
    }

    #[inline(always)]
    pub fn v6(self) -> Destination {
        // SAFETY: as above.
        let words = unsafe {
            [
                load::<{ offset_of!(bpf_sock_addr, user_ip6) + 0 }, _>(self.raw),
                load::<{ offset_of!(bpf_sock_addr, user_ip6) + 4 }, _>(self.raw),
                load::<{ offset_of!(bpf_sock_addr, user_ip6) + 8 }, _>(self.raw),
                load::<{ offset_of!(bpf_sock_addr, user_ip6) + 12 }, _>(self.raw),
            ]
        };
        Destination { address: Address(words), port: self.port() }
    }

    #[inline(always)]
    pub fn set_v4(self, to: Destination) {
        // SAFETY: as above.
        unsafe { store::<{ offset_of!(bpf_sock_addr, user_ip4) }, _>(self.raw, to.address.0[3]) };
        self.set_port(to.port);
    }

    #[inline(always)]
    pub fn set_v6(self, to: Destination) {
        // SAFETY: as above.
        unsafe {
            store::<{ offset_of!(bpf_sock_addr, user_ip6) + 0 }, _>(self.raw, to.address.0[0]);
            store::<{ offset_of!(bpf_sock_addr, user_ip6) + 4 }, _>(self.raw, to.address.0[1]);
            store::<{ offset_of!(bpf_sock_addr, user_ip6) + 8 }, _>(self.raw, to.address.0[2]);
            store::<{ offset_of!(bpf_sock_addr, user_ip6) + 12 }, _>(self.raw, to.address.0[3]);
        }
        self.set_port(to.port);
    }

    #[inline(always)]
    fn set_port(self, port: u16) {
        // SAFETY: as above.
        unsafe { store::<{ offset_of!(bpf_sock_addr, user_port) }, _>(self.raw, u32::from(port.to_be())) };
    }
}
