//! Where printed data comes from: the daemon when one answers, else the ledger itself.

use anyhow::bail;

use crate::{
    config::Config,
    control::{
        client::{Client, ClientError},
        report::AccountReport,
        wire::{Answer, Request},
    },
    exchange::Row,
    ids::AccountPath,
    ledger::{LedgerError, Reader, RowFilter},
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
        Some(Answer::Balance { account }) => Ok(account),
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
pub(super) fn rows(config: &Config, account: Option<AccountPath>, limit: usize) -> anyhow::Result<Vec<Row>> {
    let daemon = match ask(config, Request::Flush)? {
        Some(Answer::Flushed) => true,
        None => false,
        Some(_) => return Err(ClientError::Mismatch.into()),
    };
    match Reader::open(&config.data_dir) {
        Ok(reader) => {
            if let Some(account) = &account {
                let known: Vec<AccountPath> = reader.accounts()?.into_iter().map(|totals| totals.path).collect();
                require(account, known.iter())?;
            }
            Ok(reader.rows(&RowFilter { account, limit })?)
        }
        Err(LedgerError::Access { .. }) if daemon => match ask(config, Request::Rows { account, limit })? {
            Some(Answer::Rows { rows }) => Ok(rows),
            Some(_) | None => Err(ClientError::Mismatch.into()),
        },
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
    let hint = if beside.is_empty() {
        "there is none beside it; `meter run --agent NAME` makes one".to_owned()
    } else {
        format!("known: {}", beside.join(", "))
    };
    bail!("there is no account {account}; {hint}")
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
