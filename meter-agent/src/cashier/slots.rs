//! Which account owns which slot of the kernel's book, and what is published there.
//!
//! A slot is owned while anything may still refer to it: a cgroup that was bound, a bound account below, or a hold.
//! Its generation is raised each time it is given back, so that a reference from before is stale.

use std::{collections::VecDeque, sync::Arc};

use meter_common::{AccountRef, Balance, HOST_SLOT, SLOTS, state};

use crate::{
    accounts::{AccountId, Accounts},
    kernel::Book,
};

/// The host's slot never changes hands.
pub(super) const HOST: AccountRef = AccountRef { slot: HOST_SLOT, generation: 1 };

#[derive(Clone, Copy, Debug)]
pub(super) struct Binding {
    pub(super) account: AccountRef,
    /// Bound by name, and not only because an account below it is.
    pub(super) named: bool,
    /// Bound accounts directly below.
    pub(super) children: u32,
    /// The ledger is being told that the slot is given back.
    pub(super) releasing: bool,
    /// How often it was bound again while the ledger was being told: what was begun before is void.
    pub(super) again: u32,
}

pub(super) struct Slots {
    book: Arc<dyn Book>,
    owners: Vec<Option<AccountId>>,
    /// By account; most are not bound.
    bindings: Vec<Option<Binding>>,
    /// The slot that has rested longest comes first.
    free: VecDeque<u32>,
}

impl Slots {
    /// The host's slot taken, `kept` as they are, and all others free: what still stands in them is ended.
    pub(super) fn new(book: Arc<dyn Book>, kept: &[(AccountId, AccountRef)]) -> Self {
        let mut slots = Self { book, owners: vec![None; SLOTS as usize], bindings: Vec::new(), free: VecDeque::new() };
        slots.own(AccountId::HOST, HOST);
        for &(id, account) in kept {
            slots.own(id, account);
        }
        for slot in 1..SLOTS {
            if slots.owners[slot as usize].is_none() {
                if slots.book.read(slot).state != state::FREE {
                    slots.vacate(slot);
                }
                slots.free.push_back(slot);
            }
        }
        slots
    }

    /// The account that a reference stands for, unless it is stale.
    pub(super) fn owner(&self, account: AccountRef) -> Option<AccountId> {
        let id = (*self.owners.get(account.slot as usize)?)?;
        (self.bound_as(id)?.account == account).then_some(id)
    }

    pub(super) fn reference(&self, id: AccountId) -> Option<AccountRef> {
        self.bound_as(id).map(|b| b.account)
    }

    pub(super) fn binding(&mut self, id: AccountId) -> Option<&mut Binding> {
        self.bindings.get_mut(id.get() as usize)?.as_mut()
    }

    pub(super) fn bound(&self) -> impl Iterator<Item = (AccountId, AccountRef)> + '_ {
        self.owners.iter().flatten().filter_map(|&id| Some((id, self.reference(id)?)))
    }

    /// Gives an account a slot; its parent must have one. `None` when all are taken.
    pub(super) fn take(&mut self, id: AccountId, parent: AccountId) -> Option<AccountRef> {
        let slot = self.free.pop_front()?;
        // Generation 0 is what an unused record has: never a valid reference.
        let generation = self.book.read(slot).generation.wrapping_add(1).max(1);
        let account = AccountRef { slot, generation };
        self.own(id, account);
        self.adopt(parent);
        Some(account)
    }

    /// Counts one more bound account below `parent`.
    pub(super) fn adopt(&mut self, parent: AccountId) {
        if let Some(above) = self.binding(parent) {
            above.children += 1;
        }
    }

    /// Gives the slot back.
    pub(super) fn release(&mut self, id: AccountId, parent: AccountId) {
        let Some(binding) = self.bindings.get_mut(id.get() as usize).and_then(Option::take) else { return };
        let slot = binding.account.slot;
        self.owners[slot as usize] = None;
        self.vacate(slot);
        self.free.push_back(slot);
        if let Some(above) = self.binding(parent) {
            above.children = above.children.saturating_sub(1);
        }
    }

    /// Publishes an account as it stands, if it is bound.
    pub(super) fn publish(&self, accounts: &Accounts, id: AccountId) {
        let Some(binding) = self.bound_as(id) else { return };
        let account = accounts.get(id);
        let parent = self.bound_as(account.parent).map_or(HOST_SLOT, |b| b.account.slot);
        self.book.publish(
            binding.account.slot,
            &Balance {
                remaining: accounts.remaining_word(account),
                spent: account.spent().get(),
                hold_granted: account.hold_granted.get(),
                hold_ended: account.hold_ended.get(),
                generation: binding.account.generation,
                parent,
                state: account.state.word(),
                flags: account.flags(),
                reserved: [0; 2],
            },
        );
    }

    fn own(&mut self, id: AccountId, account: AccountRef) {
        self.owners[account.slot as usize] = Some(id);
        let index = id.get() as usize;
        if self.bindings.len() <= index {
            self.bindings.resize(index + 1, None);
        }
        self.bindings[index] = Some(Binding { account, named: false, children: 0, releasing: false, again: 0 });
    }

    fn bound_as(&self, id: AccountId) -> Option<&Binding> {
        self.bindings.get(id.get() as usize)?.as_ref()
    }

    /// Makes every reference to the slot stale.
    fn vacate(&self, slot: u32) {
        let generation = self.book.read(slot).generation.wrapping_add(1);
        self.book.publish(slot, &Balance { generation, state: state::FREE, ..Balance::default() });
    }
}
