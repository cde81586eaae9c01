//! A million random operations on a tree of accounts, against a reference that keeps every posting and adds up what it
//! is asked for. Windows are worked out there by arithmetic of their own.

use std::collections::{BTreeMap, HashMap};

use super::{
    policy::{Policy, Stages},
    tests::{NOW, host},
    *,
};
use crate::{
    measure::{Amounts, Unit},
    pricing::Quote,
};

const OPERATIONS: u64 = 1_000_000;
/// Of so many operations each: a history whose accounts are not yet all spent or shut.
const HISTORY: u64 = 400;
const PATHS: [&str; 6] = ["a", "a/t", "a/u", "a/t/s", "b", "b/t"];
const CATEGORIES: [&str; 3] = ["llm", "web-search", "x402"];
const HOUR: i64 = 3_600_000_000;

/// splitmix64: the numbers of a seed are the same everywhere.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn amount(&mut self, n: u64) -> i64 {
        self.below(n).cast_signed()
    }

    fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        list[usize::try_from(self.below(list.len() as u64)).unwrap()]
    }
}

#[derive(Clone, Copy)]
struct Open {
    at: usize,
    category: Category,
    amounts: Amounts,
}

/// Everything that ever happened, added up by nothing but the quarter.
struct Reference {
    now: i64,
    open: Vec<Open>,
    /// By the account that it counts for, its own category, and the quarter.
    posted: BTreeMap<(usize, &'static str, i64), Amounts>,
    rules: HashMap<usize, Vec<LimitRule>>,
    funded: [i64; PATHS.len()],
    extended: Vec<(usize, i64, i64)>,
}

/// When the window began in which a time lies, in UTC.
fn start(window: Window, now: i64) -> i64 {
    const DAY: i64 = 24 * HOUR;
    match window {
        Window::Hour => now - now.rem_euclid(HOUR),
        Window::Day => now - now.rem_euclid(DAY),
        // The epoch was a Thursday.
        Window::Week => now - (now + 3 * DAY).rem_euclid(7 * DAY),
        Window::Month => {
            let date = jiff::Timestamp::from_microsecond(now).unwrap().to_zoned(TimeZone::UTC);
            let midnight = now - now.rem_euclid(DAY);
            midnight - i64::from(date.day() - 1) * DAY
        }
        Window::Total | Window::Task => i64::MIN,
    }
}

fn path(i: usize) -> AccountPath {
    PATHS[i].parse().unwrap()
}

fn is_below(i: usize, top: usize) -> bool {
    i == top || PATHS[i].strip_prefix(PATHS[top]).is_some_and(|rest| rest.starts_with('/'))
}

impl Reference {
    fn used(&self, top: usize, key: LimitKey) -> i64 {
        let from = start(key.window, self.now).div_euclid(QUARTER_MICROS);
        let all = CATEGORIES.iter().filter(|name| key.category.covers(Category::of(name)));
        let sum = |name: &&'static str| -> i64 {
            self.posted.range((top, *name, from)..=(top, *name, i64::MAX)).map(|(_, used)| used.of(key.unit)).sum()
        };
        all.map(sum).sum::<i64>().max(0)
    }

    fn post(&mut self, at: usize, posting: &Posting) {
        for top in (0..PATHS.len()).filter(|&top| is_below(at, top)) {
            let used = self.posted.entry((top, posting.category.as_str(), quarter(posting.at))).or_default();
            *used = used.plus(posting.used);
        }
    }

    fn held(&self, top: usize, key: LimitKey) -> i64 {
        let of = |open: &&Open| is_below(open.at, top) && key.category.covers(open.category);
        self.open.iter().filter(of).map(|open| open.amounts.of(key.unit)).sum()
    }

    fn amount(&self, i: usize, rule: &LimitRule) -> i64 {
        let funded = if rule.key == LimitKey::BUDGET { self.funded[i] } else { 0 };
        let extended: i64 =
            self.extended.iter().filter(|(at, _, until)| *at == i && *until > self.now).map(|(_, by, _)| by).sum();
        rule.amount + if rule.key.unit == Unit::Usd { funded + extended } else { 0 }
    }

    /// Whether so much more fits every limit above an account.
    fn fits(&self, at: usize, category: Category, more: &Amounts) -> bool {
        self.fits_in(&Unit::ALL, at, category, more)
    }

    fn fits_in(&self, units: &[Unit], at: usize, category: Category, more: &Amounts) -> bool {
        (0..PATHS.len()).filter(|&top| is_below(at, top)).all(|top| {
            let counts = |rule: &&LimitRule| rule.key.category.covers(category) && units.contains(&rule.key.unit);
            self.rules.get(&top).into_iter().flatten().filter(counts).all(|rule| {
                let (used, held) = (self.used(top, rule.key), self.held(top, rule.key));
                let free_of_charge = rule.key.unit == Unit::Usd && more.usd == Pico::ZERO;
                free_of_charge || used + held + more.of(rule.key.unit) <= self.amount(top, rule)
            })
        })
    }

