//! Reads the mount table: where file systems are is looked up, never assumed.

use std::{ffi::OsString, fs, io, os::unix::ffi::OsStringExt, path::PathBuf};

/// One line of /proc/self/mountinfo (proc_pid_mountinfo(5)), as far as it is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mount {
    pub(super) point: PathBuf,
    /// File system type.
    pub(super) kind: String,
}

pub(super) fn read() -> io::Result<Vec<Mount>> {
    Ok(parse(&fs::read("/proc/self/mountinfo")?))
}

fn parse(table: &[u8]) -> Vec<Mount> {
    table.split(|byte| *byte == b'\n').filter_map(parse_line).collect()
}

/// `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw`: a varying number of fields before the ` - `.
fn parse_line(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let point = unescape(fields.nth(4)?);
    let kind = fields.skip_while(|field| *field != b"-").nth(1)?;
    Some(Mount { point, kind: String::from_utf8_lossy(kind).into_owned() })
}

/// Blanks and backslashes are written as `\` and three octal digits.
fn unescape(field: &[u8]) -> PathBuf {
    let mut path = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, tail @ ..] = rest {
        let octal = tail.get(..3).filter(|digits| *first == b'\\' && digits.iter().all(|d| (b'0'..=b'7').contains(d)));
        if let Some(digits) = octal {
            path.push(digits.iter().fold(0_u8, |byte, digit| (byte << 3) | (digit - b'0')));
            rest = &tail[3..];
        } else {
            path.push(*first);
            rest = tail;
        }
    }
    PathBuf::from(OsString::from_vec(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_is_found_behind_any_number_of_optional_fields() {
        let table = b"36 35 98:0 / /sys/fs/cgroup/unified rw shared:9 master:1 - cgroup2 cgroup2 rw\n\
            37 35 0:5 / /a\\040b rw - bpf none rw\n";
        assert_eq!(
            parse(table),
            [
                Mount { point: "/sys/fs/cgroup/unified".into(), kind: "cgroup2".into() },
                Mount { point: "/a b".into(), kind: "bpf".into() },
            ]
        );
    }

    #[test]
    fn a_cut_line_is_left_out() {
        let line = b"36 35 98:0 / /mnt rw - ext3 /dev/root rw";
        for end in 0..b"36 35 98:0 / /mnt rw -".len() {
            assert_eq!(parse(&line[..end]), [], "{end}");
        }
    }
}
