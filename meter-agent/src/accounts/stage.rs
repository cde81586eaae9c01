//! How much of its limits an account has used: the stages on the way to the wall, what is told at each, and how
//! requests are paced before it.
//!
//! The fullest limit counts. Spend does not fall within a window, so that each point is told once per window: what has
//! been told is kept per limit, and forgotten when its window begins anew or the limit is raised above it. Not kept
//! over a restart: what was passed before one is taken for told.

use std::time::Duration;

use smallvec::SmallVec;

use super::{
    Account, AccountId, Accounts, Category, Limit, LimitKey, Line,
    policy::{AtLimit, Effective, Throttle},
};
use crate::{clock::Timestamp, measure::Unit, money::Pico};

/// What is gone when a limit is.
const ALL: u32 = 100;
/// Beyond a limit, each further tenth of it is told.
const OVERAGE_STEP: u32 = 10;

/// How much of an account's fullest limit is gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    #[default]
    Log,
    Warn,
    Throttle,
    Stop,
}

impl Stage {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Warn => "warn",
            Self::Throttle => "throttle",
            Self::Stop => "stop",
        }
    }

    fn at(percent: u32, policy: &Effective) -> Self {
        match percent {
            _ if percent >= ALL => Self::Stop,
            _ if percent >= u32::from(policy.stages.throttle) => Self::Throttle,
            _ if percent >= u32::from(policy.stages.warn) => Self::Warn,
            _ => Self::Log,
        }
    }
}

/// A point that a limit has come to, and that is to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passed {
    pub limit: Limit,
    /// In the limit's unit.
    pub used: i64,
    pub percent: u32,
    pub stage: Stage,
}

/// What has been told of one limit in its window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    key: LimitKey,
    start: Timestamp,
    told: u32,
}

/// How a request is slowed down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// It waits its turn: so many pass in a minute, evenly.
    PerMinute(u32),
    /// It waits so long.
    Delay(Duration),
}

/// The accounts that slow a request down.
pub type Paces = SmallVec<[(AccountId, Pace); 2]>;

impl Accounts {
    pub fn stage(&self, id: AccountId) -> Stage {
        let account = self.get(id);
        let percents = account.limits.iter().map(|limit| percent(limit, self.used_of(account, limit)));
        percents.max().map_or(Stage::Log, |percent| Stage::at(percent, &account.policy))
    }

    /// What was spent beyond the account's limits of dollars: of the one that is passed by most.
    pub fn overage(&self, account: &Account) -> Pico {
        let money = account.limits.iter().filter(|limit| limit.key.unit == Unit::Usd);
        let beyond = money.map(|limit| Pico::new(self.left(account, limit).saturating_neg()));
        beyond.max().unwrap_or(Pico::ZERO).max(Pico::ZERO)
    }

    /// The points that an account's limits have come to since this was last asked.
    pub fn passed(&mut self, id: AccountId) -> SmallVec<[Passed; 1]> {
        let (account, mut passed) = (self.get(id), SmallVec::new());
        let mut marks: SmallVec<[Mark; 1]> = SmallVec::new();
        for limit in &account.limits {
            let (used, start) = (self.used_of(account, limit), self.start_of(limit.key));
            let percent = percent(limit, used);
            let told = point(percent, &account.policy);
            let before = account.watched.marks.iter().find(|mark| mark.key == limit.key && mark.start == start);
            if used > 0 && told > before.map_or(0, |mark| mark.told) {
                passed.push(Passed { limit: *limit, used, percent, stage: Stage::at(percent, &account.policy) });
            }
            marks.push(Mark { key: limit.key, start, told });
        }
        self.get_mut(id).watched.marks = marks;
        passed
    }

    /// Takes what every account has come to for told: at the start.
    pub fn take_for_told(&mut self) {
        for id in self.ids() {
            self.passed(id);
        }
    }

    /// The limits are others now: what they were raised above is told again.
    pub(super) fn lower_marks(&mut self, id: AccountId) {
        let account = self.get(id);
        let lowered = account.watched.marks.iter().map(|mark| {
            let now = account.limits.iter().find(|limit| limit.key == mark.key);
            let now = now.map_or(0, |limit| point(percent(limit, self.used_of(account, limit)), &account.policy));
            Mark { told: mark.told.min(now), ..*mark }
        });
        let lowered = lowered.collect();
        self.get_mut(id).watched.marks = lowered;
    }

