//! What each operation does, and who may ask for it.
//!
//! Runs on a thread that may block: the ledger, cgroups and `/proc` are files.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use meter_common::Counters;
use tokio::runtime::Handle;

use super::{
    in_force::AccountInForce,
    peer::Peer,
    price_files::{self, seller},
    refusals::Refusals,
    registry::{OpenError, Opening, Registry},
    reload::Reloader,
    report::{AccountReport, KernelReport},
    wire::{Answer, Call, Fault, FaultKind, Opened, Pong, ROWS_MAX, Request, Summary, VERSION},
};
use crate::{
    cashier::{AccountStatus, Cashier, Given},
    clock,
    ids::AccountPath,
    kernel::Kernel,
    labels::{self, Labels},
    ledger::{EventFilter, REPORT_KEYS_MAX, Reader, ReportQuery, RowFilter},
    money::Pico,
    pricing::Prices,
    trust::Authority,
};

/// How long a summary waits for exchanges that are still being settled, in steps of [`SETTLE_STEP`].
const SETTLE_STEPS: u32 = 100;
const SETTLE_STEP: Duration = Duration::from_millis(20);

/// What the operations work with.
pub struct Service {
    pub kernel: Arc<Kernel>,
    pub cashier: Arc<Cashier>,
    pub registry: Arc<Registry>,
    pub refusals: Arc<Refusals>,
    pub authority: Arc<Authority>,
    pub reloader: Arc<Reloader>,
    pub data_dir: PathBuf,
    pub prices: Arc<Prices>,
    /// Where imported price files are kept.
    pub prices_dir: PathBuf,
}

impl Service {
    /// Answers one request. Blocks; `runtime` drives the few things that are asynchronous.
    pub fn answer(&self, peer: &Peer, call: Call, runtime: &Handle) -> Answer {
        if call.version != VERSION {
            let message = format!(
                "this daemon speaks version {VERSION} and you speak {}; restart the daemon with the installed meter",
                call.version
            );
            return Answer::Error(Fault::new(FaultKind::Malformed, message));
        }
        self.dispatch(peer, call.request, runtime).unwrap_or_else(Answer::Error)
    }

    fn dispatch(&self, peer: &Peer, request: Request, runtime: &Handle) -> Result<Answer, Fault> {
        match request {
            Request::Ping => {
                Ok(Answer::Pong(Pong { version: VERSION, pid: std::process::id(), ending: self.registry.is_ending() }))
            }
            Request::OpenTask { agent, task, budget_usd, labels, closes, extra_roots_pem } => {
                let given = Given { budget: budget_usd, labels };
                self.open_task(peer, &agent, &task, given, closes, &extra_roots_pem).map(Answer::Opened)
            }
            Request::MakeTask { account, budget_usd, labels, extra_roots_pem } => {
                let given = Given { budget: budget_usd, labels };
                self.make_task(peer, &account, given, &extra_roots_pem).map(Answer::Opened)
            }
            Request::CloseTask { account, status } => self.close_task(peer, account, status, runtime),
            Request::Revoke { account, reason } => self.revoke(peer, account, &reason, runtime),
            Request::Restore { account } => self.restore(peer, account, runtime),
            Request::Extend { account, by_usd, for_s } => self.extend(peer, account, by_usd, for_s, runtime),
            Request::Status => Ok(Answer::Status { accounts: self.reports(self.cashier.status())? }),
            Request::Balance { account } => self.balance(&account),
            Request::Fund { account, amount_usd } => self.fund(peer, account, amount_usd),
            Request::Rows { account, limit, labels } => self.rows(account, limit, &labels, runtime),
            Request::Events(filter) => self.events(filter, runtime),
            Request::Report(query) => self.report(&query, runtime),
            Request::Flush => {
                self.flush(runtime);
                Ok(Answer::Flushed)
            }
            Request::Summary { account } => self.summary(&account, runtime).map(Answer::Summary),
            Request::ReloadPrices => self.reload_prices(peer),
            Request::ReloadConfig => self.reload_config(peer),
            Request::DiffConfig { file, text } => self.diff_config(peer, &file, &text),
            Request::ConfigState => Ok(Answer::ConfigState(self.reloader.state())),
            Request::InForce => Ok(self.in_force()),
            Request::Price { provider, model, at } => {
                let explanation = self.prices.explain(provider.as_deref().map(seller), &model, at);
                Ok(Answer::Price { explanation })
            }
        }
    }

