//! An IP address as the programs compare it: four words in network order, IPv4 as v4-mapped.

/// The third word of `::ffff:a.b.c.d`.
const MAPPED: u32 = u32::from_ne_bytes([0, 0, 0xff, 0xff]);
const LOOPBACK_V4: u32 = u32::from_ne_bytes([127, 0, 0, 1]);
const LOOPBACK_V6: u32 = u32::from_ne_bytes([0, 0, 0, 1]);

#[derive(Clone, Copy)]
pub struct Address(pub [u32; 4]);

impl Address {
    pub const LOOPBACK_V4: Self = Self([0, 0, MAPPED, LOOPBACK_V4]);
    pub const LOOPBACK_V6: Self = Self([0, 0, 0, LOOPBACK_V6]);

    #[inline(always)]
    pub fn v4(word: u32) -> Self {
        Self([0, 0, MAPPED, word])
    }

    #[inline(always)]
    pub fn is_v4(self) -> bool {
        self.0[0] == 0 && self.0[1] == 0 && self.0[2] == MAPPED
    }

    /// 127.0.0.0/8 and ::1.
    #[inline(always)]
    pub fn is_loopback(self) -> bool {
        if self.is_v4() {
            self.0[3].to_ne_bytes()[0] == 127
        } else {
            self.0[0] == 0 && self.0[1] == 0 && self.0[2] == 0 && self.0[3] == LOOPBACK_V6
        }
    }

    /// The address that a connect to this one reaches: the kernel takes the unspecified address for loopback.
    #[inline(always)]
    pub fn reached(self) -> Self {
        if self.is_v4() && self.0[3] == 0 {
            Self::LOOPBACK_V4
        } else if self.0[0] == 0 && self.0[1] == 0 && self.0[2] == 0 && self.0[3] == 0 {
            Self::LOOPBACK_V6
        } else {
            self
        }
    }

    #[inline(always)]
    pub fn bytes(self) -> [u8; 16] {
        // SAFETY: both are sixteen plain bytes.
        unsafe { core::mem::transmute(self.0) }
    }

    #[inline(always)]
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        // SAFETY: both are sixteen plain bytes.
        Self(unsafe { core::mem::transmute(bytes) })
    }
}
