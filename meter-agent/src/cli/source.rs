//! Where printed data comes from: the daemon when one answers, else the ledger itself.

use anyhow::bail;

use crate::{
    config::Config,
    control::{
        client::{Client, ClientError},
        in_force::ConfigState,
        report::AccountReport,
        wire::{Answer, Request},
    },
    exchange::Row,
    ids::AccountPath,
    labels::Labels,
    ledger::{EventFilter, EventRecord, LedgerError, Reader, ReportLine, ReportQuery, RowFilter},
};

/// Every account, the host first.
pub(super) fn accounts(config: &Config) -> anyhow::Result<Vec<AccountReport>> {
    match ask(config, Request::Status)? {
        Some(Answer::Status { accounts }) => Ok(accounts),
        Some(_) => Err(ClientError::Mismatch.into()),
        None => from_ledger(config),
    }
}

/// One account.
pub(super) fn account(config: &Config, account: &AccountPath) -> anyhow::Result<AccountReport> {
    match ask(config, Request::Balance { account: account.clone() })? {
        Some(Answer::Balance { account }) => Ok(*account),
        Some(_) => Err(ClientError::Mismatch.into()),
        None => {
            let all = from_ledger(config)?;
            require(account, all.iter().map(|report| &report.account))?;
            let found = all.into_iter().find(|report| report.account == *account);
            found.map_or_else(|| bail!("there is no account {account}"), Ok)
        }
    }
}

/// The ledger's last rows, with everything that a running daemon had in hand. Whoever may not read the ledger's
/// file gets them from the daemon.
pub(super) fn rows(
    config: &Config,
    account: Option<&AccountPath>,
    limit: usize,
    labels: &Labels,
) -> anyhow::Result<Vec<Row>> {
    let request = Request::Rows { account: account.cloned(), limit, labels: labels.clone() };
    let answer = from_file_or(config, account, request, |reader| {
        let filter = RowFilter { account: account.cloned(), limit };
        Ok(Answer::Rows { rows: reader.labelled_rows(&filter, labels)? })
    })?;
    if let Answer::Rows { rows } = answer { Ok(rows) } else { Err(ClientError::Mismatch.into()) }
}

/// The last events.
pub(super) fn events(config: &Config, filter: &EventFilter) -> anyhow::Result<Vec<EventRecord>> {
    let answer = from_file_or(config, filter.account.as_ref(), Request::Events(filter.clone()), |reader| {
        Ok(Answer::Events { events: reader.events(filter)? })
    })?;
    if let Answer::Events { events } = answer { Ok(events) } else { Err(ClientError::Mismatch.into()) }
}

/// Sums of the rows.
pub(super) fn report(config: &Config, query: &ReportQuery) -> anyhow::Result<Vec<ReportLine>> {
    let answer = from_file_or(config, query.account.as_ref(), Request::Report(query.clone()), |reader| {
        Ok(Answer::Report { lines: reader.report(query, &config.plan().zone)? })
    })?;
    if let Answer::Report { lines } = answer { Ok(lines) } else { Err(ClientError::Mismatch.into()) }
}

/// Reads the ledger's file, with everything that a running daemon had in hand, or asks the daemon where the file is
/// not for this user.
fn from_file_or(
    config: &Config,
    account: Option<&AccountPath>,
    request: Request,
    read: impl FnOnce(&Reader) -> Result<Answer, LedgerError>,
) -> anyhow::Result<Answer> {
    let daemon = match ask(config, Request::Flush)? {
        Some(Answer::Flushed) => true,
        None => false,
        Some(_) => return Err(ClientError::Mismatch.into()),
    };
    match Reader::open(&config.data_dir) {
        Ok(reader) => {
            if let Some(account) = account {
                let known: Vec<AccountPath> = reader.accounts()?.into_iter().map(|totals| totals.path).collect();
                require(account, known.iter())?;
            }
            Ok(read(&reader)?)
        }
        Err(LedgerError::Access { .. }) if daemon => {
            ask(config, request)?.map_or_else(|| Err(ClientError::Mismatch.into()), Ok)
        }
        Err(error) => Err(error.into()),
    }
}

/// Fails, naming what there is, when an account is not among the known.
pub(super) fn require<'a>(
    account: &AccountPath,
    known: impl Iterator<Item = &'a AccountPath> + Clone,
) -> anyhow::Result<()> {
    const NAMED_MAX: usize = 8;
    if known.clone().any(|path| path == account) {
        return Ok(());
    }
    let parent = account.parent().unwrap_or_else(AccountPath::host);
    let beside: Vec<&str> =
        known.filter(|path| path.parent().as_ref() == Some(&parent)).map(AccountPath::as_str).take(NAMED_MAX).collect();
    let hint = if beside.is_empty() && parent.is_host() {
        "there is no agent yet; `meter run --agent NAME` makes one".to_owned()
    } else if beside.is_empty() {
        "there is none beside it; `meter run --agent NAME` makes one".to_owned()
    } else {
        format!("known: {}", beside.join(", "))
    };
    bail!("there is no account {account}; {hint}")
}

/// What the daemon has of its config file; `None` without a daemon.
pub(super) fn config_state(config: &Config) -> anyhow::Result<Option<ConfigState>> {
    match ask(config, Request::ConfigState)? {
        Some(Answer::ConfigState(state)) => Ok(Some(state)),
        Some(_) => Err(ClientError::Mismatch.into()),
        None => Ok(None),
    }
}

/// The daemon's answer; `None` where no daemon runs, or where it is not for this user but the ledger may be.
fn ask(config: &Config, request: Request) -> Result<Option<Answer>, ClientError> {
    match Client::connect(&config.socket()) {
        Ok(mut client) => client.ask(request).map(Some),
        Err(ClientError::NoDaemon) => Ok(None),
        Err(error) => Err(error),
    }
}

fn from_ledger(config: &Config) -> anyhow::Result<Vec<AccountReport>> {
    match Reader::open(&config.data_dir) {
        Ok(reader) => Ok(AccountReport::from_ledger(&reader)?),
        // Nothing was ever metered, and that is no failure.
        Err(LedgerError::Missing { .. }) => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_account_is_answered_with_the_known_ones_beside_it() {
        let known: Vec<AccountPath> = ["host", "research", "research/a", "nightly"].map(|p| p.parse().unwrap()).into();
        let error = require(&"reserch".parse().unwrap(), known.iter()).unwrap_err();
        assert_eq!(error.to_string(), "there is no account reserch; known: research, nightly");
        require(&"research/a".parse().unwrap(), known.iter()).unwrap();
    }
}
