//! What is unusual about an account's use, and what is done about it.
//!
//! - Pace: 80 % of a limit is gone within the first tenth of the time in which it is meant to be spent (`expect`),
//!   counted from the first use in the limit's window.
//! - Repeat: the same request came so many times in a row (`repeats`).
//! - Baseline: a day's spend is above 3 times the mean of the days before it: of the last 14, or of as many as the
//!   account is old, and of 3 at least.
//!
//! Each is told once: per window, per row of repeats, per day. An account that is not enforced is only told about.
//! Nothing here is kept over a restart but what the tallies hold.

use std::time::Duration;

use smallvec::SmallVec;

use super::{
    AccountId, Accounts, Category, Limit, LimitKey, QUARTER_MICROS, Window,
    policy::{AtLimit, Reaction},
    stage::{Mark, Passed},
};
use crate::{clock::Timestamp, events::EventKind, money::Pico};

/// How much of a limit must be gone to be told, in percent, and in which part of the time.
const PACE_PERCENT: i128 = 80;
const PACE_PART: i64 = 10;
/// Days that a baseline is made of, and those without which there is none.
const BASELINE_DAYS: i64 = 14;
const BASELINE_DAYS_MIN: i64 = 3;
const BASELINE_TIMES: i64 = 3;
const DAY_MICROS: i64 = 24 * 60 * 60 * 1_000_000;
/// Limits of which it is remembered that they would have refused: few accounts have more.
const WOULD_MAX: usize = 16;

/// Something to tell, and to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    pub account: AccountId,
    pub kind: EventKind,
    pub text: String,
    pub reaction: Reaction,
}

pub type Notices = Vec<Notice>;

/// A charge as it is looked at.
#[derive(Clone, Copy, Debug)]
pub struct Charged {
    /// When its request came.
    pub at: Timestamp,
    pub cost: Pico,
    /// What was set aside for it; `None` where nothing was.
    pub held: Option<Pico>,
}

/// What would have refused a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Obstacle {
    Limit(LimitKey),
    /// A ceiling of one request.
    Ceiling,
    Model,
    /// The account's time is over.
    Until,
}

/// A request that was let through all the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loose {
    pub account: AccountId,
    pub obstacle: Obstacle,
    /// How it stood, in one sentence.
    pub text: String,
}

/// What is remembered of an account, so that each thing is told once.
#[derive(Clone, Debug, Default)]
pub(super) struct Watched {
    pub(super) marks: SmallVec<[Mark; 1]>,
    courses: Vec<Course>,
    streak: Option<Streak>,
    day: Option<Day>,
    would: Vec<(Obstacle, Timestamp)>,
    /// The hour in which an overrun was told.
    overrun: Option<Timestamp>,
}

/// How a limit is spent in its window.
#[derive(Clone, Copy, Debug)]
struct Course {
    key: LimitKey,
    start: Timestamp,
    first: Timestamp,
    told: bool,
    paced_until: Option<Timestamp>,
}

/// The same request again and again.
#[derive(Clone, Copy, Debug)]
struct Streak {
    request: u64,
    times: u32,
    paced: bool,
}

#[derive(Clone, Copy, Debug)]
struct Day {
    start: Timestamp,
    /// What the days before it spent on the mean; `None` while there are too few.
    baseline: Option<Pico>,
    told: bool,
    paced_until: Option<Timestamp>,
}

impl Watched {
    /// Whether something unusual slows the account down.
    pub(super) fn paced(&self, now: Timestamp) -> bool {
        let until = |until: Option<Timestamp>| until.is_some_and(|until| now < until);
        self.streak.is_some_and(|streak| streak.paced)
            || self.day.is_some_and(|day| until(day.paced_until))
            || self.courses.iter().any(|course| until(course.paced_until))
    }
}

impl Accounts {
    /// What a charge gives to tell, on every account of its path. The charge is posted already.
    pub fn look(&mut self, line: &[AccountId], charged: &Charged) -> Notices {
        let mut notices = Notices::new();
        if let (Some(held), Some(&id)) = (charged.held, line.first())
            && charged.cost > held
        {
            self.overrun(id, charged.cost, held, &mut notices);
        }
        if !charged.cost.is_positive() && charged.held.is_none() {
            return notices;
        }
        for &id in line {
            for passed in self.passed(id) {
                self.tell_passed(id, &passed, &mut notices);
            }
            if charged.cost.is_positive() {
                self.look_at_pace(id, charged, &mut notices);
                self.look_at_day(id, &mut notices);
            }
        }
        notices
    }