    /// What the accounts say of every limit is what the lists add up to.
    fn check(&self, accounts: &Accounts) {
        for (i, name) in PATHS.iter().enumerate() {
            let account = accounts.get(accounts.id(&path(i)).unwrap());
            let none = Vec::new();
            let rules = self.rules.get(&i).unwrap_or(&none);
            assert_eq!(account.limits.len(), rules.len());
            for (limit, rule) in account.limits.iter().zip(rules) {
                assert_eq!(limit.amount, self.amount(i, rule), "{name} {limit:?}");
                let left = limit.amount - self.used(i, rule.key);
                assert_eq!(accounts.left(account, limit), left, "{name} {limit:?}");
                assert_eq!(account.held_of(limit), self.held(i, rule.key), "{name} {limit:?}");
            }
            let budget = LimitKey::BUDGET;
            assert_eq!(account.spent().get(), self.used(i, budget), "{name}");
            assert_eq!(account.held().get(), self.held(i, budget), "{name}");
            let shut = account.state != State::Open;
            assert!(
                shut || accounts.remaining(account).is_none_or(|left| left > Pico::ZERO)
                    || account.walls_requests_only()
            );
            assert!(account.state != State::Stopped || account.holds == 0);
        }
    }
}

fn rules(dice: &mut Dice) -> Vec<LimitRule> {
    let mut rules: Vec<LimitRule> = Vec::new();
    for _ in 0..dice.below(4) {
        let category = dice.pick(&["any", "any", "llm", "web-search", "x402"]);
        let windows = [Window::Hour, Window::Day, Window::Week, Window::Month, Window::Total];
        let key = LimitKey {
            window: dice.pick(&windows),
            category: Category::named(category),
            unit: dice.pick(&[Unit::Usd, Unit::Usd, Unit::Tokens, Unit::Requests]),
        };
        let most = if key.unit == Unit::Requests { 60 } else { 60_000 };
        if rules.iter().all(|rule| rule.key != key) {
            rules.push(LimitRule { key, amount: dice.amount(most) });
        }
    }
    rules
}

struct History {
    dice: Dice,
    accounts: Accounts,
    reference: Reference,
    admitted: u64,
    refused: u64,
}

impl History {
    fn new(seed: u64) -> Self {
        let mut accounts = host();
        for i in 0..PATHS.len() {
            accounts.ensure(&path(i), &mut Vec::new());
        }
        let reference = Reference {
            now: NOW.micros(),
            open: Vec::new(),
            posted: BTreeMap::new(),
            rules: HashMap::new(),
            funded: [0; PATHS.len()],
            extended: Vec::new(),
        };
        Self { dice: Dice(seed), accounts, reference, admitted: 0, refused: 0 }
    }

    fn id(&self, at: usize) -> AccountId {
        self.accounts.id(&path(at)).unwrap()
    }

    fn some(&mut self) -> usize {
        usize::try_from(self.dice.below(PATHS.len() as u64)).unwrap()
    }

    fn step(&mut self) {
        match self.dice.below(40) {
            0..=15 => self.admit(),
            16..=29 => self.settle(),
            30 | 31 => self.grow(),
            32 => self.edit(),
            33 => self.fund(),
            34 => self.extend(),
            35 | 36 => self.clock(),
            37 => self.shut(),
            _ => {
                let at = self.some();
                let id = self.id(at);
                self.accounts.finish_stop(id);
            }
        }
    }

    fn admit(&mut self) {
        let at = self.some();
        let quote = Quote {
            input: Pico::new(self.dice.amount(3_000)),
            per_output_token: Pico::new(self.dice.amount(3)),
            input_tokens: self.dice.below(2_000),
            choices: 1 + self.dice.below(2),
            output_ceiling: self.dice.below(4_000),
            stated: self.dice.below(2) == 0,
            can_clamp: true,
        };
        let category = Category::named(self.dice.pick(&CATEGORIES));
        let patient = self.dice.below(2) == 0;
        let now = Timestamp::from_micros(self.reference.now);
        let ask = Ask {
            quote: &quote,
            category,
            model: None,
            fallbacks: &[],
            names_model: false,
            degraded: false,
            patient,
            now,
        };
        let id = self.id(at);
        let (was_open, whole) = (
            self.accounts.is_open(id),
            Amounts { usd: quote.worst(), tokens: quote.tokens_at(quote.output_ceiling), requests: 1 },
        );
        match self.accounts.admit(id, &ask) {
            Ok(grant) => {
                self.admitted += 1;
                assert!(was_open);
                assert!(self.reference.fits(at, category, &grant.amounts), "admission overshot");
                assert_eq!(grant.clamp.is_none(), grant.amounts == whole);
                self.reference.open.push(Open { at, category, amounts: grant.amounts });
            }
            Err(Denied::NotOpen { .. }) => assert!(!was_open),
            Err(Denied::Wait { .. }) => {
                assert!(patient && !self.reference.open.is_empty());
                assert!(!self.reference.fits(at, category, &whole), "it waits for nothing");
            }
            Err(Denied::Budget { .. }) => {
                self.refused += 1;
                assert!(!self.reference.fits(at, category, &whole), "refused, and it fits");
            }
            Err(denied) => panic!("{denied:?}"),
        }
    }

