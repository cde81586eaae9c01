//! `meter report`: sums of the ledger by agent, task, model, provider, category, day, month or label.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use anyhow::ensure;
use serde_json::{Map, Value};

use super::{
    print_json, source,
    table::{Align, Table, plain, usd},
    when::{self, Moment},
};
use crate::{
    config::Config,
    ids::AccountPath,
    labels,
    ledger::{By, REPORT_KEYS_MAX, REPORT_LINES_MAX, ReportLine, ReportQuery},
    money::Pico,
};

/// Sum exchanges, tokens and cost
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// What a line stands for: agent, task, model, provider, category, day, month or label.KEY;
    /// several are separated by commas, or given one by one
    #[arg(long, value_name = "BY", value_delimiter = ',', default_value = "agent")]
    by: Vec<By>,
    /// From this time on, like 2026-11-01 or 7d ago; days and months are those of the config's time_zone
    #[arg(long, value_name = "T", value_parser = when::moment)]
    since: Option<Moment>,
    /// Up to this time and without it
    #[arg(long, value_name = "T", value_parser = when::moment)]
    until: Option<Moment>,
    /// Only rows with this label, like team=search; may be given several times
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = labels::pair)]
    labels: Vec<(String, String)>,
    /// Only this account and those below it
    #[arg(long, value_name = "A")]
    account: Option<AccountPath>,
    /// Print a JSON object per line
    #[arg(long, conflicts_with = "csv")]
    json: bool,
    /// Print comma-separated values with a header (RFC 4180)
    #[arg(long)]
    csv: bool,
}

/// The sums' names in JSON and CSV, after those of the keys.
const SUMS: [&str; 6] = ["exchanges", "refusals", "input_tokens", "output_tokens", "cost_usd", "notional_usd"];

