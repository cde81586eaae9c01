//! The books compared: what the ledger, `meter status` and the kernel's map say of every account must be one thing.

use std::{collections::BTreeMap, os::unix::fs::MetadataExt, path::Path, time::Duration};

use aya::maps::{Array, HashMap, Map, MapData};

use super::{Account, Daemon, Row, pico, usd, wait_for};

/// Every hold is ended by then: no test leaves an exchange that takes longer.
const SETTLED: Duration = Duration::from_secs(20);
const PINS: &str = "/sys/fs/bpf/meter";

/// An account as the kernel has it. Pico-dollars.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelBalance {
    pub remaining: i64,
    pub spent: i64,
    pub held: i64,
}

/// What all the books agreed on.
pub struct Books {
    pub accounts: BTreeMap<String, Account>,
    /// Every row of the host, the oldest first.
    pub rows: Vec<Row>,
}

impl Books {
    /// Waits until nothing is held, and asserts that every dollar is spent or still there: of each account the sum of
    /// its rows is what it spent, by status and by the kernel's map (where it is bound), and none of its limits is
    /// passed unless `overdrawn` names it.
    #[track_caller]
    pub fn check(daemon: &Daemon, overdrawn: &[&str]) -> Self {
        let accounts = wait_for("all holds to end", SETTLED, || {
            let accounts = daemon.status().accounts;
            accounts.iter().all(|account| pico(&account.held_usd) == 0).then_some(accounts)
        });
        let rows = daemon.all_rows();
        let mut kernel = KernelMaps::open();
        for account in &accounts {
            let within = |row: &&Row| is_within(&row.account, &account.account);
            let charged: i128 = rows.iter().filter(within).map(Row::cost).sum();
            assert_eq!(usd(charged), usd(account.spent()), "rows and status of {account:#?}");
            for limit in &account.limits {
                let left = pico(&limit.limit_usd) - pico(&limit.spent_usd);
                assert_eq!(left, pico(&limit.remaining_usd), "{account:#?}");
                assert!(left >= 0 || overdrawn.contains(&account.account.as_str()), "overshoot: {account:#?}");
            }
            if let Some(balance) = kernel.balance(account) {
                assert_eq!((i128::from(balance.spent), balance.held), (account.spent(), 0), "{balance:?} {account:#?}");
                let remaining = account.remaining_usd.as_deref().map_or(i128::from(i64::MAX), pico);
                assert_eq!(i128::from(balance.remaining), remaining, "{balance:?} {account:#?}");
            }
        }
        let accounts = accounts.into_iter().map(|account| (account.account.clone(), account)).collect();
        Self { accounts, rows }
    }

    #[track_caller]
    pub fn spent(&self, account: &str) -> i128 {
        self.accounts.get(account).unwrap_or_else(|| panic!("no account {account}")).spent()
    }

    /// Rows of an account and of those below it.
    pub fn rows_of(&self, account: &str) -> Vec<Row> {
        self.rows.iter().filter(|row| is_within(&row.account, account)).cloned().collect()
    }
}

fn is_within(path: &str, above: &str) -> bool {
    above == "host" || path == above || path.strip_prefix(above).is_some_and(|rest| rest.starts_with('/'))
}

/// The pinned maps, read as any program with the right to may.
pub struct KernelMaps {
    accounts: HashMap<MapData, u64, [u32; 2]>,
    balances: Array<MapData, [i64; 8]>,
}

impl KernelMaps {
    pub fn open() -> Self {
        let map = |name: &str| MapData::from_pin(Path::new(PINS).join(name)).expect("the daemon pinned it");
        Self {
            accounts: HashMap::try_from(Map::HashMap(map("ACCOUNTS"))).expect("cgroups to slots and generations"),
            balances: Array::try_from(Map::Array(map("BALANCES"))).expect("64 bytes for each slot"),
        }
    }

    /// An account's record; `None` where none of its cgroups is there any more. The host is always bound.
    pub fn balance(&mut self, account: &Account) -> Option<KernelBalance> {
        let slot = if account.account == "host" { Some(meter_common::HOST_SLOT) } else { self.slot(account) };
        let words = self.balances.get(&slot?, 0).expect("a slot of the map");
        // As `meter_common::Balance`: remaining, spent, granted, ended.
        Some(KernelBalance { remaining: words[0], spent: words[1], held: words[2].wrapping_sub(words[3]) })
    }

    fn slot(&self, account: &Account) -> Option<u32> {
        let inodes = account.cgroups.iter().filter_map(|path| Some(std::fs::metadata(path).ok()?.ino()));
        inodes.filter_map(|inode| self.accounts.get(&inode, 0).ok()).map(|[slot, _]| slot).next()
    }
}
