//! Pages of the file as the write-ahead log leaves them: the log's committed frames over the file.

use std::{
    collections::{HashMap, HashSet},
    ffi::OsString,
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::Path,
};

use super::record::Cell;

const MAGIC: &[u8] = b"SQLite format 3\0";
/// SQLite's own choice, which the ledger never changed: for a file whose header can't be read.
const PAGE_BYTES: usize = 4_096;
const LOG_HEADER: usize = 32;
const FRAME_HEADER: usize = 24;
/// The two forms of the log's checksum: words of this machine's order or of the other.
const LOG_LITTLE: u32 = 0x377f_0682;
const LOG_BIG: u32 = 0x377f_0683;
/// No record of a ledger is nearly as large.
const PAYLOAD_MAX: usize = 64 << 20;

pub(super) struct Pages {
    file: File,
    log: Option<File>,
    /// Where in the log the last committed frame of a page has its content.
    frames: HashMap<u32, u64>,
    size: usize,
    reserved: usize,
    count: u32,
    has_header: bool,
}

impl Pages {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let mut log_path = OsString::from(path);
        log_path.push("-wal");
        let log = File::open(log_path).ok();
        let mut pages =
            Self { file, log, frames: HashMap::new(), size: PAGE_BYTES, reserved: 0, count: 0, has_header: false };
        pages.read_header()?;
        pages.count = u32::try_from(pages.file.metadata()?.len().div_ceil(pages.size as u64)).unwrap_or(u32::MAX);
        if let Some(count) = pages.read_log() {
            pages.count = count.max(pages.frames.keys().copied().max().unwrap_or(0));
            // The log's first page is the one that holds.
            pages.read_header()?;
        }
        Ok(pages)
    }

    pub(super) fn count(&self) -> u32 {
        self.count
    }

    pub(super) fn usable(&self) -> usize {
        self.size - self.reserved
    }

    /// A page as far as it is there; what is cut off reads as zeros.
    pub(super) fn read(&self, page: u32) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; self.size];
        match (self.frames.get(&page), &self.log) {
            (Some(&at), Some(log)) => read_into(log, &mut bytes, at)?,
            _ => read_into(&self.file, &mut bytes, u64::from(page.max(1) - 1) * self.size as u64)?,
        }
        Ok(bytes)
    }

    /// Pages that hold nothing. None where the list of them can't be read.
    pub(super) fn free(&self) -> io::Result<Vec<u32>> {
        let (mut free, mut seen) = (Vec::new(), HashSet::new());
        if !self.has_header {
            return Ok(free);
        }
        let mut trunk = word(&self.read(1)?, 32);
        while trunk != 0 && trunk <= self.count && seen.insert(trunk) {
            let page = self.read(trunk)?;
            let leaves = (word(&page, 4) as usize).min(self.usable() / 4 - 2);
            free.push(trunk);
            free.extend((0..leaves).map(|n| word(&page, 8 + n * 4)));
            trunk = word(&page, 0);
        }
        Ok(free)
    }

    /// A cell's payload, with what of it lies on overflow pages. `None` where it is not whole.
    pub(super) fn payload(&self, cell: &Cell) -> io::Result<Option<Vec<u8>>> {
        let mut bytes = cell.local.clone();
        if cell.total > PAYLOAD_MAX {
            return Ok(None);
        }
        let mut next = cell.overflow;
        while bytes.len() < cell.total {
            if next == 0 || next > self.count {
                return Ok(None);
            }
            let page = self.read(next)?;
            let part = (cell.total - bytes.len()).min(self.usable() - 4);
            bytes.extend_from_slice(&page[4..4 + part]);
            next = word(&page, 0);
        }
        Ok(Some(bytes))
    }

    fn read_header(&mut self) -> io::Result<()> {
        let header = self.read(1)?;
        if !header.starts_with(MAGIC) {
            return Ok(());
        }
        let size = match u16::from_be_bytes([header[16], header[17]]) {
            1 => 65_536,
            size => usize::from(size),
        };
        if size.is_power_of_two() && (512..=65_536).contains(&size) {
            (self.size, self.reserved, self.has_header) = (size, usize::from(header[20]).min(size / 4), true);
        }
        Ok(())
    }

    /// Notes the committed frames; returns the number of pages after the last commit.
    fn read_log(&mut self) -> Option<u32> {
        let log = self.log.as_ref()?;
        let mut header = [0; LOG_HEADER];
        if log.read_exact_at(&mut header, 0).is_err() {
            return None;
        }
        let big = match word(&header, 0) {
            LOG_BIG => true,
            LOG_LITTLE => false,
            _ => return None,
        };
        let mut sum = checksum((0, 0), &header[..24], big);
        if sum != (word(&header, 24), word(&header, 28)) || word(&header, 8) as usize != self.size {
            return None;
        }
        let (mut at, mut pending, mut pages) = (LOG_HEADER as u64, Vec::new(), None);
        let mut frame = vec![0; FRAME_HEADER + self.size];
        while log.read_exact_at(&mut frame, at).is_ok() {
            sum = checksum(checksum(sum, &frame[..8], big), &frame[FRAME_HEADER..], big);
            if frame[8..16] != header[16..24] || sum != (word(&frame, 16), word(&frame, 20)) {
                break;
            }
            pending.push((word(&frame, 0), at + FRAME_HEADER as u64));
            let size_after = word(&frame, 4);
            if size_after != 0 {
                self.frames.extend(pending.drain(..));
                pages = Some(size_after);
            }
            at += frame.len() as u64;
        }
        pages
    }
}

/// As much as there is.
fn read_into(file: &File, bytes: &mut [u8], at: u64) -> io::Result<()> {
    let mut done = 0;
    while done < bytes.len() {
        match file.read_at(&mut bytes[done..], at + done as u64) {
            Ok(0) => break,
            Ok(read) => done += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // A sector that the disk can't read is a torn page.
            Err(error) if error.raw_os_error() == Some(libc::EIO) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// A big-endian word; 0 beyond the end.
pub(super) fn word(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).map_or(0, |four| u32::from_be_bytes([four[0], four[1], four[2], four[3]]))
}

fn checksum((mut one, mut two): (u32, u32), bytes: &[u8], big: bool) -> (u32, u32) {
    let read = |four: &[u8]| {
        let four = [four[0], four[1], four[2], four[3]];
        if big { u32::from_be_bytes(four) } else { u32::from_le_bytes(four) }
    };
    for eight in bytes.chunks_exact(8) {
        one = one.wrapping_add(read(&eight[..4])).wrapping_add(two);
        two = two.wrapping_add(read(&eight[4..])).wrapping_add(one);
    }
    (one, two)
}