    fn open_task(
        &self,
        peer: &Peer,
        agent: &str,
        task: &str,
        given: Given,
        closes: bool,
        extra_roots_pem: &str,
    ) -> Result<Opened, Fault> {
        let above = self.account_of(peer)?;
        let account = task_path(above.as_ref(), agent, task)?;
        let closer = closes.then(|| peer.token());
        self.open(peer, account, &Opening { given, extra_roots_pem, pid: Some(peer.pid), closer })
    }

    /// Opens a task for whoever asks, who may.
    pub(super) fn open(&self, peer: &Peer, account: AccountPath, opening: &Opening<'_>) -> Result<Opened, Fault> {
        self.check_labels(peer, &account, &opening.given.labels)?;
        let authorities = self.authority.ca_pems();
        let open = |_| self.registry.open(&account, opening, &authorities, clock::now());
        let opened = peer.with(open)?.map_err(|error| {
            let kind = if matches!(error, OpenError::Ending) { FaultKind::Ending } else { FaultKind::Failed };
            Fault::new(kind, error.to_string())
        })?;
        self.cashier.task_opened(&account, &opening.given, peer.uid, clock::now());
        tracing::info!(%account, pid = peer.pid, uid = peer.uid, "task opened");
        Ok(Opened { account, bundle: opened.bundle, cgroup: opened.cgroup })
    }

    fn rows(
        &self,
        account: Option<AccountPath>,
        limit: usize,
        labels: &Labels,
        runtime: &Handle,
    ) -> Result<Answer, Fault> {
        check_all_labels(labels)?;
        self.flush(runtime);
        let reader = Reader::open(&self.data_dir).map_err(|e| failed(&e))?;
        let filter = RowFilter { account, limit: limit.min(ROWS_MAX) };
        let rows = reader.labelled_rows(&filter, labels).map_err(|e| failed(&e))?;
        Ok(Answer::Rows { rows })
    }

    fn events(&self, filter: EventFilter, runtime: &Handle) -> Result<Answer, Fault> {
        self.flush(runtime);
        let reader = Reader::open(&self.data_dir).map_err(|e| failed(&e))?;
        let filter = EventFilter { limit: filter.limit.min(ROWS_MAX), ..filter };
        Ok(Answer::Events { events: reader.events(&filter).map_err(|e| failed(&e))? })
    }

    fn report(&self, query: &ReportQuery, runtime: &Handle) -> Result<Answer, Fault> {
        check_all_labels(&query.labels)?;
        if query.by.len() > REPORT_KEYS_MAX {
            let message = format!("a report is by {REPORT_KEYS_MAX} things at most; leave some out");
            return Err(Fault::new(FaultKind::Malformed, message));
        }
        self.flush(runtime);
        let reader = Reader::open(&self.data_dir).map_err(|e| failed(&e))?;
        let config = self.reloader.in_force();
        Ok(Answer::Report { lines: reader.report(query, &config.plan().zone).map_err(|e| failed(&e))? })
    }

    fn balance(&self, account: &AccountPath) -> Result<Answer, Fault> {
        let status = self.status_of(account)?;
        let mut reports = self.reports(vec![status])?;
        reports.pop().map(|account| Answer::Balance { account: Box::new(account) }).ok_or_else(|| self.unknown(account))
    }

    fn fund(&self, peer: &Peer, account: AccountPath, amount: Pico) -> Result<Answer, Fault> {
        self.outside(peer, "fund")?;
        if !amount.is_positive() {
            return Err(Fault::new(FaultKind::Malformed, "an amount to fund is above 0; write it like 0.50"));
        }
        self.status_of(&account)?;
        let remaining = self.cashier.fund(&account, amount, peer.uid, clock::now()).map_err(|e| failed(&e))?;
        tracing::info!(%account, amount_usd = %amount, uid = peer.uid, "funded");
        Ok(Answer::Funded { account, remaining_usd: remaining })
    }

