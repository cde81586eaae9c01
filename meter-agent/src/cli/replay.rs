//! `meter replay`: what recorded traffic would have cost.

use std::{
    fs::File,
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::{Context, bail};

use super::{
    FAILED, print_json, say,
    table::{Align, Table, counted, plain, usd},
};
use crate::{
    clock,
    config::Config,
    control::price_files::{self, PriceFileError},
    exchange::{Outcome, Row},
    money::Pico,
    pricing::{Imported, PriceKind, Prices},
    replay::{BadEntry, Replayed, Setting, replay},
    usage::{Quality, hosts::HostTable},
};

/// Meter and price recorded traffic, without root and without a daemon
///
/// Takes the config's hosts and prices, and imported prices where they can be read. An entry that costs nothing has a
/// row too, with the reason; a WebSocket has one per turn.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit status: 0 if every entry was metered; 1 if the file can't be read to its end, or an entry \
    can't be used (both are said on standard error; the rows of all other entries are there)."
)]
pub(super) struct Args {
    /// A HAR 1.2 file, saved with contents
    #[arg(value_name = "FILE.har")]
    file: PathBuf,
    /// Print a JSON object per line
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args, config: &Config) -> anyhow::Result<ExitCode> {
    let name = args.file.display();
    let file = File::open(&args.file).with_context(|| format!("{name} can't be opened; name a HAR file"))?;
    if file.metadata().is_ok_and(|data| data.is_dir()) {
        bail!("{name} is a directory; name a HAR file in it");
    }
    let hosts = HostTable::new(&config.hosts)?;
    let prices = Prices::new(config.prices.clone(), imported(config)?);
    let setting = Setting { hosts: &hosts, prices: &prices, now: clock::now() };
    let mut out = io::BufWriter::new(io::stdout().lock());
    let mut shown = if args.json { Shown::Lines } else { Shown::Table(Box::new(Report::new())) };
    let mut bad = false;
    // Whoever reads the output may have seen enough; the rest of the file is then of no interest to anyone.
    let mut failed = None;
    let end = replay(file, setting, &mut |entry| match entry {
        Ok(replayed) if failed.is_none() => failed = shown.show(&mut out, &replayed).err(),
        Ok(_) => {}
        Err(entry) => {
            bad = true;
            say(&unusable(&entry));
        }
    });
    if let Some(error) = failed {
        return Err(error);
    }
    if end.is_ok() || !shown.is_empty() {
        shown.end(&mut out)?;
    }
    out.flush()?;
    end.with_context(|| name.to_string())?;
    Ok(if bad { ExitCode::from(FAILED) } else { ExitCode::SUCCESS })
}

/// The imported prices, which the live meter has; without them where they are not for this user to read.
fn imported(config: &Config) -> anyhow::Result<Imported> {
    match price_files::load(&config.prices_dir()) {
        Ok(imported) => Ok(imported),
        Err(PriceFileError::Unreadable { path, source }) if source.kind() == io::ErrorKind::PermissionDenied => {
            let path = path.display();
            say(&format!(
                "the imported prices ({path}) are root's; priced without them, use sudo for the daemon's prices"
            ));
            Ok(Imported::default())
        }
        Err(error) => Err(error.into()),
    }
}

fn unusable(entry: &BadEntry) -> String {
    format!("{entry}; the other entries were metered")
}

enum Shown {
    Lines,
    Table(Box<Report>),
}

impl Shown {
    fn show(&mut self, out: &mut impl Write, replayed: &Replayed) -> anyhow::Result<()> {
        match self {
            Self::Lines => print_json(out, replayed),
            Self::Table(report) => {
                report.add(replayed);
                Ok(())
            }
        }
    }

    fn is_empty(&self) -> bool {
        match self {
            Self::Lines => false,
            Self::Table(report) => report.table.is_empty(),
        }
    }

    fn end(self, out: &mut impl Write) -> io::Result<()> {
        match self {
            Self::Lines => Ok(()),
            Self::Table(report) => report.print(out),
        }
    }
}

/// A table of the exchanges, and their sum.
struct Report {
    table: Table,
    sum: Sum,
}

/// Money by how far it is to be trusted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sum {
    exchanges: u64,
    total: Pico,
    estimated: Pico,
    absent: Pico,
    absences: u64,
    unpriced: Pico,
    /// Background work whose result is not there, and what is held for it.
    unresolved: u64,
    held: Pico,
}

impl Sum {
    fn add(&mut self, row: &Row) {
        let add = |sum: &mut Pico| *sum = sum.saturating_add(row.cost_usd);
        self.exchanges += row.exchanges();
        add(&mut self.total);
        if row.outcome == Outcome::Unresolved {
            self.unresolved += 1;
            self.held = self.held.saturating_add(row.held_usd);
            return;
        }
        match row.usage_quality {
            Quality::Absent => {
                self.absences += 1;
                add(&mut self.absent);
            }
            Quality::Estimated => add(&mut self.estimated),
            Quality::Exact => {}
        }
        if row.price == PriceKind::Unpriced && row.usage_quality != Quality::Absent {
            add(&mut self.unpriced);
        }
    }

