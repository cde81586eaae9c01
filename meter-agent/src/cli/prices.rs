//! `meter prices`: where a price comes from, and newer price lists without a restart.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, bail};

use super::{
    print_json,
    table::{Align, Table},
};
use crate::{
    clock::{self, Timestamp},
    config::Config,
    control::{
        client::{Client, ClientError},
        price_files::{self, PriceFileError, seller},
        wire::{Answer, Request},
    },
    money::Pico,
    pricing::{Change, Changes, Explanation, Imported, PriceFile, Prices},
};

/// Changes that are shown; a new catalogue can have hundreds.
const SHOWN_MAX: usize = 40;
/// A price list is a few megabytes.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// Explain a price, or import newer price lists
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Show where the price of a model comes from
    Show(Show),
    /// Take a genai-prices data.json or a LiteLLM price file into use, without a restart
    Import(Import),
}

#[derive(Debug, clap::Args)]
struct Show {
    /// A model, as requests name it
    model: String,
    /// A provider as in the ledger or in genai-prices [default: whoever makes models of that name]
    #[arg(long, value_name = "P")]
    provider: Option<String>,
    /// A day like 2026-11-21 [default: now]
    #[arg(long, value_name = "DATE", value_parser = date)]
    at: Option<Timestamp>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct Import {
    /// The file, as it was downloaded
    file: PathBuf,
    /// Show what would change, and change nothing
    #[arg(long)]
    dry_run: bool,
}

pub(super) fn run(args: &Args, config: &Config) -> anyhow::Result<ExitCode> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    match &args.what {
        What::Show(show) => {
            let explanation = explanation(show, config)?;
            if show.json { print_json(&mut out, &explanation)? } else { print(&mut out, &explanation)? }
        }
        What::Import(import) => self::import(&mut out, import, config)?,
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn date(text: &str) -> Result<Timestamp, String> {
    Timestamp::parse(text).ok_or_else(|| format!("`{text}` is not a day; write it like 2026-11-21"))
}

/// The daemon's word where the imported files are not for this user to read, since it may know better.
fn explanation(show: &Show, config: &Config) -> anyhow::Result<Explanation> {
    let at = show.at.unwrap_or_else(clock::now);
    let imported = match price_files::load(&config.prices_dir()) {
        Ok(imported) => imported,
        Err(PriceFileError::Unreadable { source, .. }) if source.kind() == io::ErrorKind::PermissionDenied => {
            let request = Request::Price { provider: show.provider.clone(), model: show.model.clone(), at };
            match Client::connect(&config.socket()).and_then(|mut client| client.ask(request)) {
                Ok(Answer::Price { explanation }) => return Ok(explanation),
                Ok(_) => return Err(ClientError::Mismatch.into()),
                // Without a daemon, what is embedded is the best that can be said to this user.
                Err(ClientError::NoDaemon) => Imported::default(),
                Err(error) => return Err(error.into()),
            }
        }
        Err(error) => return Err(error.into()),
    };
    let prices = Prices::new(config.prices.clone(), imported);
    Ok(prices.explain(show.provider.as_deref().map(seller), &show.model, at))
}

fn print(out: &mut impl Write, told: &Explanation) -> io::Result<()> {
    let provider = if told.provider.is_empty() { "no provider" } else { &told.provider };
    writeln!(out, "{} at {provider}: {}", told.model, told.source)?;
    if let Some(model) = &told.matched_model {
        let whose = told.matched_provider.as_deref().map(|p| format!(" of {p}")).unwrap_or_default();
        writeln!(out, "matched  {model}{whose}")?;
    }
    if let Some(since) = &told.since {
        writeln!(out, "since    {since}")?;
    }
    if !told.rates.is_empty() {
        writeln!(out)?;
        let mut table = Table::new([
            ("TOKENS", Align::Left),
            ("TIER", Align::Left),
            ("INPUT ABOVE", Align::Right),
            ("USD PER MILLION", Align::Right),
        ]);
        for rate in &told.rates {
            table.row([
                rate.what.clone(),
                rate.tier.clone().unwrap_or_else(|| "standard".to_owned()),
                rate.above.map_or_else(|| "-".to_owned(), |n| n.to_string()),
                rate.usd_per_million.to_string(),
            ]);
        }
        table.print(out)?;
    }
    if !told.fees.is_empty() {
        writeln!(out)?;
        let mut table = Table::new([
            ("FEE", Align::Left),
            ("VARIANT", Align::Left),
            ("USD EACH", Align::Right),
            ("SOURCE", Align::Left),
        ]);
        for fee in &told.fees {
            let variant = fee.variant.clone().unwrap_or_else(|| "-".to_owned());
            table.row([fee.what.clone(), variant, fee.usd.to_string(), fee.source.clone()]);
        }
        table.print(out)?;
    }
    Ok(())
}

fn import(out: &mut impl Write, import: &Import, config: &Config) -> anyhow::Result<()> {
    let (bytes, file) = read(&import.file)?;
    let now = clock::now();
    let current = Prices::new(config.prices.clone(), in_force(config)?);
    let changes = current.changes(&file, now);
    print_changes(out, &changes)?;
    if import.dry_run {
        return Ok(writeln!(out, "Nothing was changed.")?);
    }
    let path = price_files::save(&config.prices_dir(), &file, &bytes)?;
    let models = file.models();
    match Client::connect(&config.socket()).and_then(|mut client| client.ask(Request::ReloadPrices)) {
        Ok(Answer::Reloaded) => writeln!(out, "{models} models are in {}, and in use.", path.display())?,
        Ok(_) => return Err(ClientError::Mismatch.into()),
        Err(ClientError::NoDaemon) => {
            writeln!(out, "{models} models are in {}; the daemon uses them when it starts.", path.display())?;
        }
        Err(error) => {
            return Err(error).with_context(|| {
                format!("the prices are in {}, but the running daemon does not use them yet", path.display())
            });
        }
    }
    Ok(())
}

/// What is there to compare with; a file that can't be used is about to be replaced.
fn in_force(config: &Config) -> anyhow::Result<Imported> {
    match price_files::load(&config.prices_dir()) {
        Ok(imported) => Ok(imported),
        Err(PriceFileError::Bad { .. }) => Ok(Imported::default()),
        Err(error @ (PriceFileError::Unreadable { .. } | PriceFileError::Unwritable { .. })) => {
            Err(anyhow::Error::from(error).context("imported prices are root's; use sudo"))
        }
    }
}

fn read(path: &Path) -> anyhow::Result<(Vec<u8>, PriceFile)> {
    let shown = path.display();
    let size = fs::metadata(path)
        .with_context(|| format!("{shown} can't be read; name a price file that was downloaded"))?
        .len();
    if size > FILE_BYTES_MAX {
        bail!("{shown} is not imported: it is larger than {} MiB, which no price list is", FILE_BYTES_MAX >> 20);
    }
    let bytes = fs::read(path).with_context(|| format!("{shown} can't be read"))?;
    match PriceFile::read(&bytes) {
        Ok(file) => Ok((bytes, file)),
        Err(error) => bail!("{shown} is not imported: {error}"),
    }
}

fn print_changes(out: &mut impl Write, changes: &Changes) -> io::Result<()> {
    if changes.all.is_empty() {
        return writeln!(out, "No model's price changes.");
    }
    let mut table = Table::new([
        ("PROVIDER", Align::Left),
        ("MODEL", Align::Left),
        ("INPUT PER MILLION", Align::Right),
        ("OUTPUT PER MILLION", Align::Right),
    ]);
    // What costs something else is looked for first.
    let rank = |change: &&Change| (change.old.is_none(), change.new.is_none());
    let mut shown: Vec<&Change> = changes.all.iter().collect();
    shown.sort_by_key(rank);
    for change in shown.iter().take(SHOWN_MAX) {
        let step = |part: fn(&Change, bool) -> Option<Pico>| match (part(change, false), part(change, true)) {
            (Some(old), Some(new)) if old == new => format!("${new}"),
            (old, new) => format!("{} -> {}", usd(old), usd(new)),
        };
        table.row([
            change.provider.clone(),
            change.model.clone(),
            step(|c, new| if new { c.new.map(|p| p.input) } else { c.old.map(|p| p.input) }),
            step(|c, new| if new { c.new.map(|p| p.output) } else { c.old.map(|p| p.output) }),
        ]);
    }
    table.print(out)?;
    if shown.len() > SHOWN_MAX {
        writeln!(out, "... and {} more", shown.len() - SHOWN_MAX)?;
    }
    writeln!(out, "{} changed, {} added, {} removed.", changes.changed, changes.added, changes.removed)
}

fn usd(amount: Option<Pico>) -> String {
    amount.map_or_else(|| "none".to_owned(), |amount| format!("${amount}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(model: &str, provider: Option<&str>) -> String {
        let at = date("2026-11-21").unwrap();
        let mut out = Vec::new();
        print(&mut out, &Prices::embedded().explain(provider.map(seller), model, at)).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn an_explanation_names_list_model_rates_and_fees() {
        let shown = text("gpt-4o-2024-08-06", None);
        for part in ["embedded genai-prices catalogue", "matched  gpt-4o of openai", "2.5\n", "priority", "web_search"]
        {
            assert!(shown.contains(part), "{part}: {shown}");
        }
        let long = text("gemini-2.5-pro", Some("vertex"));
        assert!(long.contains("200000") && long.contains("at vertex"), "{long}");
        assert!(text("dall-e-3", Some("openai")).contains("hd/1024x1792"));
        assert!(text("search", Some("tavily")).contains("docs.tavily.com"));
        assert!(text("nobody-knows", Some("openai")).contains("dearest"));
    }

    #[test]
    fn a_bad_file_is_named_and_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config { data_dir: dir.path().join("data"), run_dir: dir.path().join("run"), ..Config::default() };
        let file = dir.path().join("prices.json");
        fs::write(&file, "[1,2").unwrap();
        let bad = Import { file: file.clone(), dry_run: false };
        let error = import(&mut Vec::new(), &bad, &config).unwrap_err().to_string();
        assert!(error.contains("prices.json is not imported: its prices can't be used"), "{error}");
        assert!(!config.prices_dir().exists());
    }

    #[test]
    fn an_import_shows_its_changes_and_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config { data_dir: dir.path().join("data"), run_dir: dir.path().join("run"), ..Config::default() };
        let file = dir.path().join("list.json");
        fs::write(&file, r#"{"a/b": {"litellm_provider": "a", "input_cost_per_token": 1.5e-6}}"#).unwrap();
        let mut out = Vec::new();
        import(&mut out, &Import { file: file.clone(), dry_run: true }, &config).unwrap();
        assert!(!config.prices_dir().exists());
        import(&mut out, &Import { file, dry_run: false }, &config).unwrap();
        let shown = String::from_utf8(out).unwrap();
        assert!(shown.contains("none -> $1.5") && shown.contains("the daemon uses them when it starts"), "{shown}");
        let show = Show { model: "b".to_owned(), provider: Some("a".to_owned()), at: None, json: false };
        assert_eq!(explanation(&show, &config).unwrap().rates[0].usd_per_million.to_string(), "1.5");
    }
}
