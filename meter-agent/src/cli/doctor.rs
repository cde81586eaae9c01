//! `meter doctor`: every prerequisite as a checked list, with the fix for each failure. Changes nothing.

use std::{
    fs,
    io::{self, Write},
    net::{Ipv4Addr, TcpListener},
    path::Path,
    process::ExitCode,
};

use serde::Serialize;

use super::{FAILED, print_json, source, table::counted};
use crate::{
    clock::{self, Timestamp},
    config::Config,
    control::{
        client::Client,
        wire::{Answer, Request},
    },
    kernel::checks,
    ledger::{LedgerError, Reader, RowFilter},
    trust::bundle,
};

/// 2025-01-01: a clock before it was never set, and prices and certificates are wrong with it.
const CLOCK_FLOOR: Timestamp = Timestamp::from_micros(1_735_689_600_000_000);

/// Check every prerequisite, with the fix for each that fails
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Finding {
    name: String,
    ok: bool,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    fix: Option<String>,
}

#[derive(Serialize)]
struct Findings {
    checks: Vec<Finding>,
}

impl Finding {
    fn ok(name: &str, detail: impl Into<String>) -> Self {
        Self { name: name.to_owned(), ok: true, detail: detail.into(), fix: None }
    }

    fn bad(name: &str, detail: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { name: name.to_owned(), ok: false, detail: detail.into(), fix: Some(fix.into()) }
    }
}

pub(super) fn run(args: &Args, config: &Config) -> anyhow::Result<ExitCode> {
    let daemon = daemon_pid(config);
    let mut found: Vec<Finding> = checks::checks().into_iter().map(of_kernel).collect();
    found.push(of_daemon(daemon));
    found.push(config_file(config));
    found.push(listeners(config, daemon.is_some()));
    let (ledger, newest) = ledger(&config.data_dir);
    found.push(ledger);
    found.push(roots());
    found.push(authority(config));
    found.push(clock_sane(clock::now(), newest));

    let all_fine = found.iter().all(|finding| finding.ok);
    let mut out = io::stdout().lock();
    if args.json {
        print_json(&mut out, &Findings { checks: found })?;
    } else {
        print(&mut out, &found)?;
    }
    Ok(if all_fine { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
}

fn print(out: &mut impl Write, found: &[Finding]) -> io::Result<()> {
    let width = found.iter().map(|finding| finding.name.chars().count()).max().unwrap_or(0);
    for finding in found {
        let mark = if finding.ok { "ok  " } else { "FAIL" };
        writeln!(out, "{mark}  {:<width$}  {}", finding.name, finding.detail)?;
        if let Some(fix) = &finding.fix {
            writeln!(out, "      {:<width$}  fix: {fix}", "")?;
        }
    }
    Ok(())
}

fn of_kernel(check: checks::Check) -> Finding {
    match check.outcome {
        Ok(detail) => Finding::ok(check.name, detail),
        Err(fault) => Finding::bad(check.name, fault.what, fault.fix),
    }
}

fn daemon_pid(config: &Config) -> Option<u32> {
    let answer = Client::connect(&config.socket()).and_then(|mut client| client.ask(Request::Ping));
    match answer {
        Ok(Answer::Pong(pong)) => Some(pong.pid),
        Ok(_) | Err(_) => None,
    }
}

fn of_daemon(pid: Option<u32>) -> Finding {
    let detail = pid.map_or_else(|| "none is running; `meter run` starts one".to_owned(), |pid| format!("pid {pid}"));
    Finding::ok("daemon", detail)
}

/// What a daemon has of the file, or what is wrong with the file of one that would start.
fn config_file(config: &Config) -> Finding {
    let name = "config";
    match source::config_state(config) {
        Ok(Some(state)) => match state.complaint() {
            None => Finding::ok(name, format!("{} is in force", state.file.display())),
            Some(complaint) => {
                let (what, fix) = complaint.rsplit_once("; ").unwrap_or((&complaint, "see `meter config check`"));
                Finding::bad(name, what, fix)
            }
        },
        Ok(None) | Err(_) => match Config::load(config.file.as_deref()) {
            Ok(config) => {
                let none = || "no file; every key has its default".to_owned();
                Finding::ok(name, config.file.map_or_else(none, |file| format!("{} has no mistakes", file.display())))
            }
            Err(error) => {
                let text = error.to_string();
                let first = text.lines().next().unwrap_or_default();
                Finding::bad(name, first, "correct it; `meter config check` shows every mistake")
            }
        },
    }
}

/// Free, or held by the daemon that answers.
fn listeners(config: &Config, daemon: bool) -> Finding {
    let busy: Vec<String> = config
        .listen_ports
        .iter()
        .filter_map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).err().map(|error| (port, error)))
        .filter(|(_, error)| error.kind() == io::ErrorKind::AddrInUse)
        .map(|(port, _)| port.to_string())
        .collect();
    let ports = config.listen_ports.map(|port| port.to_string()).join(", ");
    if daemon {
        return if busy.len() == config.listen_ports.len() {
            Finding::ok("listeners", format!("127.0.0.1, ports {ports}"))
        } else {
            Finding::bad(
                "listeners",
                "the daemon does not hold all of its ports",
                "restart the daemon with this config",
            )
        };
    }
    if busy.is_empty() {
        Finding::ok("listeners", format!("127.0.0.1, ports {ports} are free"))
    } else {
        let fix = "stop what listens there (`ss -ltnp` names it), or set listen_ports to four free ports below 1024";
        Finding::bad("listeners", format!("busy on 127.0.0.1: {}", busy.join(", ")), fix)
    }
}

