//! `meter events`: what people did and what was unusual, the oldest first.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use super::{
    print_json, source,
    table::{Align, Table, plain},
    when,
};
use crate::{
    config::Config,
    events::EventKind,
    ids::AccountPath,
    ledger::{EventFilter, EventRecord},
};

/// Events of a screen or two.
const SHOWN_DEFAULT: usize = 50;

/// Show what people did, and what was unusual
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Only of this account and those below it
    #[arg(long, value_name = "A")]
    account: Option<AccountPath>,
    /// Only of this kind: revoked, restored, funded, extended, task_opened, task_closed, config_reloaded, stage,
    /// would_refuse, overage, overrun, pace, repeat or baseline
    #[arg(long, value_name = "K", value_parser = kind)]
    kind: Option<EventKind>,
    /// Only the last N
    #[arg(short = 'n', long = "limit", value_name = "N", default_value_t = SHOWN_DEFAULT)]
    limit: usize,
    /// Print a JSON object per line
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args, config: &Config) -> anyhow::Result<ExitCode> {
    let filter = EventFilter { account: args.account.clone(), kind: args.kind, limit: args.limit };
    let events = source::events(config, &filter)?;
    let mut out = io::BufWriter::new(io::stdout().lock());
    if args.json {
        events.iter().try_for_each(|event| print_json(&mut out, event))?;
    } else {
        print(&mut out, &events)?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn print(out: &mut impl Write, events: &[EventRecord]) -> io::Result<()> {
    if events.is_empty() {
        return writeln!(out, "There are no such events.");
    }
    let mut table = Table::new([
        ("TIME (UTC)", Align::Left),
        ("ACCOUNT", Align::Left),
        ("KIND", Align::Left),
        ("ACTOR", Align::Left),
        ("WHAT", Align::Left),
    ]);
    for event in events {
        table.row([
            when::shown(event.time),
            event.account.to_string(),
            event.kind.as_str().to_owned(),
            event.actor_uid.map_or_else(|| "-".to_owned(), |uid| format!("uid {uid}")),
            plain(&event.text),
        ]);
    }
    table.print(out)
}

fn kind(text: &str) -> Result<EventKind, String> {
    let names = || EventKind::ALL.map(EventKind::as_str).join(", ");
    EventKind::named(text).ok_or_else(|| format!("`{text}` is not a kind of event; use one of {}", names()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;

    #[test]
    fn an_event_is_one_line_that_can_not_speak_to_the_terminal() {
        let event = EventRecord {
            time: Timestamp::parse("2026-11-21T08:15:30Z").unwrap(),
            account: "research".parse().unwrap(),
            kind: EventKind::Revoked,
            actor_uid: Some(0),
            text: "runs \u{1b}wild".to_owned(),
        };
        let mut out = Vec::new();
        print(&mut out, &[event]).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text.lines().last().unwrap(), "2026-11-21 08:15:30  research  revoked  uid 0  runs ?wild");
    }

    #[test]
    fn every_kind_is_named_in_the_help() {
        let help = <Args as clap::Args>::augment_args(clap::Command::new("events")).render_help().to_string();
        let words: Vec<&str> = help.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
        let missing: Vec<_> =
            EventKind::ALL.map(EventKind::as_str).into_iter().filter(|k| !words.contains(k)).collect();
        assert!(missing.is_empty(), "{missing:?} in {help}");
    }

    #[test]
    fn a_kind_that_is_none_is_answered_with_those_there_are() {
        assert_eq!(kind("task_closed"), Ok(EventKind::TaskClosed));
        assert!(kind("closed").unwrap_err().contains("task_closed"));
    }
}
