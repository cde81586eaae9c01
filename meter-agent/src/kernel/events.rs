//! The `EVENTS` ring: every refusal, as it happens.
//!
//! Lossy: what does not fit between two reads is lost here and counted all the same.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd},
    time::Duration,
};

use aya::maps::{MapData, RingBuf};
use meter_common::{AccountRef, Event, Reason};
use tokio::io::unix::AsyncFd;

use super::{KernelError, address, load};

/// How long the ring gathers once it was read to its end: a storm of refusals wakes its reader no more than 50 times a
/// second, and the ring has room for 180,000 refusals a second between.
const GATHER: Duration = Duration::from_millis(20);

/// One refusal by the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    pub account: AccountRef,
    /// `CLOCK_BOOTTIME`.
    pub at_boot_ns: u64,
    /// Zero for a refused socket, which has no destination yet.
    pub destination: std::net::SocketAddr,
    pub reason: Reason,
    pub pid: u32,
    /// The kernel's name of the thread.
    pub comm: String,
}

/// Reads the ring. Two readers would each miss what the other takes.
pub struct EventReader {
    ring: RingBuf<MapData>,
}

impl EventReader {
    pub(super) fn open() -> Result<Self, KernelError> {
        let path = load::pin_path(meter_common::map::EVENTS);
        let failed = |source: io::Error| KernelError::Pin { path: path.clone(), action: "opened", source };
        let data = MapData::from_pin(&path).map_err(|error| failed(io::Error::other(error)))?;
        let map = aya::maps::Map::from_map_data(data).map_err(|error| failed(io::Error::other(error)))?;
        let ring = RingBuf::try_from(map).map_err(|error| failed(io::Error::other(error)))?;
        Ok(Self { ring })
    }

    /// The next refusal, if there is one now.
    pub fn try_next(&mut self) -> Option<Refused> {
        loop {
            let record = self.ring.next()?;
            // A record of another length or reason is no version of ours; there is nothing to tell of it.
            if let Some(refused) = decode(&record) {
                return Some(refused);
            }
        }
    }

    /// A reader that waits. Call within a tokio runtime.
    pub fn into_stream(self) -> Result<EventStream, KernelError> {
        // SAFETY: the ring's descriptor stays the same and open for as long as the reader lives.
        let reader = unsafe { AsyncFd::register(self) }
            .map_err(|error| KernelError::system("the ring of events can't be waited for")(error.into()))?;
        Ok(EventStream { reader, at_end: false })
    }
}

impl AsFd for EventReader {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the ring owns the descriptor and outlives the borrow.
        unsafe { BorrowedFd::borrow_raw(self.ring.as_raw_fd()) }
    }
}

impl AsRawFd for EventReader {
    fn as_raw_fd(&self) -> RawFd {
        self.ring.as_raw_fd()
    }
}

/// The ring as a stream of refusals.
pub struct EventStream {
    reader: AsyncFd<EventReader>,
    /// Nothing more was there when it was read last.
    at_end: bool,
}

impl EventStream {
    /// Waits for the next refusal. Cancelling it loses none.
    pub async fn next(&mut self) -> io::Result<Refused> {
        loop {
            if self.at_end {
                tokio::time::sleep(GATHER).await;
                self.at_end = false;
            }
            let mut ready = self.reader.readable_mut().await?;
            if let Some(refused) = ready.get_inner_mut().try_next() {
                return Ok(refused);
            }
            ready.clear_ready();
            self.at_end = true;
        }
    }
}

/// One record of the ring; `None` when it is not exactly one that this version writes.
fn decode(bytes: &[u8]) -> Option<Refused> {
    const { assert!(size_of::<Event>() == 64, "the offsets below are those of this layout") };
    if bytes.len() != size_of::<Event>() {
        return None;
    }
    let u32_at = |at: usize| Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let addr: [u8; 16] = bytes.get(16..32)?.try_into().ok()?;
    let port = u16::from_ne_bytes(bytes.get(32..34)?.try_into().ok()?);
    Some(Refused {
        account: AccountRef { slot: u32_at(0)?, generation: u32_at(4)? },
        at_boot_ns: u64::from_ne_bytes(bytes.get(8..16)?.try_into().ok()?),
        destination: (address(addr), port).into(),
        reason: Reason::from_u32(u32_at(36)?)?,
        pid: u32_at(40)?,
        comm: comm(bytes.get(48..64)?),
    })
}

/// The kernel's name of a thread: up to its first zero byte.
pub fn comm(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use std::mem::offset_of;

    use super::*;

    fn record() -> Vec<u8> {
        let mut bytes = vec![0_u8; size_of::<Event>()];
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        put(offset_of!(Event, account), &7_u32.to_ne_bytes());
        put(offset_of!(Event, account) + 4, &3_u32.to_ne_bytes());
        put(offset_of!(Event, at_boot_ns), &99_u64.to_ne_bytes());
        put(offset_of!(Event, dest_addr), &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 1]);
        put(offset_of!(Event, dest_port), &443_u16.to_ne_bytes());
        put(offset_of!(Event, reason), &(Reason::RefusedSpent as u32).to_ne_bytes());
        put(offset_of!(Event, pid), &4711_u32.to_ne_bytes());
        put(offset_of!(Event, comm), b"curl\0leftover");
        bytes
    }

    #[test]
    fn a_record_is_read_field_by_field() {
        let refused = decode(&record()).unwrap();
        assert_eq!(refused.account, AccountRef { slot: 7, generation: 3 });
        assert_eq!(refused.at_boot_ns, 99);
        assert_eq!(refused.destination, "192.0.2.1:443".parse().unwrap());
        assert_eq!(refused.reason, Reason::RefusedSpent);
        assert_eq!((refused.pid, refused.comm.as_str()), (4711, "curl"));
    }

    #[test]
    fn a_record_of_any_other_length_is_none() {
        let mut bytes = record();
        for end in 0..bytes.len() {
            assert_eq!(decode(&bytes[..end]), None, "{end}");
        }
        bytes.push(0);
        assert_eq!(decode(&bytes), None);
    }

    #[test]
    fn an_unknown_reason_is_none() {
        let mut bytes = record();
        bytes[offset_of!(Event, reason)] = u8::try_from(meter_common::REASONS).unwrap();
        assert_eq!(decode(&bytes), None);
    }
}
