//! The kernel's maps beside the daemon: what survives a kill, as the kernel itself has it.
//!
//! Reads and, for what a disaster leaves behind, writes. Opened while a daemon has everything attached: it takes the same
//! maps over and detaches nothing.

use std::{path::PathBuf, sync::Arc};

use aya::maps::{Array, HashMap, Map, MapData};
use meter_agent::{
    ids::AccountPath,
    kernel::{Book, CgroupTree, Kernel},
};
use meter_common::{AccountRef, Balance, FLOWS_MAX, map};

/// See the module.
pub struct Maps {
    kernel: Kernel,
    book: Arc<dyn Book>,
    tree: CgroupTree,
}

impl Maps {
    pub fn open() -> Self {
        let kernel = Kernel::attach().expect("what the daemon pinned can be taken over");
        assert!(kernel.survived(), "no daemon has pinned its maps");
        let book = kernel.book();
        Self { kernel, book, tree: CgroupTree::find().expect("cgroup v2 is mounted") }
    }

    pub fn kernel(&self) -> &Kernel {
        &self.kernel
    }

    pub fn tree(&self) -> &CgroupTree {
        &self.tree
    }

    /// The slot that an account's cgroup is bound to, if it is.
    pub fn find(&self, account: &str) -> Option<AccountRef> {
        let id = self.tree.id(&path(account))?;
        let bound = self.kernel.bound_cgroups().expect("the map can be read");
        bound.into_iter().find(|(cgroup, _)| *cgroup == id).map(|(_, account)| account)
    }

    pub fn slot(&self, account: &str) -> AccountRef {
        self.find(account).unwrap_or_else(|| panic!("{account} is not bound"))
    }

    pub fn balance(&self, account: AccountRef) -> Balance {
        self.record(account.slot)
    }

    /// A slot's record, whosever it is.
    pub fn record(&self, slot: u32) -> Balance {
        self.book.read(slot)
    }

    /// Pico-dollars that are set aside on the account, by the kernel's word.
    pub fn outstanding(&self, account: AccountRef) -> i64 {
        let record = self.balance(account);
        record.hold_granted.wrapping_sub(record.hold_ended)
    }

    /// Puts an older record back, as a death between ledger and map leaves it.
    pub fn put_back(&self, account: AccountRef, record: &Balance) {
        self.book.publish(account.slot, record);
    }

    /// Fills the map of connections that wait for their accept. They are of no namespace that there is.
    pub fn fill_flows(&self) {
        let mut flows = flows();
        for number in 0..FLOWS_MAX {
            let mut key = [0; 32];
            key[8..12].copy_from_slice(&number.to_ne_bytes());
            if flows.insert(key, [0; 56], 0).is_err() {
                return;
            }
        }
    }

    /// What is pinned is of another boot from now on.
    pub fn change_boot(&self) {
        let pinned = MapData::from_pin(pin(map::STATUS)).expect("the map is pinned");
        let mut status: Array<_, [u8; 32]> = Map::Array(pinned).try_into().expect("it is an array of such records");
        let mut record = status.get(&0, 0).expect("it has one record");
        record[16..].iter_mut().for_each(|byte| *byte ^= 0xff);
        status.set(0, record, 0).expect("the record can be written");
    }
}

fn flows() -> HashMap<MapData, [u8; 32], [u8; 56]> {
    let pinned = MapData::from_pin(pin(map::FLOWS)).expect("the map is pinned");
    Map::HashMap(pinned).try_into().expect("it is a map of such keys")
}

fn pin(name: &str) -> PathBuf {
    PathBuf::from("/sys/fs/bpf/meter").join(name)
}

fn path(account: &str) -> AccountPath {
    account.parse().expect("an account's name")
}