    fn settle(&mut self) {
        if self.reference.open.is_empty() {
            return;
        }
        let n = usize::try_from(self.dice.below(self.reference.open.len() as u64)).unwrap();
        let open = self.reference.open.swap_remove(n);
        let within = |dice: &mut Dice, most: i64| dice.amount(most.unsigned_abs() + 1);
        let mut usd = within(&mut self.dice, open.amounts.usd.get());
        if self.dice.below(50) == 0 {
            // The provider charges more than was set aside.
            usd = open.amounts.usd.get() + self.dice.amount(2_000);
        }
        let used = Amounts { usd: Pico::new(usd), tokens: within(&mut self.dice, open.amounts.tokens), requests: 1 };
        // An exchange may have begun in an earlier window, and its clock may have been another.
        let at = Timestamp::from_micros(self.reference.now - self.dice.amount(600_000_000));
        let category = if self.dice.below(20) == 0 { Category::of("x402") } else { open.category };
        let posting = Posting { category, used, at };
        let id = self.id(open.at);
        self.accounts.settle(id, &Held { category: open.category, amounts: open.amounts }, &posting);
        self.reference.post(open.at, &posting);
    }

    fn grow(&mut self) {
        let Some(last) = self.reference.open.len().checked_sub(1) else { return };
        let (open, more) = (self.reference.open[last], Pico::new(self.dice.amount(500)));
        let fits = self.reference.fits_in(&[Unit::Usd], open.at, open.category, &Amounts::usd(more));
        let id = self.id(open.at);
        if self.accounts.grow(id, open.category, more, false) {
            assert!(fits, "a hold that grew overshot");
            self.reference.open[last].amounts.usd = open.amounts.usd.saturating_add(more);
        }
    }

    /// Another config: what was used stays.
    fn edit(&mut self) {
        let at = self.some();
        let rules = rules(&mut self.dice);
        self.reference.rules.insert(at, rules);
        let policy = |at: usize| Policy {
            limits: self.reference.rules.get(&at).cloned().unwrap_or_default(),
            stages: Some(Stages::default()),
            ..Policy::default()
        };
        let plan = Plan { agents: (0..PATHS.len()).map(|i| (path(i), policy(i))).collect(), ..Plan::default() };
        self.accounts.set_plan(&plan, &mut Vec::new());
    }

    fn fund(&mut self) {
        let (at, amount) = (self.some(), 1 + self.dice.amount(5_000));
        let id = self.id(at);
        self.accounts.fund(id, Pico::new(amount));
        self.reference.funded[at] += amount;
    }

    fn extend(&mut self) {
        let (at, by) = (self.some(), 1 + self.dice.amount(5_000));
        let (from, until) = (self.reference.now, self.reference.now + 1 + self.dice.amount(HOUR.unsigned_abs()));
        let id = self.id(at);
        let [from, end] = [from, until].map(Timestamp::from_micros);
        self.accounts.extend(id, Extension { by: Pico::new(by), from, until: end });
        self.reference.extended.push((at, by, until));
    }

    /// Mostly it goes on; now and then it is set, by an hour either way, or by days.
    fn clock(&mut self) {
        let by = match self.dice.below(20) {
            0 if self.dice.below(4) == 0 => -self.dice.amount(90 * 24 * HOUR.unsigned_abs()),
            0 => -HOUR - self.dice.amount(HOUR.unsigned_abs()),
            1 => self.dice.amount(40 * 24 * HOUR.unsigned_abs()),
            2..=4 => HOUR,
            _ => self.dice.amount(300_000_000),
        };
        self.reference.now += by;
        self.accounts.advance(Timestamp::from_micros(self.reference.now));
    }

    fn shut(&mut self) {
        let at = self.some();
        let id = self.id(at);
        if self.dice.below(3) == 0 {
            self.accounts.shut_by(id, State::Revoked, Some("test".to_owned()));
        }
        self.accounts.restore(id);
        self.accounts.give(id, None, &BTreeMap::new());
    }
}

#[test]
fn a_million_operations_add_up_and_overshoot_nothing() {
    let (mut admitted, mut refused) = (0, 0);
    // Other histories, for a long run of it.
    let first: u64 = std::env::var("METER_SEED").map_or(0, |seed| seed.parse().expect("METER_SEED is a number"));
    for seed in 0..OPERATIONS / HISTORY {
        let mut history = History::new(first + seed);
        for n in 0..HISTORY {
            history.step();
            if n % 50 == 0 {
                history.reference.check(&history.accounts);
            }
        }
        history.reference.check(&history.accounts);
        admitted += history.admitted;
        refused += history.refused;
    }
    // A history in which nearly nothing is admitted, or refused, proves little.
    assert!(admitted > OPERATIONS / 20 && refused > OPERATIONS / 100, "{admitted} admitted, {refused} refused");
}