/// Also the time of its newest row.
fn ledger(data_dir: &Path) -> (Finding, Option<Timestamp>) {
    let name = "ledger";
    let opened = Reader::open(data_dir).and_then(|reader| {
        let newest = reader.rows(&RowFilter { account: None, limit: 1 })?.last().map(|row| row.time);
        Ok((reader.accounts()?.len(), newest))
    });
    match opened {
        Ok((accounts, newest)) => {
            let detail = format!("{} in {}", counted(accounts as u64, "account"), data_dir.display());
            (Finding::ok(name, detail), newest)
        }
        Err(LedgerError::Missing { .. }) => {
            (Finding::ok(name, format!("none yet; it will be made in {}", data_dir.display())), None)
        }
        Err(error) => {
            let text = error.to_string();
            let (what, fix) = text.split_once("; ").unwrap_or((&text, "check data_dir and its permissions"));
            (Finding::bad(name, what, fix), None)
        }
    }
}

fn roots() -> Finding {
    match bundle::system_roots().len() {
        0 => Finding::bad("system roots", "there are none", "install the package ca-certificates"),
        count => Finding::ok("system roots", counted(count as u64, "certificate")),
    }
}

/// Every bundle that an agent was given must hold every authority that signs for it.
fn authority(config: &Config) -> Finding {
    let name = "CA in the bundles";
    let authorities: Vec<_> = pems_in(&config.data_dir.join("ca")).into_iter().flat_map(|(_, certs)| certs).collect();
    if authorities.is_empty() {
        return Finding::ok(name, "no CA yet; the first start of the daemon makes it");
    }
    let bundles = pems_in(&config.trust_dir());
    let lacking = bundles.iter().find(|(_, certs)| !authorities.iter().all(|ca| certs.contains(ca)));
    match lacking {
        None => {
            let (cas, files) = (counted(authorities.len() as u64, "CA"), counted(bundles.len() as u64, "bundle"));
            Finding::ok(name, format!("{cas}, {files} of running tasks"))
        }
        Some((file, _)) => {
            Finding::bad(name, format!("{file} lacks a CA"), "start that task again: its bundle is older than the CA")
        }
    }
}

type Certs = Vec<rustls_pki_types::CertificateDer<'static>>;

fn pems_in(dir: &Path) -> Vec<(String, Certs)> {
    let files = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut pems: Vec<_> = files
        .filter(|path| path.extension().is_some_and(|extension| extension == "pem"))
        .filter_map(|path| Some((path.display().to_string(), bundle::certificates(&fs::read(&path).ok()?))))
        .collect();
    pems.sort_by(|a, b| a.0.cmp(&b.0));
    pems
}

fn clock_sane(now: Timestamp, newest: Option<Timestamp>) -> Finding {
    let fix = "set the clock (`timedatectl set-ntp true`): windows, prices and certificates follow it";
    if now < CLOCK_FLOOR {
        return Finding::bad("clock", format!("it says {}", now.rfc3339()), fix);
    }
    match newest {
        Some(newest) if now < newest => {
            let detail = format!("it says {}, before the ledger's newest row of {}", now.rfc3339(), newest.rfc3339());
            Finding::bad("clock", detail, fix)
        }
        Some(_) | None => Finding::ok("clock", now.rfc3339()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_never_set_or_runs_behind_the_ledger_fails() {
        let at = |days: i64| Timestamp::from_micros(CLOCK_FLOOR.micros() + days * 86_400_000_000);
        assert!(clock_sane(at(10), Some(at(9))).ok);
        assert!(clock_sane(at(10), None).ok);
        assert!(!clock_sane(at(-1), None).ok);
        assert!(!clock_sane(at(10), Some(at(11))).ok);
    }

    #[test]
    fn a_failure_stands_with_its_fix_below() {
        let mut out = Vec::new();
        print(&mut out, &[Finding::ok("root", "yes"), Finding::bad("clock", "1970", "set it")]).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text, "ok    root   yes\nFAIL  clock  1970\n             fix: set it\n");
    }

    #[test]
    fn a_bundle_without_the_authority_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config { data_dir: dir.path().join("data"), run_dir: dir.path().join("run"), ..Config::default() };
        assert!(authority(&config).ok);
        fs::create_dir_all(config.data_dir.join("ca")).unwrap();
        fs::create_dir_all(config.trust_dir()).unwrap();
        fs::write(config.data_dir.join("ca/builtin.pem"), bundle::tests::pem("ca")).unwrap();
        fs::write(config.trust_dir().join("a+t.pem"), bundle::tests::pem("other")).unwrap();
        assert!(!authority(&config).ok);
        let both = format!("{}{}", bundle::tests::pem("other"), bundle::tests::pem("ca"));
        fs::write(config.trust_dir().join("a+t.pem"), both).unwrap();
        assert!(authority(&config).ok);
    }
}