    /// Takes notice of a request by what it says; told when it has come so many times in a row as the policy names.
    pub fn repeated(&mut self, id: AccountId, request: u64) -> Option<Notice> {
        let account = self.get_mut(id);
        let most = account.policy.repeats;
        if most == 0 {
            account.watched.streak = None;
            return None;
        }
        let streak = account.watched.streak.filter(|streak| streak.request == request);
        let mut streak = streak.unwrap_or(Streak { request, times: 0, paced: false });
        streak.times = streak.times.saturating_add(1);
        let reaction = account.reaction(account.policy.on_repeat);
        let told = streak.times == most;
        streak.paced |= told && reaction == Reaction::Throttle;
        account.watched.streak = Some(streak);
        told.then(|| Notice {
            account: id,
            kind: EventKind::Repeat,
            text: format!("the same request came {most} times in a row"),
            reaction,
        })
    }

    /// Told once per limit and window.
    pub fn would_refuse(&mut self, loose: &Loose) -> Option<Notice> {
        let start = match loose.obstacle {
            Obstacle::Limit(key) => self.start_of(key),
            Obstacle::Ceiling | Obstacle::Model | Obstacle::Until => {
                self.calendar().start(Window::Day).unwrap_or_default()
            }
        };
        let would = &mut self.get_mut(loose.account).watched.would;
        if would.contains(&(loose.obstacle, start)) {
            return None;
        }
        would.retain(|(obstacle, _)| *obstacle != loose.obstacle);
        if would.len() >= WOULD_MAX {
            would.remove(0);
        }
        would.push((loose.obstacle, start));
        let text = format!("a request went on that would have been refused: {}", loose.text);
        Some(Notice { account: loose.account, kind: EventKind::WouldRefuse, text, reaction: Reaction::Tell })
    }

    fn tell_passed(&self, id: AccountId, passed: &Passed, notices: &mut Notices) {
        let Passed { limit, used, percent, stage } = passed;
        let account = self.get(id);
        let of = format!("{percent} % of the limit {} ({}) is gone", limit.describe(), limit.key.category);
        let text = format!("{of}: {} used; stage {}", limit.measure(*used), stage.as_str());
        let tell = |kind, text| Notice { account: id, kind, text, reaction: Reaction::Tell };
        // Beyond the limit only the overage is news.
        if *percent < 110 || account.policy.at_limit != AtLimit::Continue {
            notices.push(tell(EventKind::Stage, text));
        }
        if *percent >= 100 && account.policy.enforce && account.policy.at_limit == AtLimit::Continue {
            let beyond = limit.measure(used.saturating_sub(limit.amount));
            notices.push(tell(EventKind::Overage, format!("{of}, and requests go on: {beyond} beyond it")));
        }
    }

    /// Told once an hour: a price that is wrong would be told with every answer.
    fn overrun(&mut self, id: AccountId, cost: Pico, held: Pico, notices: &mut Notices) {
        let hour = self.calendar().start(Window::Hour).unwrap_or_default();
        let account = self.get_mut(id);
        if account.watched.overrun.replace(hour) != Some(hour) {
            let text = format!("a provider charged ${cost} where ${held} was set aside");
            notices.push(Notice { account: id, kind: EventKind::Overrun, text, reaction: Reaction::Tell });
        }
    }

