//! What each operation does, and who may ask for it.
//!
//! Runs on a thread that may block: the ledger, cgroups and `/proc` are files.

use std::{path::PathBuf, sync::Arc, time::Duration};

use tokio::runtime::Handle;

use super::{
    peer::Peer,
    price_files::{self, seller},
    refusals::Refusals,
    registry::{OpenError, Registry},
    report::{AccountReport, KernelReport},
    wire::{Answer, Call, Fault, FaultKind, Opened, Pong, ROWS_MAX, Request, Summary, VERSION},
};
use crate::{
    cashier::{AccountStatus, Cashier},
    clock,
    ids::AccountPath,
    kernel::Kernel,
    ledger::{Reader, RowFilter},
    money::Pico,
    pricing::Prices,
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
    /// Certificates that every agent must trust.
    pub authority_pems: Vec<String>,
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
            Request::OpenTask { agent, task, budget_usd, extra_roots_pem } => {
                self.open_task(peer, &agent, &task, budget_usd, &extra_roots_pem).map(Answer::Opened)
            }
            Request::Status => Ok(Answer::Status { accounts: self.reports(self.cashier.status())? }),
            Request::Balance { account } => self.balance(&account),
            Request::Fund { account, amount_usd } => self.fund(peer, account, amount_usd),
            Request::Rows { account, limit } => self.rows(account, limit, runtime),
            Request::Flush => {
                self.flush(runtime);
                Ok(Answer::Flushed)
            }
            Request::Summary { account } => self.summary(&account, runtime).map(Answer::Summary),
            Request::ReloadPrices => self.reload_prices(peer),
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
        budget: Option<Pico>,
        extra_roots_pem: &str,
    ) -> Result<Opened, Fault> {
        let above = self.account_of(peer)?;
        let account = task_path(above.as_ref(), agent, task)?;
        let open = |pid| self.registry.open(&account, budget, extra_roots_pem, &self.authority_pems, pid, clock::now());
        let opened = peer.with(open)?.map_err(|error| {
            let kind = if matches!(error, OpenError::Ending) { FaultKind::Ending } else { FaultKind::Failed };
            Fault::new(kind, error.to_string())
        })?;
        tracing::info!(%account, pid = peer.pid, uid = peer.uid, "task opened");
        Ok(Opened { account, bundle: opened.bundle, cgroup: opened.cgroup })
    }

    fn rows(&self, account: Option<AccountPath>, limit: usize, runtime: &Handle) -> Result<Answer, Fault> {
        self.flush(runtime);
        let reader = Reader::open(&self.data_dir).map_err(|e| failed(&e))?;
        let rows = reader.rows(&RowFilter { account, limit: limit.min(ROWS_MAX) }).map_err(|e| failed(&e))?;
        Ok(Answer::Rows { rows })
    }

    fn balance(&self, account: &AccountPath) -> Result<Answer, Fault> {
        let status = self.status_of(account)?;
        let mut reports = self.reports(vec![status])?;
        reports.pop().map(|account| Answer::Balance { account }).ok_or_else(|| self.unknown(account))
    }

    fn fund(&self, peer: &Peer, account: AccountPath, amount: Pico) -> Result<Answer, Fault> {
        if let Some(inside) = self.account_of(peer)? {
            let message = format!("a process of the account {inside} can't fund; ask from outside of every account");
            return Err(Fault::new(FaultKind::Forbidden, message));
        }
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
        if let Some(inside) = self.account_of(peer)? {
            let message =
                format!("a process of the account {inside} can't change prices; ask from outside of every account");
            return Err(Fault::new(FaultKind::Forbidden, message));
        }
        let imported = price_files::load(&self.prices_dir).map_err(|e| failed(&e))?;
        self.prices.replace(imported);
        tracing::info!(uid = peer.uid, "imported prices are in use");
        Ok(Answer::Reloaded)
    }

    fn flush(&self, runtime: &Handle) {
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

    /// Writes the kernel's refusals that have gathered to the ledger.
    pub fn write_refusals(&self) {
        for row in self.refusals.take(|account| self.cashier.account_of(account), clock::now()) {
            self.cashier.record(row);
        }
    }

    fn account_of(&self, peer: &Peer) -> Result<Option<AccountPath>, Fault> {
        peer.with(|pid| self.registry.account_of(pid))
    }

    fn status_of(&self, account: &AccountPath) -> Result<AccountStatus, Fault> {
        self.cashier.status_of(account).ok_or_else(|| self.unknown(account))
    }

    fn unknown(&self, account: &AccountPath) -> Fault {
        unknown(account, &self.cashier.status())
    }

    fn reports(&self, statuses: Vec<AccountStatus>) -> Result<Vec<AccountReport>, Fault> {
        let reader = Reader::open(&self.data_dir).map_err(|e| failed(&e))?;
        let mut reports = Vec::with_capacity(statuses.len());
        for status in statuses {
            let processes = reader.processes(&status.account).map_err(|e| failed(&e))?;
            let mut report = AccountReport::new(status, processes);
            report.cgroups.extend(self.registry.cgroup(&report.account));
            report.cgroups.dedup();
            report.kernel = self.kernel_report(&report.account);
            reports.push(report);
        }
        Ok(reports)
    }

    fn kernel_report(&self, account: &AccountPath) -> Option<KernelReport> {
        match self.registry.counters(account) {
            Ok(counters) => counters.map(|c| KernelReport::of(&c)),
            Err(error) => {
                tracing::warn!(%account, %error, "the kernel's counters can't be read");
                None
            }
        }
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

fn failed(error: &dyn std::error::Error) -> Fault {
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