    /// `12 exchanges, $1.25 in total: $0.10 of it estimated, ...`
    fn sentence(&self) -> String {
        let mut text = format!("{}, {} in total", counted(self.exchanges, "exchange"), usd(self.total));
        let parts: Vec<String> = [
            (self.estimated > Pico::ZERO, format!("{} estimated", usd(self.estimated))),
            (self.absences > 0, format!("{} absent (charged at the upper bound)", usd(self.absent))),
            (
                self.unpriced > Pico::ZERO,
                format!("{} unpriced (charged at the provider's dearest price)", usd(self.unpriced)),
            ),
        ]
        .into_iter()
        .filter_map(|(is_there, part)| is_there.then_some(part))
        .collect();
        if !parts.is_empty() {
            text = format!("{text}; of it {}", parts.join(", "));
        }
        if self.unresolved > 0 {
            let results = counted(self.unresolved, "result");
            text = format!("{text}; {results} of background work not in the recording, at most {}", usd(self.held));
        }
        text
    }
}

impl Report {
    fn new() -> Self {
        let table = Table::new([
            ("ENTRY", Align::Right),
            ("PROVIDER", Align::Left),
            ("WHAT", Align::Left),
            ("STATUS", Align::Right),
            ("INPUT", Align::Right),
            ("OUTPUT", Align::Right),
            ("COST", Align::Right),
            ("QUALITY", Align::Left),
            ("NOTE", Align::Left),
        ]);
        Self { table, sum: Sum::default() }
    }

    fn add(&mut self, Replayed { index, row }: &Replayed) {
        self.sum.add(row);
        let model = row.model.as_deref().or(row.requested_model.as_deref());
        self.table.row([
            index.to_string(),
            plain(&row.provider),
            plain(model.unwrap_or(&row.host)),
            row.status.map_or_else(|| "-".to_owned(), |status| status.to_string()),
            row.usage.input_tokens.to_string(),
            row.usage.output_tokens.to_string(),
            usd(row.cost_usd),
            quality(row).to_owned(),
            plain(row.reason.as_deref().unwrap_or_default()),
        ]);
    }

    fn print(&self, out: &mut impl Write) -> io::Result<()> {
        if self.table.is_empty() {
            return writeln!(out, "The recording has no exchanges.");
        }
        self.table.print(out)?;
        writeln!(out, "{}", self.sum.sentence())
    }
}

fn quality(row: &Row) -> &'static str {
    match (row.usage_quality, row.price) {
        (Quality::Absent, _) => "absent",
        (Quality::Estimated, PriceKind::Unpriced) => "estimated, unpriced",
        (Quality::Estimated, PriceKind::Priced | PriceKind::Provider | PriceKind::Plan) => "estimated",
        (Quality::Exact, PriceKind::Unpriced) => "exact, unpriced",
        (Quality::Exact, PriceKind::Priced | PriceKind::Provider | PriceKind::Plan) => "exact",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(har: &str) -> String {
        let (hosts, prices) = (HostTable::new(&[]).unwrap(), Prices::embedded());
        let setting = Setting { hosts: &hosts, prices: &prices, now: clock::Timestamp::from_micros(0) };
        let mut shown = Shown::Table(Box::new(Report::new()));
        let mut out = Vec::new();
        replay(har.as_bytes(), setting, &mut |entry| shown.show(&mut out, &entry.unwrap()).unwrap()).unwrap();
        shown.end(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_last_line_is_the_sum_and_how_far_it_is_to_be_trusted() {
        let har = r#"{"log":{"entries":[{"request":{"method":"POST","url":"https://api.openai.com/v1/chat/completions",
            "postData":{"text":"{\"model\":\"gpt-4o\",\"max_tokens\":10,\"messages\":[]}"}},
            "startedDateTime":"2026-11-01T00:00:00Z","response":{"status":200,"headers":[{"name":"content-type","value":"application/json"}],
            "content":{"text":"{\"model\":\"gpt-4o\",\"usage\":{\"prompt_tokens\":1000,\"completion_tokens\":100}}"}}},
            {"request":{"url":"https://www.example.com/"},"response":{"status":200}}]}}"#;
        let text = table(har);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("ENTRY") && lines[1].contains("gpt-4o") && lines[1].contains("$0.0035"), "{text}");
        assert!(lines[2].contains("not a metered API"), "{text}");
        assert_eq!(lines[3], "2 exchanges, $0.0035 in total");
        assert_eq!(table(r#"{"log":{"entries":[]}}"#), "The recording has no exchanges.\n");
    }

    #[test]
    fn a_sum_says_how_much_of_it_is_not_exact() {
        let sum = Sum {
            exchanges: 3,
            total: Pico::new(4_000_000_000_000),
            estimated: Pico::new(1_000_000_000_000),
            absences: 1,
            unresolved: 1,
            held: Pico::new(500_000_000_000),
            ..Sum::default()
        };
        let text = "3 exchanges, $4.00 in total; of it $1.00 estimated, $0.00 absent (charged at the upper bound); \
            1 result of background work not in the recording, at most $0.50";
        assert_eq!(sum.sentence(), text);
    }
}
