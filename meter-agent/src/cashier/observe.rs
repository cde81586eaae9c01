//! What charges and requests give to tell and to do: stages, overage, what is unusual, what would have been refused.
//!
//! What is to be told is worked out by `accounts/`; here it becomes events, and a reaction that stops an account
//! revokes it, in the meter's own name.

use super::{Books, Cashier, admit::Asked};
use crate::{
    accounts::{AccountId, Charged, Loose, Notice, policy::Reaction},
    clock::Timestamp,
};

impl Cashier {
    /// Looks at a charge that has been posted on a path.
    pub(super) fn observe(&self, books: &mut Books, line: &[AccountId], charged: &Charged) {
        for notice in books.accounts.look(line, charged) {
            self.notice(books, &notice, charged.at);
        }
    }

    /// Takes notice of a request that comes, before anything is decided about it.
    pub(super) fn watch_request(&self, books: &mut Books, asked: &Asked, now: Timestamp) {
        let Some(fingerprint) = asked.fingerprint else { return };
        let Some(id) = books.slots.owner(asked.account) else { return };
        if let Some(notice) = books.accounts.repeated(id, fingerprint) {
            self.notice(books, &notice, now);
        }
    }

    /// Tells of a request that is let through though a limit speaks against it.
    pub(super) fn tell_loose(&self, books: &mut Books, loose: Option<&Loose>, now: Timestamp) {
        let notice = loose.and_then(|loose| books.accounts.would_refuse(loose));
        if let Some(notice) = notice {
            self.notice(books, &notice, now);
        }
    }

    fn notice(&self, books: &mut Books, notice: &Notice, now: Timestamp) {
        self.raise(books, notice.kind, notice.account, None, notice.text.clone(), now);
        match notice.reaction {
            Reaction::Tell | Reaction::Throttle => {}
            // Who waits is refused at its next look.
            Reaction::Stop => {
                self.shut_out(books, notice.account, &notice.text, None, now);
            }
        }
    }
}
