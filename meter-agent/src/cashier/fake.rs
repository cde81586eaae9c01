//! A book in memory, and what the cashier's tests share. The real one is a mapped page of the kernel.

use std::{path::Path, sync::Arc};

use meter_common::{AccountRef, Balance, SLOTS};
use parking_lot::Mutex;

use super::{Asked, Cashier, Durability, Given, Hold, Plan, Refused};
use crate::{
    accounts::{Accounts, LimitRule, State, policy::Policy},
    clock::Timestamp,
    exchange::{Detail, LLM, Outcome, Row},
    ids::{AccountPath, ExchangeId, Process},
    kernel::Book,
    money::Pico,
    pricing::{PriceKind, Quote},
    usage::{Quality, Usage},
};

pub(super) const NOW: Timestamp = Timestamp::from_micros(1_800_000_000_000_000);

pub(super) struct Page(Mutex<Vec<Balance>>);

impl Page {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(vec![Balance::default(); SLOTS as usize])))
    }

    /// As the kernel's map stands when the sidecar dies now.
    pub(super) fn survivor(&self) -> Arc<Self> {
        Arc::new(Self(Mutex::new(self.0.lock().clone())))
    }
}

impl Book for Page {
    fn publish(&self, slot: u32, record: &Balance) {
        self.0.lock()[slot as usize] = *record;
    }

    fn read(&self, slot: u32) -> Balance {
        self.0.lock()[slot as usize]
    }
}

/// That budget for the agent `research`.
pub(super) fn plan(budget: Option<i64>) -> Plan {
    let limits = budget.map(|amount| LimitRule::budget(Pico::new(amount))).into_iter().collect();
    Plan { agents: vec![(path("research"), Policy { limits, ..Policy::default() })], ..Plan::default() }
}

/// A cashier on a fresh folder, or again on an old one.
pub(super) fn open(dir: &Path, page: &Arc<Page>, budget: Option<i64>, survived: bool) -> Arc<Cashier> {
    let plan = plan(budget);
    let book: Arc<dyn Book> = Arc::clone(page) as _;
    Cashier::open(dir, book, &plan, Durability::Full, survived, NOW).unwrap()
}

pub(super) fn path(text: &str) -> AccountPath {
    text.parse().unwrap()
}

/// Opened with a budget, or without.
pub(super) fn given(budget: Option<i64>) -> Given {
    Given::budget(budget.map(Pico::new))
}

pub(super) fn process() -> Process {
    Process { pid: 42, start_ticks: 7, exe: "/usr/bin/curl".to_owned() }
}

/// A request that costs at most `amount` and leaves nothing to clamp.
pub(super) fn fixed(amount: i64) -> Quote {
    Quote::fixed(Pico::new(amount))
}

pub(super) fn asked(account: AccountRef, amount: i64) -> Asked {
    Asked {
        account,
        process: process().into(),
        request: Arc::default(),
        quote: fixed(amount),
        fallbacks: Vec::new(),
        degraded: false,
        fingerprint: None,
    }
}

#[expect(clippy::result_large_err, reason = "as for Cashier::admit")]
pub(super) fn admit(cashier: &Arc<Cashier>, account: AccountRef, amount: i64) -> Result<Hold, Refused> {
    cashier.admit_now(&asked(account, amount), NOW)
}

pub(super) fn row(cost: i64) -> Row {
    Row {
        id: ExchangeId::new(),
        time: NOW,
        account: path("research/t"),
        process: process(),
        provider: "openai".to_owned(),
        endpoint: "chat_completions".to_owned(),
        host: "api.openai.com".to_owned(),
        method: "POST".to_owned(),
        path: "/v1/chat/completions".to_owned(),
        model: Some("gpt-5".to_owned()),
        requested_model: Some("gpt-5".to_owned()),
        status: Some(200),
        stream: true,
        usage: Usage { input_tokens: 3, input_uncached: 2, cache_read: 1, output_tokens: u64::MAX, ..Usage::default() },
        usage_quality: Quality::Exact,
        held_usd: Pico::ZERO,
        cost_usd: Pico::new(cost),
        price: PriceKind::Priced,
        clamped: Some(1_024),
        outcome: Outcome::Complete,
        ttfb_ms: None,
        duration_ms: 12,
        request_id: Some("req_1".to_owned()),
        reason: None,
        count: 1,
        category: LLM.to_owned(),
        notional_usd: None,
        detail: Detail::default(),
        corrects: None,
    }
}

pub(super) fn spent(cashier: &Cashier, account: &str) -> i64 {
    cashier.summary(&path(account)).unwrap().spent.get()
}

/// The map says what memory says, for every bound account.
pub(super) fn assert_published(cashier: &Cashier, page: &Page) {
    let books = cashier.books.lock();
    let accounts: &Accounts = &books.accounts;
    for (id, bound) in books.slots.bound() {
        let (account, record) = (accounts.get(id), page.read(bound.slot));
        assert_eq!(record.generation, bound.generation, "{}", account.path);
        assert_eq!(record.remaining, accounts.remaining_word(account), "{}", account.path);
        assert_eq!(record.spent, account.spent().get(), "{}", account.path);
        assert_eq!(record.hold_granted.wrapping_sub(record.hold_ended), account.held().get(), "{}", account.path);
        assert_eq!(record.state, account.state.word(), "{}", account.path);
        assert_eq!(record.flags, account.flags());
        let parent = books.slots.reference(account.parent).unwrap();
        assert_eq!(record.parent, parent.slot, "{}", account.path);
        assert!(account.state != State::Stopped || account.holds == 0);
    }
}