    fn look_at_pace(&mut self, id: AccountId, charged: &Charged, notices: &mut Notices) {
        let Some(expect) = self.get(id).policy.expect else { return };
        for limit in self.get(id).limits.clone() {
            let (used, start) = (self.used_of(self.get(id), &limit), self.start_of(limit.key));
            // The charge was for something else, and the limit's time has not begun.
            if used <= 0 {
                continue;
            }
            let mut course = self.course(id, &limit, charged, used);
            let early = charged.at.micros() - course.first.micros() <= micros(expect) / PACE_PART;
            let gone = i128::from(used) * 100 >= i128::from(limit.amount) * PACE_PERCENT;
            let reaction = self.get(id).reaction(self.get(id).policy.on_pace);
            if early && gone && !course.told && limit.amount > 0 {
                course.told = true;
                let until = Timestamp::from_micros(course.first.micros().saturating_add(micros(expect)));
                let end = self.calendar().reset(limit.key.window).map_or(until, |reset| reset.min(until));
                course.paced_until = (reaction == Reaction::Throttle).then_some(end);
                notices.push(Notice {
                    account: id,
                    kind: EventKind::Pace,
                    text: format!(
                        "{} of the limit {} ({}) are used within the first tenth of the {} s that it is meant for",
                        limit.measure(used),
                        limit.describe(),
                        limit.key.category,
                        expect.as_secs(),
                    ),
                    reaction,
                });
            }
            let courses = &mut self.get_mut(id).watched.courses;
            courses.retain(|known| known.key != limit.key || known.start != start);
            courses.push(course);
        }
        let current: Vec<_> = self.get(id).limits.iter().map(|limit| (limit.key, self.start_of(limit.key))).collect();
        self.get_mut(id).watched.courses.retain(|course| current.contains(&(course.key, course.start)));
    }

    /// How a limit is spent in its window, from its first use on.
    fn course(&self, id: AccountId, limit: &Limit, charged: &Charged, used: i64) -> Course {
        let (account, start) = (self.get(id), self.start_of(limit.key));
        let known = account.watched.courses.iter().find(|course| course.key == limit.key && course.start == start);
        known.copied().unwrap_or_else(|| {
            // What was used before the start of the meter: in which quarter it began is known.
            let before = used > charged.cost.get() || limit.key.unit != crate::measure::Unit::Usd;
            let tally = account.tally(limit.key.category).filter(|_| before);
            let earlier = tally.and_then(|tally| tally.first_since(start));
            let first = earlier.map_or(charged.at, |earlier| earlier.max(start).min(charged.at));
            Course { key: limit.key, start, first, told: false, paced_until: None }
        })
    }

    fn look_at_day(&mut self, id: AccountId, notices: &mut Notices) {
        let start = self.calendar().start(Window::Day).unwrap_or_default();
        let account = self.get(id);
        let day = account.watched.day.filter(|day| day.start == start);
        let mut day =
            day.unwrap_or_else(|| Day { start, baseline: self.baseline(id, start), told: false, paced_until: None });
        let spent = account
            .tally(Category::ANY)
            .map_or(Pico::ZERO, |tally| tally.used(super::Window::Day, self.calendar().starts()).usd);
        if let Some(baseline) = day.baseline
            && !day.told
            && baseline.is_positive()
            && spent.get() > baseline.get().saturating_mul(BASELINE_TIMES)
        {
            day.told = true;
            let reaction = account.reaction(account.policy.on_baseline);
            let end = self.calendar().reset(super::Window::Day);
            day.paced_until = end.filter(|_| reaction == Reaction::Throttle);
            let text = format!("${spent} spent today, above {BASELINE_TIMES} times the ${baseline} of the days before");
            notices.push(Notice { account: id, kind: EventKind::Baseline, text, reaction });
        }
        self.get_mut(id).watched.day = Some(day);
    }

    /// What the days before one spent on the mean.
    fn baseline(&self, id: AccountId, day: Timestamp) -> Option<Pico> {
        let tally = self.get(id).tally(Category::ANY)?;
        let back = |days: i64| Timestamp::from_micros(day.micros() - days * DAY_MICROS);
        let first = tally.first_since(Timestamp::from_micros(0))?;
        let age = (day.micros() - first.micros()) / DAY_MICROS;
        if age < BASELINE_DAYS_MIN {
            return None;
        }
        let days = age.min(BASELINE_DAYS);
        let spent = tally.since(back(days)).usd.saturating_sub(tally.since(day).usd);
        Some(Pico::new(spent.get() / days))
    }
}

impl super::Account {
    /// What is done where a policy names a reaction: nothing of what is not enforced.
    fn reaction(&self, reaction: Reaction) -> Reaction {
        if self.policy.enforce { reaction } else { Reaction::Tell }
    }
}

impl super::Tally {
    /// When the first quarter that is known from a time on began.
    pub(super) fn first_since(&self, start: Timestamp) -> Option<Timestamp> {
        let first = super::quarter(start);
        let quarter = self.quarters().find(|quarter| *quarter >= first)?;
        Some(Timestamp::from_micros(quarter * QUARTER_MICROS))
    }
}

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}