pub(super) fn run(args: &Args, config: &Config) -> anyhow::Result<ExitCode> {
    ensure!(args.by.len() <= REPORT_KEYS_MAX, "a report is by {REPORT_KEYS_MAX} things at most; leave some out");
    let at = |moment: Moment| moment.at(&config.plan().zone);
    let query = ReportQuery {
        by: args.by.clone(),
        account: args.account.clone(),
        since: args.since.map(at).transpose()?,
        until: args.until.map(at).transpose()?,
        labels: labels::collect(args.labels.clone())?,
    };
    let lines = source::report(config, &query)?;
    ensure!(
        lines.len() <= REPORT_LINES_MAX,
        "this report has more than {REPORT_LINES_MAX} lines; ask for less by --since, --account or fewer --by"
    );
    let mut out = io::BufWriter::new(io::stdout().lock());
    if args.json {
        lines.iter().try_for_each(|line| print_json(&mut out, &json(&query.by, line)))?;
    } else if args.csv {
        csv(&mut out, &query.by, &lines)?;
    } else {
        print(&mut out, &query.by, &lines)?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// One flat object: `{"agent":"research","exchanges":3,...,"cost_usd":"0.1"}`.
fn json(by: &[By], line: &ReportLine) -> Value {
    let mut object: Map<String, Value> =
        by.iter().zip(&line.keys).map(|(by, key)| (by.to_string(), Value::from(key.as_str()))).collect();
    object.insert("exchanges".to_owned(), line.exchanges.into());
    object.insert("refusals".to_owned(), line.refusals.into());
    object.insert("input_tokens".to_owned(), line.input_tokens.into());
    object.insert("output_tokens".to_owned(), line.output_tokens.into());
    object.insert("cost_usd".to_owned(), line.cost_usd.to_string().into());
    object.insert("notional_usd".to_owned(), line.notional_usd.to_string().into());
    object.into()
}

fn csv(out: &mut impl Write, by: &[By], lines: &[ReportLine]) -> io::Result<()> {
    let header: Vec<String> = by.iter().map(By::to_string).chain(SUMS.map(str::to_owned)).collect();
    write!(out, "{}\r\n", header.join(","))?;
    for line in lines {
        let mut cells: Vec<String> = line.keys.iter().map(|key| quoted(key)).collect();
        cells.extend([line.exchanges, line.refusals, line.input_tokens, line.output_tokens].map(|n| n.to_string()));
        cells.extend([line.cost_usd, line.notional_usd].map(|usd| usd.to_string()));
        write!(out, "{}\r\n", cells.join(","))?;
    }
    Ok(())
}

/// A cell as RFC 4180 has it. What a spreadsheet would take for a formula is made text: models' names are the other
/// side's words.
fn quoted(cell: &str) -> String {
    let formula = cell.starts_with(['=', '+', '-', '@', '\t']);
    let cell = if formula { format!("'{cell}") } else { cell.to_owned() };
    if cell.contains([',', '"', '\r', '\n']) { format!("\"{}\"", cell.replace('"', "\"\"")) } else { cell }
}

fn print(out: &mut impl Write, by: &[By], lines: &[ReportLine]) -> io::Result<()> {
    let keys = by.iter().map(|by| (by.to_string().to_uppercase(), Align::Left));
    let sums = ["EXCHANGES", "REFUSALS", "INPUT", "OUTPUT", "COST"].map(|title| (title.to_owned(), Align::Right));
    let mut table = Table::of(keys.chain(sums).collect());
    let cells = |line: &ReportLine| {
        let counts = [line.exchanges, line.refusals, line.input_tokens, line.output_tokens];
        counts.map(|count| count.to_string()).into_iter().chain([usd(line.cost_usd)]).collect::<Vec<_>>()
    };
    for line in lines {
        let keys = line.keys.iter().map(|key| if key.is_empty() { "-".to_owned() } else { plain(key) });
        table.row_of(keys.chain(cells(line)).collect());
    }
    if lines.len() > 1 {
        let mut words: Vec<String> = by.iter().map(|_| String::new()).collect();
        words.iter_mut().take(1).for_each(|first| "total".clone_into(first));
        words.extend(cells(&total(lines)));
        table.row_of(words);
    }
    table.print(out)
}

fn total(lines: &[ReportLine]) -> ReportLine {
    let none = ReportLine {
        keys: Vec::new(),
        exchanges: 0,
        refusals: 0,
        input_tokens: 0,
        output_tokens: 0,
        cost_usd: Pico::ZERO,
        notional_usd: Pico::ZERO,
    };
    lines.iter().fold(none, |sum, line| ReportLine {
        keys: Vec::new(),
        exchanges: sum.exchanges.saturating_add(line.exchanges),
        refusals: sum.refusals.saturating_add(line.refusals),
        input_tokens: sum.input_tokens.saturating_add(line.input_tokens),
        output_tokens: sum.output_tokens.saturating_add(line.output_tokens),
        cost_usd: sum.cost_usd.saturating_add(line.cost_usd),
        notional_usd: sum.notional_usd.saturating_add(line.notional_usd),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(keys: &[&str], cost: &str) -> ReportLine {
        let keys = keys.iter().map(|key| (*key).to_owned()).collect();
        ReportLine { keys, exchanges: 2, refusals: 1, cost_usd: cost.parse().unwrap(), ..total(&[]) }
    }

    fn by() -> Vec<By> {
        ["agent", "label.team"].map(|by| by.parse().unwrap()).into()
    }

    #[test]
    fn a_table_ends_with_the_total_and_shows_what_is_missing() {
        let mut out = Vec::new();
        print(&mut out, &by(), &[line(&["a", "x"], "1"), line(&["b", ""], "0.5")]).unwrap();
        let text = String::from_utf8(out).unwrap();
        let words = |n: usize| text.lines().nth(n).unwrap().split_whitespace().collect::<Vec<_>>();
        assert_eq!(words(0), ["AGENT", "LABEL.TEAM", "EXCHANGES", "REFUSALS", "INPUT", "OUTPUT", "COST"]);
        assert_eq!(words(2), ["b", "-", "2", "1", "0", "0", "$0.50"]);
        assert_eq!(words(3), ["total", "4", "2", "0", "0", "$1.50"]);
    }

    #[test]
    fn json_and_csv_have_the_same_names_and_exact_amounts() {
        let line = line(&["a", "x"], "0.000000000001");
        let object = json(&by(), &line);
        assert_eq!(object["label.team"], "x");
        assert_eq!(object["cost_usd"], "0.000000000001");
        let mut out = Vec::new();
        csv(&mut out, &by(), &[line]).unwrap();
        let text = String::from_utf8(out).unwrap();
        let header = text.lines().next().unwrap().trim_end().split(',').collect::<Vec<_>>();
        assert_eq!(header, object.as_object().unwrap().keys().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(text.lines().nth(1).unwrap().trim_end(), "a,x,2,1,0,0,0.000000000001,0");
    }

    #[test]
    fn a_cell_can_hold_commas_and_quotes_and_is_no_formula() {
        assert_eq!(quoted("a,\"b\""), "\"a,\"\"b\"\"\"");
        assert_eq!(quoted("=1+1"), "'=1+1");
        assert_eq!(quoted("gpt-5"), "gpt-5");
    }
}
