//! Why a request is not admitted: which account or limit stands against it, and whether waiting helps.

use std::sync::Arc;

use super::{
    Account, AccountId, Accounts, Ask, Denied, Grant, Limit, LimitKey, Loose, Obstacle, State,
    policy::{AtLimit, Effective},
    room::{Holds, amounts_at, clampable},
};
use crate::{
    clock::Timestamp,
    measure::{Amounts, Measure, Unit},
    usage::{BudgetFacts, Remedy},
};

impl Accounts {
    pub(super) fn shut(&self, line: &[AccountId], ask: &Ask<'_>) -> Result<(), Denied> {
        let over = |account: &Account| account.policy.enforce && account.policy.until.is_some_and(|at| at <= ask.now);
        let shut = |account: &Account| account.state != State::Open || over(account);
        let Some(&at) = line.iter().find(|&&at| shut(self.get(at))) else { return Ok(()) };
        let account = self.get(at);
        let facts = account.budget().map(|limit| Box::new(self.facts(at, Some(limit), ask)));
        let state = if account.state == State::Open { State::Stopped } else { account.state };
        Err(Denied::NotOpen { account: at, state, facts })
    }

    /// What decides on one request: the policy of its account, with the ceilings of the nearest account that enforces.
    pub(super) fn policy_in_force(&self, line: &[AccountId]) -> Arc<Effective> {
        let own = &self.get(line[0]).policy;
        if own.enforce || (own.max_cost.is_none() && own.max_output_tokens.is_none()) {
            return Arc::clone(own);
        }
        let above = line.iter().map(|&at| &self.get(at).policy).find(|policy| policy.enforce);
        Arc::new(Effective {
            max_output_tokens: above.and_then(|policy| policy.max_output_tokens),
            max_cost: above.and_then(|policy| policy.max_cost),
            ..Effective::clone(own)
        })
    }

    /// Whether it goes beyond a limit at which its account goes on.
    pub(super) fn is_beyond(&self, line: &[AccountId], ask: &Ask<'_>, policy: &Effective) -> bool {
        let goes_on = |account: &Account| account.policy.enforce && !account.is_enforced();
        line.iter().any(|&at| goes_on(self.get(at)))
            && self.room(line, ask.category, Holds::Counted, false, goes_on).fit(ask.quote, policy).is_none()
    }

    /// What would refuse it on the accounts that are not enforced.
    pub(super) fn would_deny(&self, line: &[AccountId], ask: &Ask<'_>) -> Option<Loose> {
        let loose = |account: &Account| !account.policy.enforce;
        if !line.iter().any(|&at| loose(self.get(at))) {
            return None;
        }
        let own = &self.get(line[0]).policy;
        if self.room(line, ask.category, Holds::Counted, false, loose).fit(ask.quote, own).is_some() {
            return None;
        }
        let (account, limit) = self.tightest(line, ask, loose, least_output(ask, own));
        let obstacle = limit.map_or(Obstacle::Ceiling, |limit| Obstacle::Limit(limit.key));
        Some(Loose { account, obstacle, text: self.facts(account, limit.as_ref(), ask).sentence() })
    }

    /// An account that is not enforced and whose time is over.
    pub(super) fn over(&self, line: &[AccountId], ask: &Ask<'_>) -> Option<Loose> {
        let ended = |policy: &Effective| policy.until.filter(|until| !policy.enforce && *until <= ask.now);
        let (account, until) = line.iter().find_map(|&at| Some((at, ended(&self.get(at).policy)?)))?;
        let text = format!("Account {} ended at {}.", self.get(account).path, until.rfc3339());
        Some(Loose { account, obstacle: Obstacle::Until, text })
    }

    /// Refuses a model that an account forbids; of one that does not enforce that, what there is to say.
    ///
    /// A model that nobody can name is none of those that a list allows; what knows no models (searches, payments) is
    /// no matter of lists.
    pub(super) fn forbidden(&self, line: &[AccountId], ask: &Ask<'_>) -> Result<Option<Loose>, Denied> {
        let own = (ask.model.is_some() || ask.names_model).then_some(ask.model);
        let mut loose = None;
        for model in own.into_iter().chain(ask.fallbacks.iter().map(|model| Some(model.as_str()))) {
            let told = self.lists(line, model);
            let told = told.map_err(|account| Denied::Model { account, model: model.map(str::to_owned) })?;
            loose = loose.or(told);
        }
        Ok(loose)
    }

    /// Whether an account may use a model: the account that forbids it, or what there is to say of one that does not
    /// enforce that.
    pub fn permit(&self, id: AccountId, model: Option<&str>) -> Result<Option<Loose>, AccountId> {
        self.lists(&self.line(id), model)
    }

    fn lists(&self, line: &[AccountId], model: Option<&str>) -> Result<Option<Loose>, AccountId> {
        let forbids = |account: &Account| match model {
            Some(model) => !account.configured.models.permit(model),
            None => !account.configured.models.allow.is_empty(),
        };
        let mut loose = None;
        for &account in line.iter().filter(|&&at| forbids(self.get(at))) {
            let owner = self.get(account);
            if owner.policy.enforce {
                return Err(account);
            }
            let text =
                format!("Account {} may not use the model {}.", owner.path, model.unwrap_or("that is not named"));
            loose.get_or_insert(Loose { account, obstacle: Obstacle::Model, text });
        }
        Ok(loose)
    }

