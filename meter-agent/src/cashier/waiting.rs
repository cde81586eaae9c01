//! Requests that wait for other holds to end: in the order of their arrival, by the account whose limit is crowded.
//!
//! Nobody overtakes: whoever comes to a queue that is not empty joins it. A wait ends with a hold, with a refusal, when
//! the policy's time is over, or when whoever waits is gone.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use parking_lot::MutexGuard;
use tokio::sync::oneshot;

use super::{
    Books, Cashier, Hold,
    admit::{Asked, Refused, Tried},
};
use crate::{
    accounts::{AccountId, Line},
    clock,
    money::Pico,
};

/// Requests that may wait on a host at one time, at a few hundred bytes each, beside the bodies that they hold.
pub(super) const WAITERS_MAX: usize = 4_096;

type Answer = Result<Hold, Refused>;

/// Everyone who waits.
#[derive(Default)]
pub(super) struct Waiting {
    /// By number of arrival.
    waiters: BTreeMap<u64, Waiter>,
    queues: HashMap<AccountId, VecDeque<u64>>,
    arrivals: u64,
}

struct Waiter {
    asked: Arc<Asked>,
    tell: oneshot::Sender<Answer>,
}

/// Answers that are told once the lock is free.
#[must_use]
pub(super) struct Told(Vec<(oneshot::Sender<Answer>, Answer)>);

impl Told {
    pub(super) fn tell(self) {
        for (tell, answer) in self.0 {
            // Whoever has left in between needs no hold.
            if let Err(Ok(hold)) = tell.send(answer) {
                hold.release();
            }
        }
    }
}

/// A place in a queue.
pub(super) struct Ticket {
    cashier: Arc<Cashier>,
    number: u64,
    asked: Arc<Asked>,
    told: oneshot::Receiver<Answer>,
    wait: Duration,
}

impl Ticket {
    pub(super) async fn wait(mut self) -> Answer {
        if let Ok(Ok(answer)) = tokio::time::timeout(self.wait, &mut self.told).await {
            return answer;
        }
        if let Some(answer) = self.give_up() {
            return answer;
        }
        // It came to be looked at in this moment: its answer is on the way.
        match (&mut self.told).await {
            Ok(answer) => answer,
            Err(_) => self.cashier.admit_now(&self.asked, clock::now()),
        }
    }

    /// Waits no longer: what can be had now is the last word. `None` where it does not stand in the queue any more.
    fn give_up(&self) -> Option<Answer> {
        let mut books = self.cashier.books.lock();
        books.waiting.waiters.remove(&self.number)?;
        let now = clock::now();
        self.cashier.advance(&mut books, now);
        let tried = self.cashier.attempt(&mut books, &self.asked, now, false);
        self.cashier.serve_behind(books, &self.asked);
        Some(tried.last_word())
    }

    fn leave(&self) {
        let mut books = self.cashier.books.lock();
        if books.waiting.waiters.remove(&self.number).is_some() {
            self.cashier.serve_behind(books, &self.asked);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.leave();
        if let Ok(Ok(hold)) = self.told.try_recv() {
            hold.release();
        }
    }
}

impl Waiting {
    fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }

    /// The first of a queue who has not left.
    fn first(&mut self, on: AccountId) -> Option<u64> {
        let queue = self.queues.get_mut(&on)?;
        while let Some(number) = queue.front() {
            if self.waiters.contains_key(number) {
                return Some(*number);
            }
            queue.pop_front();
        }
        self.queues.remove(&on);
        None
    }

    fn join(&mut self, on: AccountId, number: u64) {
        self.queues.entry(on).or_default().push_back(number);
    }

    fn leave_queue(&mut self, on: AccountId) {
        if let Some(queue) = self.queues.get_mut(&on) {
            queue.pop_front();
        }
    }
}

impl Cashier {
    /// How many requests wait now.
    pub fn waiting(&self) -> usize {
        self.books.lock().waiting.waiters.len()
    }

    /// The account on the request's path at which others wait already. What costs nothing waits for nobody.
    pub(super) fn queue_before(books: &Books, asked: &Asked) -> Option<AccountId> {
        if books.waiting.is_empty() || asked.quote.worst() == Pico::ZERO {
            return None;
        }
        let id = books.slots.owner(asked.account)?;
        let waits = |at: &AccountId| {
            let queue = books.waiting.queues.get(at);
            queue.is_some_and(|queue| queue.iter().any(|number| books.waiting.waiters.contains_key(number)))
        };
        books.accounts.is_open(id).then(|| books.accounts.line(id).into_iter().find(waits)).flatten()
    }

