//! How accounts are shown: the shape of `meter status --json`, over the wire and on the terminal.

use std::path::PathBuf;

use meter_common::{Counters, Reason};
use serde::{Deserialize, Serialize};

use crate::{
    cashier::AccountStatus,
    ids::AccountPath,
    ledger::{AccountTotals, LedgerError, ProcessTotals, Reader},
    money::Pico,
};

/// One account.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AccountReport {
    pub account: AccountPath,
    pub state: String,
    /// Its cgroups that exist now.
    pub cgroups: Vec<PathBuf>,
    pub spent_usd: Pico,
    pub held_usd: Pico,
    /// `None` where no limit applies.
    pub remaining_usd: Option<Pico>,
    pub limits: Vec<LimitReport>,
    pub exchanges: u64,
    pub processes: Vec<ProcessReport>,
    /// `None` without a daemon: the counters live in the kernel, not in the ledger.
    pub kernel: Option<KernelReport>,
}

/// One limit of an account's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitReport {
    pub window: String,
    pub category: String,
    pub limit_usd: Pico,
    pub spent_usd: Pico,
    pub remaining_usd: Pico,
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
            account: status.account,
            state: status.state.to_owned(),
            cgroups: status.cgroups,
            spent_usd: status.spent_usd,
            held_usd: status.held_usd,
            remaining_usd: status.remaining_usd,
            limits: status
                .limits
                .into_iter()
                .map(|l| LimitReport {
                    window: l.window.to_owned(),
                    category: l.category.to_owned(),
                    limit_usd: l.limit_usd,
                    spent_usd: l.spent_usd,
                    remaining_usd: l.remaining_usd,
                })
                .collect(),
            exchanges: status.exchanges,
            processes: processes.into_iter().map(ProcessReport::from).collect(),
            kernel: None,
        }
    }

    /// One account straight from the ledger.
    fn from_totals(totals: AccountTotals, processes: Vec<ProcessTotals>) -> Self {
        let (limit, remaining) = (totals.limit(), totals.remaining());
        Self {
            account: totals.path,
            state: totals.state.as_str().to_owned(),
            cgroups: Vec::new(),
            spent_usd: totals.spent,
            held_usd: totals.held,
            remaining_usd: remaining,
            limits: limit
                .into_iter()
                .map(|limit_usd| LimitReport {
                    window: "total".to_owned(),
                    category: "any".to_owned(),
                    limit_usd,
                    spent_usd: totals.spent,
                    remaining_usd: limit_usd.saturating_sub(totals.spent),
                })
                .collect(),
            exchanges: totals.exchanges,
            processes: processes.into_iter().map(ProcessReport::from).collect(),
            kernel: None,
        }
    }

    /// Every account straight from the ledger, without a daemon. What is remaining counts the account's own limit
    /// only: what the ones above it allow is decided by whoever admits.
    pub fn from_ledger(reader: &Reader) -> Result<Vec<Self>, LedgerError> {
        let mut reports = Vec::new();
        for totals in reader.accounts()? {
            let processes = reader.processes(&totals.path)?;
            reports.push(Self::from_totals(totals, processes));
        }
        Ok(reports)
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
            limits: Vec::new(),
            exchanges: 0,
            processes: vec![ProcessReport { pid: 1, exe: "/bin/x".to_owned(), spent_usd: Pico::ZERO, exchanges: 2 }],
            kernel: Some(KernelReport::default()),
        };
        let json = serde_json::to_value(&report).unwrap();
        let keys = |v: &serde_json::Value| v.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ");
        assert_eq!(
            keys(&json),
            "account state cgroups spent_usd held_usd remaining_usd limits exchanges processes kernel"
        );
        assert_eq!(keys(&json["processes"][0]), "pid exe spent_usd exchanges");
        assert_eq!(keys(&json["kernel"]), "connects refused dropped_packets egress_bytes ingress_bytes");
    }
}