    /// A grant below what is asked is none while waiting for other holds gives all of it.
    pub(super) fn not_for_others(
        &self,
        line: &[AccountId],
        ask: &Ask<'_>,
        policy: &Effective,
        grant: Grant,
    ) -> Result<Grant, Denied> {
        let without = self.room(line, ask.category, Holds::OnlyParked, ask.degraded, Account::is_enforced);
        if !ask.patient || without.fit(ask.quote, policy).is_none_or(|grant| grant.crowded) {
            return Ok(grant);
        }
        let (on, limit) = self.tightest(line, ask, Account::is_enforced, ask.quote.output_ceiling);
        if self.get(on).holds == 0 {
            return Ok(grant);
        }
        Err(Denied::Wait { on, facts: Box::new(self.facts(on, limit.as_ref(), ask)) })
    }

    /// Why it does not fit: for other holds alone, or at all.
    pub(super) fn deny(&mut self, line: &[AccountId], ask: &Ask<'_>, policy: &Effective) -> Denied {
        let (owner, limit) = self.tightest(line, ask, Account::is_enforced, least_output(ask, policy));
        let facts = Box::new(self.facts(owner, limit.as_ref(), ask));
        let without = self.room(line, ask.category, Holds::OnlyParked, ask.degraded, Account::is_enforced);
        if ask.patient && self.get(owner).holds > 0 && without.fit(ask.quote, policy).is_some() {
            return Denied::Wait { on: owner, facts };
        }
        if let (AtLimit::Degrade(by), false, Some(_)) = (&self.get(owner).policy.at_limit, ask.degraded, &limit) {
            return Denied::Degrade { by: Arc::clone(by), facts };
        }
        let changes = self.after_refusal(line, ask);
        Denied::Budget { account: owner, facts, changes }
    }

    /// The limit with the least room (the deepest of equals), of those that do not hold the request; without one it is
    /// the policy's ceiling that refuses.
    pub(super) fn tightest(
        &self,
        line: &[AccountId],
        ask: &Ask<'_>,
        counts: impl Fn(&Account) -> bool,
        output: u64,
    ) -> (AccountId, Option<Limit>) {
        let needed = amounts_at(ask.quote, output);
        let all = line.iter().filter(|&&at| counts(self.get(at))).flat_map(|&at| {
            let limits = self.get(at).limits.iter().filter(|limit| limit.key.category.covers(ask.category));
            limits.map(move |limit| (at, *limit))
        });
        let lacking = all.map(|(at, limit)| {
            let free = self.free_with_allowance(self.get(at), &limit, Holds::Counted, ask.degraded);
            (free.saturating_sub(needed.of(limit.key.unit)), at, limit)
        });
        let lacking = lacking.filter(|(over, ..)| *over < 0);
        // Dollars first: a limit in another unit is named where no money is lacking.
        match lacking.min_by_key(|(over, _, limit)| (limit.key.unit, *over)) {
            Some((_, at, limit)) => (at, Some(limit)),
            None => (line[0], None),
        }
    }

    /// How a limit stands for a request that asks for more; without one, the policy's ceiling of one request.
    pub(super) fn facts(&self, owner: AccountId, limit: Option<&Limit>, ask: &Ask<'_>) -> BudgetFacts {
        let account = self.get(owner);
        let policy = &account.policy;
        let Some(limit) = limit else {
            let of_cost = policy.max_cost.map(|cost| format!("max_cost ${cost}"));
            let of_output = policy.max_output_tokens.map(|tokens| format!("max_output_tokens {tokens}"));
            let zero = Measure { unit: Unit::Usd, amount: 0 };
            return BudgetFacts {
                account: account.path.to_string(),
                limit: of_cost.into_iter().chain(of_output).collect::<Vec<_>>().join(", "),
                category: ask.category.as_str(),
                spent: zero,
                held: zero,
                needed: Measure { unit: Unit::Usd, amount: needed(ask, policy).usd.get() },
                reset: None,
                remedy: Remedy::Ceiling,
            };
        };
        BudgetFacts {
            account: account.path.to_string(),
            limit: limit.describe(),
            category: limit.key.category.as_str(),
            spent: limit.measure(self.used_of(account, limit)),
            held: limit.measure(account.held_of(limit)),
            needed: limit.measure(needed(ask, policy).of(limit.key.unit)),
            reset: self.calendar.reset(limit.key.window).map(Timestamp::rfc3339),
            remedy: match limit.key.unit {
                Unit::Usd if limit.key == LimitKey::BUDGET => Remedy::Fund,
                Unit::Usd => Remedy::Extend,
                Unit::Tokens | Unit::Requests => Remedy::Config,
            },
        }
    }
}

/// The least that would have had to fit.
fn needed(ask: &Ask<'_>, policy: &Effective) -> Amounts {
    amounts_at(ask.quote, least_output(ask, policy))
}

fn least_output(ask: &Ask<'_>, policy: &Effective) -> u64 {
    let whole = ask.quote.output_ceiling;
    if clampable(ask.quote, policy.clamp) { whole.min(policy.min_output_tokens) } else { whole }
}
