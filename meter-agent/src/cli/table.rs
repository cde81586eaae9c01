//! Tables for people: aligned columns, no colour, no lines.

use std::io::{self, Write};

use crate::{ids::Process, money::Pico};

/// How the entries of a column stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Align {
    Left,
    Right,
}

/// Rows that are printed once all are there, since the widths are theirs.
pub(super) struct Table {
    columns: Vec<(String, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn new<const N: usize>(columns: [(&'static str, Align); N]) -> Self {
        Self::of(columns.map(|(title, align)| (title.to_owned(), align)).into())
    }

    /// With columns that are known only then.
    pub(super) fn of(columns: Vec<(String, Align)>) -> Self {
        Self { columns, rows: Vec::new() }
    }

    /// One row, an entry per column.
    pub(super) fn row<const N: usize>(&mut self, entries: [String; N]) {
        self.row_of(entries.into());
    }

    pub(super) fn row_of(&mut self, entries: Vec<String>) {
        debug_assert_eq!(entries.len(), self.columns.len());
        self.rows.push(entries);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub(super) fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let width = |n: usize| self.rows.iter().map(|row| row[n].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> =
            self.columns.iter().enumerate().map(|(n, (title, _))| width(n).max(title.len())).collect();
        let titles: Vec<String> = self.columns.iter().map(|(title, _)| title.clone()).collect();
        for row in std::iter::once(&titles).chain(&self.rows) {
            let cells = row.iter().zip(&self.columns).zip(&widths);
            let line: Vec<String> = cells.map(|((cell, (_, align)), width)| pad(cell, *align, *width)).collect();
            writeln!(out, "{}", line.join("  ").trim_end())?;
        }
        Ok(())
    }
}

fn pad(cell: &str, align: Align, width: usize) -> String {
    match align {
        Align::Left => format!("{cell:<width$}"),
        Align::Right => format!("{cell:>width$}"),
    }
}

/// Dollars to a millionth, rounded half away from zero, at least two decimals: `$0.50`, `$0.001235`.
pub(super) fn usd(amount: Pico) -> String {
    const MICRO: u64 = 1_000_000;
    let micros = (amount.get().unsigned_abs() + MICRO / 2) / MICRO;
    let (whole, part) = (micros / MICRO, micros % MICRO);
    let digits = format!("{part:06}");
    let kept = digits.trim_end_matches('0').len().max(2);
    let sign = if amount.get() < 0 && micros > 0 { "-" } else { "" };
    format!("{sign}${whole}.{}", &digits[..kept])
}

/// Dollars, or a dash where there is no amount.
pub(super) fn usd_or_dash(amount: Option<Pico>) -> String {
    amount.map_or_else(|| "-".to_owned(), usd)
}

/// The process as people look for it: the executable's last name and the id.
pub(super) fn process(process: &Process) -> String {
    named_process(&process.exe, process.pid)
}

pub(super) fn named_process(exe: &str, pid: u32) -> String {
    let name = exe.rsplit('/').next().filter(|n| !n.is_empty()).unwrap_or("?");
    format!("{}[{pid}]", plain(name))
}

/// Somebody else's words, without the control characters by which they would speak to the terminal.
pub(super) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// `1 exchange`, `2 exchanges`.
pub(super) fn counted(count: u64, one: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{count} {one}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_entry() {
        let mut table = Table::new([("NAME", Align::Left), ("SPENT", Align::Right)]);
        table.row(["a".to_owned(), "$1.00".to_owned()]);
        table.row(["longer".to_owned(), "$10.00".to_owned()]);
        let mut out = Vec::new();
        table.print(&mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "NAME     SPENT\na        $1.00\nlonger  $10.00\n");
    }

    #[test]
    fn dollars_are_short_and_never_hide_a_sign() {
        for (pico, text) in [
            (0, "$0.00"),
            (500_000_000_000, "$0.50"),
            (1_234_567_890, "$0.001235"),
            (-20_000_000_000, "-$0.02"),
            (1, "$0.00"),
            (999_999_999_999, "$1.00"),
        ] {
            assert_eq!(usd(Pico::new(pico)), text);
        }
    }

    #[test]
    fn a_process_cannot_write_to_the_terminal_through_its_name() {
        assert_eq!(named_process("/usr/bin/cu\u{1b}rl", 7), "cu?rl[7]");
        assert_eq!(named_process("", 7), "?[7]");
    }
}
