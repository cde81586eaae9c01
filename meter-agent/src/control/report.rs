//! How accounts are shown: the shape of `meter status --json`, over the wire and on the terminal.

use std::{collections::HashMap, path::PathBuf};

use meter_common::{Counters, Reason};
use serde::{Deserialize, Serialize};

use super::in_force::{Keys, keys as policy_keys};
use crate::{
    cashier::{AccountStatus, LimitStatus},
    clock::Timestamp,
    ids::AccountPath,
    labels::Labels,
    ledger::{AccountTotals, LedgerError, ProcessTotals, Reader},
    money::Pico,
};

/// One account.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AccountReport {
    pub account: AccountPath,
    pub state: String,
    /// When it came to this state; `None` where that is not known.
    pub since: Option<Timestamp>,
    /// Why people shut it.
    pub reason: Option<String>,
    /// The nearest account above that is not open, because of which nothing is admitted here either.
    pub shut_by: Option<AccountPath>,
    /// How a closed task ended.
    pub status: Option<String>,
    /// Its cgroups that exist now.
    pub cgroups: Vec<PathBuf>,
    pub spent_usd: Pico,
    pub held_usd: Pico,
    /// `None` where no limit applies.
    pub remaining_usd: Option<Pico>,
    /// `log`, `warn`, `throttle` or `stop`: how much of its fullest limit is gone; `None` without a daemon.
    pub stage: Option<String>,
    /// What was spent beyond its limits of dollars: of the one that is passed by most.
    pub overage_usd: Pico,
    pub limits: Vec<LimitStatus>,
    /// What is in force beside the limits; `None` without a daemon.
    pub in_force: Option<Keys>,
    /// With those of the accounts above it.
    pub labels: Labels,
    pub exchanges: u64,
    pub processes: Vec<ProcessReport>,
    /// `None` without a daemon: the counters live in the kernel, not in the ledger.
    pub kernel: Option<KernelReport>,
}

/// What one process spent, ended ones included.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessReport {
    pub pid: u32,
    pub exe: String,
    pub spent_usd: Pico,
    pub exchanges: u64,
}

/// What the kernel did for an account since its slot was given to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelReport {
    /// Connects that passed, redirected or direct.
    pub connects: u64,
    /// Connects, binds, sockets and datagrams that were refused.
    pub refused: u64,
    pub dropped_packets: u64,
    pub egress_bytes: u64,
    pub ingress_bytes: u64,
}

impl KernelReport {
    pub fn of(counters: &Counters) -> Self {
        let sum = |reasons: &[Reason]| reasons.iter().map(|r| counters.counts[*r as usize]).sum();
        Self {
            connects: sum(&[Reason::Redirected, Reason::Direct]),
            refused: sum(&REFUSALS),
            dropped_packets: sum(&[Reason::DroppedState, Reason::DroppedQuic]),
            egress_bytes: counters.egress_bytes,
            ingress_bytes: counters.ingress_bytes,
        }
    }
}

/// Reasons that mean "no" to the agent. `NoIpv6Route` is not one: it makes the client try IPv4, as it would
/// without the meter.
const REFUSALS: [Reason; 11] = [
    Reason::RefusedSpent,
    Reason::RefusedRevoked,
    Reason::RefusedStale,
    Reason::RefusedNamespace,
    Reason::RefusedSidecar,
    Reason::RefusedListener,
    Reason::RefusedStorage,
    Reason::RefusedBind,
    Reason::RefusedSocket,
    Reason::RefusedDatagram,
    Reason::RefusedQuic,
];

impl AccountReport {
    /// What the cashier or the ledger says, with its processes.
    pub fn new(status: AccountStatus, processes: Vec<ProcessTotals>) -> Self {
        Self {
            in_force: Some(policy_keys(&status.policy)),
            since: Some(status.since).filter(|since| *since != Timestamp::default()),
            reason: status.reason,
            shut_by: status.shut_by,
            status: status.status.map(str::to_owned),
            labels: status.labels,
            account: status.account,
            state: status.state.to_owned(),
            cgroups: status.cgroups,
            spent_usd: status.spent_usd,
            held_usd: status.held_usd,
            remaining_usd: status.remaining_usd,
            stage: Some(status.stage.to_owned()),
            overage_usd: status.overage_usd,
            limits: status.limits,
            exchanges: status.exchanges,
            processes: processes.into_iter().map(ProcessReport::from).collect(),
            kernel: None,
        }
    }