    /// The files were checked by whoever wrote them; what can't be used all the same changes nothing.
    fn reload_prices(&self, peer: &Peer) -> Result<Answer, Fault> {
        self.outside(peer, "change prices")?;
        let imported = price_files::load(&self.prices_dir).map_err(|e| failed(&e))?;
        self.prices.replace(imported);
        tracing::info!(uid = peer.uid, "imported prices are in use");
        Ok(Answer::Reloaded)
    }

    fn reload_config(&self, peer: &Peer) -> Result<Answer, Fault> {
        self.outside(peer, "change the config")?;
        self.reloader.reload(Some(peer.uid)).map(Answer::ConfigDiff).map_err(|error| failed(&error))
    }

    fn diff_config(&self, peer: &Peer, file: &Path, text: &str) -> Result<Answer, Fault> {
        self.outside(peer, "try a config")?;
        self.reloader.diff(text, file).map(Answer::ConfigDiff).map_err(|error| failed(&error))
    }

    fn in_force(&self) -> Answer {
        let mut accounts: Vec<AccountInForce> = self.cashier.in_force().into_iter().map(AccountInForce::from).collect();
        accounts.sort_unstable_by(|a, b| (!a.account.is_host(), &a.account).cmp(&(!b.account.is_host(), &b.account)));
        Answer::InForce { state: self.reloader.state(), settings: self.reloader.in_force().settings(), accounts }
    }

    pub(super) fn flush(&self, runtime: &Handle) {
        self.write_refusals();
        runtime.block_on(self.cashier.flush());
    }

    /// The command has ended, but its last exchange may be a moment from being settled.
    fn summary(&self, account: &AccountPath, runtime: &Handle) -> Result<Summary, Fault> {
        for _ in 0..SETTLE_STEPS {
            if !self.cashier.held(account).is_some_and(Pico::is_positive) {
                break;
            }
            std::thread::sleep(SETTLE_STEP);
        }
        self.flush(runtime);
        let summary = self.cashier.summary(account).ok_or_else(|| self.unknown(account))?;
        Ok(Summary {
            spent_usd: summary.spent,
            budget: summary.budget,
            exchanges: summary.exchanges,
            refusals: summary.refusals,
        })
    }

    /// Takes the kernel's refusals over, and writes to the ledger what has gathered.
    pub fn write_refusals(&self) {
        let now = clock::now();
        for row in self.refusals.take(|account| self.cashier.account_of(account), now) {
            self.cashier.record(row);
        }
        self.cashier.write_refusals(now);
    }

    /// Refuses a process of an account: what an agent may do is to look, and to open and close tasks below its own.
    pub(super) fn outside(&self, peer: &Peer, action: &str) -> Result<(), Fault> {
        self.account_of(peer)?.map_or(Ok(()), |inside| {
            let message =
                format!("a process of the account {inside} can't {action}; ask from outside of every account");
            Err(Fault::new(FaultKind::Forbidden, message))
        })
    }

    pub(super) fn account_of(&self, peer: &Peer) -> Result<Option<AccountPath>, Fault> {
        peer.with(|pid| self.registry.account_of(pid))
    }

    pub(super) fn status_of(&self, account: &AccountPath) -> Result<AccountStatus, Fault> {
        self.cashier.status_of(account).ok_or_else(|| self.unknown(account))
    }

    fn unknown(&self, account: &AccountPath) -> Fault {
        unknown(account, &self.cashier.status())
    }

