//! Money given by people.

use std::sync::mpsc;

use super::{Books, Cashier, CashierError};
use crate::{
    accounts::AccountId,
    clock::Timestamp,
    events::EventKind,
    ids::AccountPath,
    ledger::{Op, Reply},
    money::Pico,
};

/// Accounts that an error names.
const KNOWN_SHOWN: usize = 20;

impl Cashier {
    /// Raises the account's `total` limit by `amount`, on record for `actor_uid`, and returns what remains then.
    ///
    /// Blocks until it is durable; a funding that could not be recorded has not happened.
    pub fn fund(&self, path: &AccountPath, amount: Pico, actor_uid: u32, now: Timestamp) -> Result<Pico, CashierError> {
        let _one_at_a_time = self.funding.lock();
        let id = fundable(&self.books.lock(), path, amount)?;
        let (tell, told) = mpsc::sync_channel(1);
        let reply = Reply::OrWithdraw(Box::new(move |result| drop(tell.send(result))));
        let wake = self.writer.push(Op::Fund { id, time: now, amount, actor_uid }, Some(reply));
        self.barrier(&wake, &told)?;

        let mut books = self.books.lock();
        let changes = books.accounts.fund(id, amount);
        self.raise(&books, EventKind::Funded, id, Some(actor_uid), format!("${amount} added to the budget"), now);
        books.publish_line(id);
        self.changed(&mut books, &changes);
        let account = books.accounts.get(id);
        let remaining = books.accounts.nearest(account).unwrap_or(Pico::MAX);
        self.wake_all(books);
        Ok(remaining)
    }
}

fn fundable(books: &Books, path: &AccountPath, amount: Pico) -> Result<AccountId, CashierError> {
    if !amount.is_positive() {
        return Err(CashierError::Other(format!("${amount} funds nothing; give more than 0")));
    }
    let id = super::apply::id_of(books, path)?;
    let limit = books.accounts.get(id).budget().ok_or_else(|| CashierError::NoLimit { path: path.clone() })?;
    let limit = Pico::new(limit.amount);
    match limit.checked_add(amount) {
        Some(sum) if sum <= Pico::CAP => Ok(id),
        Some(_) | None => Err(CashierError::TooMuch { amount, limit }),
    }
}

/// Agents first, since their names are what people remember.
pub(super) fn known(books: &Books) -> String {
    let mut paths: Vec<&str> = books.accounts.ids().skip(1).map(|id| books.accounts.get(id).path.as_str()).collect();
    paths.sort_unstable_by_key(|path| (path.contains('/'), *path));
    match paths.len() {
        0 => "none yet".to_owned(),
        n if n > KNOWN_SHOWN => format!("{} and {} more", paths[..KNOWN_SHOWN].join(", "), n - KNOWN_SHOWN),
        _ => paths.join(", "),
    }
}
