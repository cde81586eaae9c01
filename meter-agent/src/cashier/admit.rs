//! A request's way to its hold: granted at once, after a wait for other holds, or refused.

use std::sync::Arc;

use meter_common::AccountRef;

use super::{Books, Cashier, Hold, RequestLine, hold::HoldParts, waiting::Ticket};
use crate::{
    accounts::{AccountId, Ask, Category, Denied, Grant, Paces, State, policy::Degrade},
    clock::{self, Timestamp},
    exchange::LLM,
    ids::{ExchangeId, Process},
    ledger::{HoldRecord, Op},
    pricing::Quote,
    usage::BudgetFacts,
};

/// A request that asks to be admitted.
#[derive(Clone, Debug)]
pub struct Asked {
    pub account: AccountRef,
    pub process: Arc<Process>,
    /// What the hold's row says if it is never resolved.
    pub request: Arc<RequestLine>,
    pub quote: Quote,
    /// Other models that may answer it.
    pub fallbacks: Vec<String>,
    /// Its model has been replaced by a cheaper one already.
    pub degraded: bool,
    /// What the request says, as a hash; `None` where nobody watches for repeats.
    pub fingerprint: Option<u64>,
}

/// Why a request was not admitted.
#[derive(Clone, Debug)]
pub enum Refused {
    /// It does not fit a limit; `status` is what the account's policy answers with.
    Budget { facts: BudgetFacts, status: u16 },
    /// It does not fit; with a cheaper model it may.
    Degrade { by: Arc<Degrade>, facts: BudgetFacts, status: u16 },
    /// The account may not use that model.
    Model { account: String, model: String },
    /// The account is not open any more (stopped, revoked, closed) or is unknown (a stale reference).
    NotOpen { account: String, state: &'static str, reason: Option<String>, budget: Option<BudgetFacts>, status: u16 },
    /// Too many requests are slowed down already.
    Crowded,
    /// The ledger cannot be written; nothing is admitted until it can.
    Ledger(String),
}

/// What became of a try.
pub(super) enum Tried {
    Held(Hold),
    Refused(Refused),
    /// It would fit once other holds have ended.
    Crowded {
        on: AccountId,
    },
}

impl Tried {
    /// Of a try by one who can't wait.
    #[expect(clippy::result_large_err, reason = "as for Cashier::admit")]
    pub(super) fn last_word(self) -> Result<Hold, Refused> {
        match self {
            Self::Held(hold) => Ok(hold),
            Self::Refused(refused) => Err(refused),
            Self::Crowded { .. } => unreachable!("who can't wait is not told to"),
        }
    }
}

/// What becomes of a request that may wait.
enum Asking {
    Done(Box<Result<Hold, Refused>>),
    Queued(Box<Ticket>),
    /// It is slowed down first.
    Paced(Box<Asked>, Paces),
}

impl Cashier {
    /// Holds the worst case on the whole path to the host, in one step, or nothing. Where it does not fit only because
    /// of other holds it waits for them, in the order of arrival, as long as the account's policy says. Before that it
    /// is slowed down where an account is in the stage `throttle`. Dropped, it waits no longer.
    pub async fn admit(self: &Arc<Self>, asked: Asked, now: Timestamp) -> Result<Hold, Refused> {
        let (mut asked, mut now, mut paced) = (asked, now, false);
        loop {
            match self.ask(asked, now, paced) {
                Asking::Done(result) => return *result,
                Asking::Queued(ticket) => return ticket.wait().await,
                Asking::Paced(again, paces) => {
                    self.pace(&again, &paces).await?;
                    (asked, now, paced) = (*again, clock::now(), true);
                }
            }
        }
    }

    /// As [`Self::admit`], for one who can't wait.
    #[expect(clippy::result_large_err, reason = "a refusal is rare, and its facts go into the answer as they are")]
    pub fn admit_now(self: &Arc<Self>, asked: &Asked, now: Timestamp) -> Result<Hold, Refused> {
        let mut books = self.books.lock();
        self.advance(&mut books, now);
        let tried = self.attempt(&mut books, asked, now, false);
        drop(books);
        self.writer.wake_up();
        tried.last_word()
    }

    /// Whether the account may use a model that it names after it was admitted, or one that nobody can name.
    #[expect(clippy::result_large_err, reason = "as for Cashier::admit")]
    pub fn permit(&self, account: AccountRef, model: Option<&str>, now: Timestamp) -> Result<(), Refused> {
        let mut books = self.books.lock();
        let Some(id) = books.slots.owner(account) else { return Err(stale()) };
        match books.accounts.permit(id, model) {
            Ok(None) => Ok(()),
            Ok(Some(loose)) => {
                self.tell_loose(&mut books, Some(&loose), now);
                drop(books);
                self.writer.wake_up();
                Ok(())
            }
            Err(at) => {
                let account = books.accounts.get(at).path.to_string();
                Err(Refused::Model { account, model: model.unwrap_or_default().to_owned() })
            }
        }
    }

