//! Requests slowed down before they are tried: no error that an SDK would answer with another request.
//!
//! A rate lets requests pass one by one, in the order of their arrival, as many a minute as the policy says; a delay
//! holds each of them back by itself. A request that is dropped meanwhile leaves its place to the next. Whoever is
//! slowed down looks again once a second, so that money or another policy lets all of them pass.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::AtomicUsize, atomic::Ordering},
    time::Duration,
};

use parking_lot::Mutex;

use super::{
    Books, Cashier,
    admit::{Asked, Refused},
};
use crate::{
    accounts::{AccountId, Category, Pace, Paces},
    clock::{self, Timestamp},
    money::Pico,
};

/// Requests that may be slowed down on a host at one time, each with its body.
const PACED_MAX: usize = 4_096;
/// How long nobody looks whether the pace still holds.
const LOOK: Duration = Duration::from_secs(1);
const MINUTE_NS: u64 = 60_000_000_000;

/// The gates of accounts whose requests pass one by one.
#[derive(Default)]
pub(super) struct Gates {
    gates: Mutex<HashMap<AccountId, Gate>>,
    paced: AtomicUsize,
}

/// From when on the next may pass, on the monotonic clock; whoever has the lock is the next. Locks are given in the
/// order in which they are asked for.
type Gate = Arc<tokio::sync::Mutex<u64>>;

/// One that is slowed down.
struct Place<'g>(&'g Gates);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.paced.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Gates {
    fn enter(&self) -> Option<Place<'_>> {
        let place = Place(self);
        (self.paced.fetch_add(1, Ordering::Relaxed) < PACED_MAX).then_some(place)
    }

    fn of(&self, account: AccountId) -> Gate {
        Arc::clone(self.gates.lock().entry(account).or_default())
    }
}

impl Cashier {
    /// How many requests are slowed down now.
    pub fn paced(&self) -> usize {
        self.gates.paced.load(Ordering::Relaxed)
    }

    /// Whether the account's repeated requests are to be told.
    pub fn watches_repeats(&self, account: meter_common::AccountRef) -> bool {
        if !self.repeats_watched.load(Ordering::Relaxed) {
            return false;
        }
        let books = self.books.lock();
        books.slots.owner(account).is_some_and(|id| books.accounts.get(id).policy.repeats > 0)
    }

    /// By whom a request is to be slowed down.
    pub(super) fn paces(books: &Books, asked: &Asked, now: Timestamp) -> Paces {
        let Some(id) = books.slots.owner(asked.account) else { return Paces::new() };
        if !books.accounts.is_open(id) {
            return Paces::new();
        }
        let (category, costs) = concern(asked);
        books.accounts.paces(&books.accounts.line(id), category, costs, now)
    }

    /// Waits as long as the accounts say, the deepest first.
    pub(super) async fn pace(&self, asked: &Asked, paces: &Paces) -> Result<(), Refused> {
        let _place = self.gates.enter().ok_or(Refused::Crowded)?;
        for &(account, pace) in paces {
            match pace {
                Pace::Delay(delay) => self.wait_out(account, asked, delay).await,
                Pace::PerMinute(_) => self.pass(account, asked).await,
            }
        }
        Ok(())
    }

    /// Waits so long, or until nothing is slowed down any more.
    async fn wait_out(&self, account: AccountId, asked: &Asked, delay: Duration) {
        let mut left = delay;
        while !left.is_zero() {
            let step = left.min(LOOK);
            tokio::time::sleep(step).await;
            left -= step;
            if !left.is_zero() && self.pace_now(account, asked).is_none() {
                return;
            }
        }
    }

    /// Passes an account's gate.
    async fn pass(&self, account: AccountId, asked: &Asked) {
        let gate = self.gates.of(account);
        let mut next = gate.lock().await;
        loop {
            let Some(Pace::PerMinute(rate)) = self.pace_now(account, asked) else { return };
            let now = clock::monotonic_ns();
            if *next <= now {
                *next = now + MINUTE_NS / u64::from(rate.max(1));
                return;
            }
            tokio::time::sleep(Duration::from_nanos(*next - now).min(LOOK)).await;
        }
    }

    fn pace_now(&self, account: AccountId, asked: &Asked) -> Option<Pace> {
        let books = self.books.lock();
        let (category, costs) = concern(asked);
        books.accounts.is_open(account).then(|| books.accounts.pace(account, category, costs, clock::now())).flatten()
    }
}

fn concern(asked: &Asked) -> (Category, bool) {
    (Category::named(&asked.request.category), asked.quote.worst() > Pico::ZERO)
}