    /// How a request is slowed down, by each account of its path that does so. `costs` says that it may cost money.
    pub fn paces(&self, line: &Line, category: Category, costs: bool, now: Timestamp) -> Paces {
        let paced = line.iter().filter_map(|&at| Some((at, self.pace(at, category, costs, now)?)));
        paced.collect()
    }

    /// How an account slows down what falls under a category.
    pub fn pace(&self, id: AccountId, category: Category, costs: bool, now: Timestamp) -> Option<Pace> {
        let account = self.get(id);
        let policy = &account.policy;
        let watched = account.watched.paced(now);
        if !policy.enforce || account.limits.is_empty() && !watched {
            return None;
        }
        if watched {
            return match policy.throttle {
                Throttle::PerMinute(rate) => Some(Pace::PerMinute(rate.max(1))),
                Throttle::Proportional(most) => Some(Pace::Delay(most)),
                // The config asks for the reaction by name, so that there is one.
                Throttle::Off => {
                    let Throttle::Proportional(most) = Throttle::default() else { return None };
                    Some(Pace::Delay(most))
                }
            };
        }
        let concerned = |limit: &&Limit| {
            limit.amount > 0 && limit.key.category.covers(category) && (costs || limit.key.unit != Unit::Usd)
        };
        let limits = account.limits.iter().filter(concerned);
        let fullest = limits.map(|limit| millionths(limit, self.used_of(account, limit))).max()?;
        let threshold = i64::from(policy.stages.throttle) * 10_000;
        if fullest < threshold {
            return None;
        }
        match policy.throttle {
            Throttle::Off => None,
            Throttle::PerMinute(rate) => Some(Pace::PerMinute(rate.max(1))),
            Throttle::Proportional(most) => Some(Pace::Delay(share(most, fullest - threshold, 1_000_000 - threshold))),
        }
    }

    pub(super) fn used_of(&self, account: &Account, limit: &Limit) -> i64 {
        account.used(limit.key, self.calendar().starts())
    }

    /// When the limit's window began; the same for ever where it has none.
    pub(super) fn start_of(&self, key: LimitKey) -> Timestamp {
        self.calendar().start(key.window).unwrap_or_default()
    }
}

/// The highest point that is told at or below a percentage; 0: none.
fn point(percent: u32, policy: &Effective) -> u32 {
    let stages = [policy.stages.warn, policy.stages.throttle];
    let points = stages.into_iter().chain(policy.stages.alerts.iter().copied()).map(u32::from);
    let within = points.chain([ALL]).filter(|point| *point <= percent).max().unwrap_or(0);
    let beyond = if policy.at_limit == AtLimit::Continue { percent / OVERAGE_STEP * OVERAGE_STEP } else { 0 };
    if percent > ALL { within.max(beyond) } else { within }
}

/// Of a limit of 0 all is gone.
fn percent(limit: &Limit, used: i64) -> u32 {
    u32::try_from(parts(limit, used, 100)).unwrap_or(u32::MAX)
}

fn millionths(limit: &Limit, used: i64) -> i64 {
    parts(limit, used, 1_000_000)
}

fn parts(limit: &Limit, used: i64, whole: i64) -> i64 {
    if limit.amount <= 0 {
        return whole;
    }
    match used.max(0).checked_mul(whole) {
        Some(product) => product / limit.amount,
        None => i64::try_from(i128::from(used) * i128::from(whole) / i128::from(limit.amount)).unwrap_or(i64::MAX),
    }
}

/// `part` of `whole` of a time, and all of it at most.
fn share(time: Duration, part: i64, whole: i64) -> Duration {
    let micros = i128::try_from(time.as_micros()).unwrap_or(i128::MAX >> 64);
    let share = micros * i128::from(part.max(0)) / i128::from(whole.max(1));
    Duration::from_micros(u64::try_from(share).unwrap_or(u64::MAX)).min(time)
}