    /// Why nothing of the account is admitted, not even what costs nothing; `None` while it is open.
    pub fn shut(&self, account: AccountRef) -> Option<Refused> {
        let books = self.books.lock();
        let Some(id) = books.slots.owner(account) else { return Some(stale()) };
        let shut = books.accounts.line(id).into_iter().find(|&at| books.accounts.get(at).state != State::Open)?;
        let account = books.accounts.get(shut);
        Some(Refused::NotOpen {
            account: account.path.to_string(),
            state: account.state.as_str(),
            reason: account.reason.clone(),
            budget: None,
            status: account.policy.refusal_status,
        })
    }

    /// The hold or the refusal, or what it has to wait for.
    fn ask(self: &Arc<Self>, asked: Asked, now: Timestamp, paced: bool) -> Asking {
        let mut books = self.books.lock();
        self.advance(&mut books, now);
        // One that goes on with a cheaper model has been slowed down already.
        if !paced && !asked.degraded {
            self.watch_request(&mut books, &asked, now);
            let paces = Self::paces(&books, &asked, now);
            if !paces.is_empty() {
                drop(books);
                self.writer.wake_up();
                return Asking::Paced(Box::new(asked), paces);
            }
        }
        let tried = match Self::queue_before(&books, &asked) {
            Some(on) => Tried::Crowded { on },
            None => self.attempt(&mut books, &asked, now, true),
        };
        let tried = match tried {
            Tried::Crowded { on } => match self.enqueue(&mut books, &asked, on) {
                Some(ticket) => {
                    drop(books);
                    self.writer.wake_up();
                    return Asking::Queued(Box::new(ticket));
                }
                None => self.attempt(&mut books, &asked, now, false),
            },
            done @ (Tried::Held(_) | Tried::Refused(_)) => done,
        };
        drop(books);
        self.writer.wake_up();
        Asking::Done(Box::new(tried.last_word()))
    }

    /// One try under the lock. The writer is told, and woken by the caller once the lock is free.
    pub(super) fn attempt(self: &Arc<Self>, books: &mut Books, asked: &Asked, now: Timestamp, patient: bool) -> Tried {
        if let Some(fault) = self.writer.fault() {
            return Tried::Refused(Refused::Ledger(fault));
        }
        let Some(id) = books.slots.owner(asked.account) else { return Tried::Refused(stale()) };
        let ask = Ask {
            quote: &asked.quote,
            category: Category::named(&asked.request.category),
            model: asked.request.requested_model.as_deref(),
            fallbacks: &asked.fallbacks,
            names_model: asked.request.category == LLM,
            degraded: asked.degraded,
            patient,
            now,
        };
        match books.accounts.admit(id, &ask) {
            Ok(grant) => {
                self.tell_loose(books, grant.would_refuse.as_deref(), now);
                Tried::Held(self.granted(books, id, asked, &grant, now))
            }
            Err(Denied::Wait { on, .. }) => Tried::Crowded { on },
            Err(denied) => Tried::Refused(self.refused(books, denied, asked)),
        }
    }

    fn granted(
        self: &Arc<Self>,
        books: &mut Books,
        id: AccountId,
        asked: &Asked,
        grant: &Grant,
        now: Timestamp,
    ) -> Hold {
        books.publish_line(id);
        let line = books.accounts.line(id);
        let path = books.accounts.get(id).path.clone();
        let record = Arc::new(HoldRecord {
            id: ExchangeId::new(),
            account: id,
            amount: grant.amounts.usd,
            tokens: grant.amounts.tokens,
            clamp: grant.clamp,
            time: now,
            process: Arc::clone(&asked.process),
            request: Arc::clone(&asked.request),
        });
        let (reply, durable) = self.durable_reply();
        self.writer.push_quietly(Op::Hold { line, hold: Arc::clone(&record) }, reply);
        Hold::new(path, grant, asked.degraded, HoldParts { cashier: Arc::clone(self), record }, durable)
    }

    fn refused(&self, books: &mut Books, denied: Denied, asked: &Asked) -> Refused {
        let status = |books: &Books, id| books.accounts.get(id).policy.refusal_status;
        let owner = books.slots.owner(asked.account).unwrap_or(AccountId::HOST);
        match denied {
            Denied::Wait { on, facts } => Refused::Budget { facts: *facts, status: status(books, on) },
            Denied::Degrade { by, facts } => Refused::Degrade { by, facts: *facts, status: status(books, owner) },
            Denied::Budget { account, facts, changes } => {
                self.changed(books, &changes);
                Refused::Budget { facts: *facts, status: status(books, account) }
            }
            Denied::Model { account, model } => Refused::Model {
                account: books.accounts.get(account).path.to_string(),
                model: model.unwrap_or_default(),
            },
            Denied::NotOpen { account, state, facts } => Refused::NotOpen {
                status: status(books, account),
                reason: books.accounts.get(account).reason.clone(),
                account: books.accounts.get(account).path.to_string(),
                state: state.as_str(),
                budget: facts.map(|facts| *facts),
            },
        }
    }
}

fn stale() -> Refused {
    let status = crate::accounts::policy::REFUSAL_STATUS;
    Refused::NotOpen { account: "unknown".to_owned(), state: "unknown", reason: None, budget: None, status }
}