    /// A place at the end of the account's queue; `None` where it may not wait, or there is no room for one more.
    pub(super) fn enqueue(self: &Arc<Self>, books: &mut Books, asked: &Asked, on: AccountId) -> Option<Ticket> {
        let wait = books.slots.owner(asked.account).map_or(Duration::ZERO, |id| books.accounts.get(id).policy.wait);
        if wait.is_zero() || books.waiting.waiters.len() >= WAITERS_MAX {
            return None;
        }
        let asked = Arc::new(asked.clone());
        let (tell, told) = oneshot::channel();
        let waiting = &mut books.waiting;
        waiting.arrivals += 1;
        let number = waiting.arrivals;
        waiting.waiters.insert(number, Waiter { asked: Arc::clone(&asked), tell });
        waiting.join(on, number);
        Some(Ticket { cashier: Arc::clone(self), number, asked, told, wait })
    }

    /// Admits those who waited for what has just ended on a path. Frees the lock.
    pub(super) fn serve_line(&self, mut books: MutexGuard<'_, Books>, line: &Line) {
        let mut told = Told(Vec::new());
        if !books.waiting.is_empty() {
            line.iter().for_each(|&on| self.serve_queue(&mut books, on, &mut told));
        }
        drop(books);
        self.writer.wake_up();
        told.tell();
    }

    /// One who stood in the way may have left: what comes behind may fit. Frees the lock.
    fn serve_behind(&self, books: MutexGuard<'_, Books>, asked: &Asked) {
        let Some(id) = books.slots.owner(asked.account) else { return self.wake_all(books) };
        let line = books.accounts.line(id);
        self.serve_line(books, &line);
    }

    /// Looks at everyone who waits: limits, states or the time have changed. Frees the lock.
    pub(super) fn wake_all(&self, mut books: MutexGuard<'_, Books>) {
        let mut told = Told(Vec::new());
        let queues: Vec<AccountId> = books.waiting.queues.keys().copied().collect();
        for on in queues {
            self.serve_queue(&mut books, on, &mut told);
        }
        drop(books);
        self.writer.wake_up();
        told.tell();
    }

    fn serve_queue(&self, books: &mut Books, on: AccountId, told: &mut Told) {
        let Some(me) = self.me.upgrade() else { return };
        while let Some(number) = books.waiting.first(on) {
            let Some(waiter) = books.waiting.waiters.remove(&number) else { return };
            let answer = match me.attempt(books, &waiter.asked, clock::now(), true) {
                Tried::Held(hold) => Ok(hold),
                Tried::Refused(refused) => Err(refused),
                Tried::Crowded { on: other } => {
                    books.waiting.waiters.insert(number, waiter);
                    if other == on {
                        return;
                    }
                    books.waiting.leave_queue(on);
                    books.waiting.join(other, number);
                    continue;
                }
            };
            books.waiting.leave_queue(on);
            told.0.push((waiter.tell, answer));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cashier::fake::{NOW, Page, asked, given, open, path};

    #[tokio::test]
    async fn an_answer_that_is_on_its_way_as_the_time_ends_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let cashier = open(dir.path(), &Page::new(), Some(100), false);
        let task = cashier.bind(&path("research/t"), &given(None), NOW).unwrap();
        let first = cashier.admit_now(&asked(task, 80), NOW).unwrap();
        let (mut ticket, waiter) = {
            let mut books = cashier.books.lock();
            let on = books.slots.owner(task).unwrap();
            let ticket = cashier.enqueue(&mut books, &asked(task, 60), on).unwrap();
            let waiter = books.waiting.waiters.remove(&ticket.number).unwrap();
            (ticket, waiter)
        };
        ticket.wait = Duration::ZERO;
        let mut waiting = Box::pin(ticket.wait());
        // It was looked at already, and is not refused for want of the room that it is just given.
        assert!(tokio::time::timeout(Duration::from_millis(50), &mut waiting).await.is_err());
        first.release();
        let granted = cashier.admit_now(&waiter.asked, NOW);
        assert!(waiter.tell.send(granted).is_ok());
        assert_eq!(waiting.await.unwrap().amount, Pico::new(60));
    }
}