    fn reports(&self, statuses: Vec<AccountStatus>) -> Result<Vec<AccountReport>, Fault> {
        let reader = Reader::open(&self.data_dir).map_err(|e| failed(&e))?;
        let counters = self.counters(&statuses);
        let mut processes = match &statuses[..] {
            [one] => HashMap::from([(one.account.clone(), reader.processes(&one.account).map_err(|e| failed(&e))?)]),
            _ => reader.all_processes().map_err(|e| failed(&e))?,
        };
        let mut reports = Vec::with_capacity(statuses.len());
        for status in statuses {
            let processes = processes.remove(&status.account).unwrap_or_default();
            let mut report = AccountReport::new(status, processes);
            report.cgroups.extend(self.registry.cgroup(&report.account));
            report.cgroups.dedup();
            report.kernel = counters.get(&report.account).map(KernelReport::of);
            reports.push(report);
        }
        Ok(reports)
    }

    /// What the kernel counted for these accounts: for one without a look at all others.
    fn counters(&self, statuses: &[AccountStatus]) -> BTreeMap<AccountPath, Counters> {
        let counted = match statuses {
            [one] => {
                let found = self.registry.counters(&one.account);
                found.map(|counters| counters.into_iter().map(|c| (one.account.clone(), c)).collect())
            }
            _ => self.registry.all_counters(),
        };
        counted.unwrap_or_else(|error| {
            tracing::warn!(%error, "the kernel's counters can't be read");
            BTreeMap::new()
        })
    }
}

/// Where a task goes: below the agent, or below the account that the caller is in already.
fn task_path(above: Option<&AccountPath>, agent: &str, task: &str) -> Result<AccountPath, Fault> {
    let malformed = |error: crate::ids::NameError| Fault::new(FaultKind::Malformed, error.to_string());
    let named = AccountPath::of_agent(agent).map_err(malformed)?;
    let parent = match above {
        None => &named,
        Some(inside) if inside.agent_name() == agent => inside,
        Some(inside) => {
            let own = inside.agent_name();
            let message = format!(
                "a process of the agent {own} can't start a task of another agent; use --agent {own}, which makes a task below {inside}"
            );
            return Err(Fault::new(FaultKind::Forbidden, message));
        }
    };
    parent.child(task).map_err(malformed)
}

pub(super) fn check_all_labels(labels: &Labels) -> Result<(), Fault> {
    labels::check_all(labels).map_err(|error| Fault::new(FaultKind::Malformed, error.to_string()))
}

/// There is no such account; names some agents that there are.
fn unknown(account: &AccountPath, known: &[AccountStatus]) -> Fault {
    const NAMED_MAX: usize = 8;
    let agents = known.iter().map(|status| &status.account).filter(|path| path.parent().is_some_and(|p| p.is_host()));
    let names: Vec<&str> = agents.map(AccountPath::as_str).take(NAMED_MAX).collect();
    let hint =
        if names.is_empty() { "there is no agent yet".to_owned() } else { format!("known: {}", names.join(", ")) };
    let message = format!("there is no account {account}; {hint} (`meter run --agent NAME` or the config makes one)");
    Fault::new(FaultKind::Unknown, message)
}

pub(super) fn failed(error: &dyn std::error::Error) -> Fault {
    Fault::new(FaultKind::Failed, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> AccountPath {
        text.parse().unwrap()
    }

    #[test]
    fn a_task_goes_below_the_agent_or_below_the_account_its_caller_is_in() {
        assert_eq!(task_path(None, "a", "t").unwrap(), path("a/t"));
        assert_eq!(task_path(Some(&path("a/t")), "a", "u").unwrap(), path("a/t/u"));
    }

    #[test]
    fn a_process_of_an_account_cannot_name_another_agent() {
        let fault = task_path(Some(&path("a/t")), "b", "u").unwrap_err();
        assert_eq!(fault.kind, FaultKind::Forbidden);
        assert!(fault.message.contains("use --agent a"), "{}", fault.message);
    }

    #[test]
    fn names_are_checked_before_they_become_folders() {
        for (agent, task) in [("..", "t"), ("a", "../b"), ("host", "t"), ("a", "")] {
            assert_eq!(task_path(None, agent, task).unwrap_err().kind, FaultKind::Malformed, "{agent}/{task}");
        }
        let deep = path("1/2/3/4/5/6/7");
        assert_eq!(task_path(Some(&deep), "1", "8").unwrap_err().kind, FaultKind::Malformed);
    }
}