    /// One account straight from the ledger.
    fn from_totals(totals: AccountTotals, processes: Vec<ProcessTotals>) -> Self {
        let (limit, remaining) = (totals.limit(), totals.remaining());
        Self {
            limits: limit.into_iter().map(|limit| budget(limit, &totals)).collect(),
            since: Some(totals.since).filter(|since| *since != Timestamp::default()),
            reason: totals.reason,
            shut_by: None,
            status: totals.status,
            in_force: None,
            labels: totals.labels,
            account: totals.path,
            state: totals.state.as_str().to_owned(),
            cgroups: Vec::new(),
            spent_usd: totals.spent,
            held_usd: totals.held,
            remaining_usd: remaining,
            stage: None,
            overage_usd: Pico::ZERO.saturating_sub(remaining.unwrap_or(Pico::ZERO)).max(Pico::ZERO),
            exchanges: totals.exchanges,
            processes: processes.into_iter().map(ProcessReport::from).collect(),
            kernel: None,
        }
    }

    /// Every account straight from the ledger, without a daemon. What is remaining counts the account's own limit
    /// only: what the ones above it allow is decided by whoever admits.
    pub fn from_ledger(reader: &Reader) -> Result<Vec<Self>, LedgerError> {
        let mut reports: Vec<Self> = Vec::new();
        let (mut known, mut processes) = (HashMap::new(), reader.all_processes()?);
        // Those above come first.
        for totals in reader.accounts()? {
            let processes = processes.remove(&totals.path).unwrap_or_default();
            let mut report = Self::from_totals(totals, processes);
            if let Some(above) = report.account.parent().and_then(|up| known.get(&up)).map(|at: &usize| &reports[*at]) {
                let is_open = above.state == "open";
                report.shut_by = if is_open { above.shut_by.clone() } else { Some(above.account.clone()) };
                let own = std::mem::replace(&mut report.labels, above.labels.clone());
                report.labels.extend(own);
            }
            known.insert(report.account.clone(), reports.len());
            reports.push(report);
        }
        Ok(reports)
    }
}

/// The budget as the ledger alone knows it.
fn budget(limit: Pico, totals: &AccountTotals) -> LimitStatus {
    LimitStatus {
        window: "total".to_owned(),
        category: "any".to_owned(),
        unit: "usd".to_owned(),
        limit: limit.to_string(),
        spent: totals.spent.to_string(),
        held: totals.held.to_string(),
        remaining: limit.saturating_sub(totals.spent).to_string(),
        reset: None,
    }
}

impl From<ProcessTotals> for ProcessReport {
    fn from(totals: ProcessTotals) -> Self {
        Self { pid: totals.process.pid, exe: totals.process.exe, spent_usd: totals.spent, exchanges: totals.exchanges }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accounts::policy::Effective;

    #[test]
    fn every_refusal_is_counted_once_and_what_passed_is_not() {
        let mut counters = Counters { counts: [0; meter_common::REASONS], egress_bytes: 7, ingress_bytes: 9 };
        for (n, count) in counters.counts.iter_mut().enumerate() {
            *count = 1 << n;
        }
        let report = KernelReport::of(&counters);
        assert_eq!(report.connects, 0b11);
        assert_eq!(report.refused, 0b11_1111_1111_1000);
        assert_eq!(report.dropped_packets, 0b11 << 16);
        assert_eq!((report.egress_bytes, report.ingress_bytes), (7, 9));
    }

    #[test]
    fn the_json_has_the_documented_keys() {
        let report = AccountReport {
            account: "research".parse().unwrap(),
            state: "open".to_owned(),
            cgroups: Vec::new(),
            spent_usd: Pico::ZERO,
            held_usd: Pico::ZERO,
            remaining_usd: None,
            stage: None,
            overage_usd: Pico::ZERO,
            limits: Vec::new(),
            exchanges: 0,
            since: Some(Timestamp::from_micros(1)),
            reason: None,
            shut_by: None,
            status: None,
            in_force: Some(policy_keys(&Effective::default())),
            labels: Labels::new(),
            processes: vec![ProcessReport { pid: 1, exe: "/bin/x".to_owned(), spent_usd: Pico::ZERO, exchanges: 2 }],
            kernel: Some(KernelReport::default()),
        };
        let json = serde_json::to_value(&report).unwrap();
        let keys = |v: &serde_json::Value| v.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ");
        assert_eq!(
            keys(&json),
            "account state since reason shut_by status cgroups spent_usd held_usd remaining_usd stage overage_usd limits in_force labels \
             exchanges processes kernel"
        );
        assert_eq!(
            keys(&json["in_force"]),
            "enforce until each_task max_output_tokens max_cost_usd models clamp min_output_tokens wait wall refusal_status stages throttle at_limit degrade expect on_pace repeats on_repeat on_baseline labels"
        );
        assert_eq!(keys(&json["processes"][0]), "pid exe spent_usd exchanges");
        assert_eq!(keys(&json["kernel"]), "connects refused dropped_packets egress_bytes ingress_bytes");
    }
}
