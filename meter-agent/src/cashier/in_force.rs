//! What is in force for every account, read back from the accounts themselves; and what another config would make
//! of it, tried on a copy of them by the very steps that would put it into force.

use std::sync::Arc;

use super::{Books, Cashier, LimitStatus, status::limit_status};
use crate::{
    accounts::{AccountId, Accounts, Plan, policy::Effective},
    clock::Timestamp,
    events::EventKind,
    ids::AccountPath,
};

/// What is in force for one account.
#[derive(Clone, Debug)]
pub struct InForce {
    /// The same before and after a rename.
    pub id: AccountId,
    pub parent: AccountId,
    pub account: AccountPath,
    pub policy: Arc<Effective>,
    /// With fundings and extensions.
    pub limits: Vec<LimitStatus>,
}

impl Cashier {
    /// Every account, those above before those below them.
    pub fn in_force(&self) -> Vec<InForce> {
        read(&self.books.lock().accounts)
    }

    /// What would be in force by another plan; changes nothing.
    pub fn preview(&self, plan: &Plan, now: Timestamp) -> Vec<InForce> {
        let mut accounts = {
            let mut books = self.books.lock();
            self.advance(&mut books, now);
            books.accounts.clone()
        };
        for (from, to) in &plan.renamed {
            accounts.rename(from, to);
        }
        // Not told: it is a copy.
        let _ = accounts.set_plan(plan, &mut Vec::new());
        read(&accounts)
    }

    /// Accounts that a plan renames and that can't be now, since processes run under the old name.
    pub fn can_not_rename(&self, plan: &Plan) -> Vec<(AccountPath, AccountPath)> {
        let books = self.books.lock();
        let can_not = |(from, to): &&(AccountPath, AccountPath)| {
            let due = books.accounts.id(from).is_some() && books.accounts.id(to).is_none();
            due && has_processes(&books, from)
        };
        plan.renamed.iter().filter(can_not).cloned().collect()
    }

    /// Says that a config was put into force.
    pub fn config_reloaded(&self, actor: Option<u32>, text: String, now: Timestamp) {
        let books = self.books.lock();
        self.raise(&books, EventKind::ConfigReloaded, AccountId::HOST, actor, text, now);
        drop(books);
        self.writer.wake_up();
    }
}

pub(super) fn has_processes(books: &Books, path: &AccountPath) -> bool {
    books.slots.bound().any(|(id, _)| books.accounts.get(id).path.is_within(path))
}

fn read(accounts: &Accounts) -> Vec<InForce> {
    let of = |id| {
        let account = accounts.get(id);
        InForce {
            id,
            parent: account.parent,
            account: account.path.clone(),
            policy: Arc::clone(&account.policy),
            limits: account.limits.iter().map(|limit| limit_status(accounts, account, limit)).collect(),
        }
    };
    accounts.ids().map(of).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::{
        cashier::fake::{self, NOW, Page, open, path},
        config::Config,
    };

    fn plan(text: &str) -> Plan {
        Config::parse(text, Path::new("m.toml")).unwrap().plan().clone()
    }

    fn limits(all: &[InForce], account: &str) -> Vec<String> {
        let found = all.iter().find(|a| a.account == path(account));
        found.unwrap().limits.iter().map(|limit| limit.limit.clone()).collect()
    }

    #[test]
    fn a_plan_that_is_tried_changes_nothing_and_shows_what_it_would() {
        let (dir, page) = (tempfile::tempdir().unwrap(), Page::new());
        let cashier = open(dir.path(), &page, Some(1_000), false);
        let tried = plan("[agent.research]\nbudget_usd = 2\n[agent.new]\nbudget_usd = 1\n");
        let preview = cashier.preview(&tried, NOW);
        assert_eq!(
            (limits(&preview, "research"), limits(&preview, "new")),
            (vec!["2".to_owned()], vec!["1".to_owned()])
        );
        assert_eq!(limits(&cashier.in_force(), "research"), ["0.000000001"]);
        assert!(cashier.status_of(&path("new")).is_none());
        cashier.apply(&tried, NOW);
        assert_eq!(limits(&cashier.in_force(), "research"), ["2"]);
    }

    #[test]
    fn an_account_with_processes_is_not_renamed_and_not_set_free() {
        let (dir, page) = (tempfile::tempdir().unwrap(), Page::new());
        let cashier = open(dir.path(), &page, Some(1_000), false);
        let renamed = plan("[agent.later]\nwas = \"research\"\nbudget_usd = 3\n");
        assert!(cashier.can_not_rename(&renamed).is_empty());
        cashier.bind(&path("research/t"), &fake::given(None), NOW).unwrap();
        assert_eq!(cashier.can_not_rename(&renamed), [(path("research"), path("later"))]);
        // Where it comes to it all the same, at a start, the new name's limit is the old one's.
        assert_eq!(cashier.apply(&renamed, NOW), [path("research")]);
        assert_eq!(limits(&cashier.in_force(), "research"), ["3"]);
        assert!(cashier.status_of(&path("later")).is_none(), "and it can be renamed later");
    }

    #[test]
    fn who_goes_on_under_the_old_name_of_another_takes_no_limit_from_it() {
        let (dir, page) = (tempfile::tempdir().unwrap(), Page::new());
        let cashier = open(dir.path(), &page, Some(1_000), false);
        let renamed = plan("[agent.later]\nwas = \"research\"\nbudget_usd = 3\n");
        assert!(cashier.apply(&renamed, NOW).is_empty());
        // A script that nobody told of the new name.
        cashier.bind(&path("research/t"), &fake::given(None), NOW).unwrap();
        assert!(cashier.can_not_rename(&renamed).is_empty());
        cashier.apply(&renamed, NOW);
        assert_eq!(limits(&cashier.in_force(), "later"), ["3"]);
        let book = page.survivor();
        drop(cashier);
        let again = Cashier::open(dir.path(), book, &renamed, crate::cashier::Durability::Full, true, NOW).unwrap();
        assert_eq!(limits(&again.in_force(), "later"), ["3"], "and after a restart");
    }
}
