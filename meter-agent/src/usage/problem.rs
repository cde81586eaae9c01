//! What is told to an agent whose request is not served; each dialect puts it into its provider's own shape.

use serde::{Serialize, Serializer, ser::SerializeMap};

use crate::measure::{Measure, Unit};

/// What is told to the agent when a request is refused or can't be served; the dialect puts it in its own shape.
#[derive(Clone, Debug, Serialize)]
pub struct Problem {
    pub status: u16,
    /// Machine-readable: `budget_exceeded`, `request_too_large`, `misdirected_request`, `ledger_unavailable`, `bad_gateway`, ...
    pub code: &'static str,
    pub message: String,
    /// Present on a 402.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget: Option<BudgetFacts>,
}

impl Problem {
    /// What an SDK's exception shows: the message and, on a 402, how the limit stands.
    pub fn text(&self) -> String {
        match &self.budget {
            Some(budget) => format!("{} {}", self.message, budget.sentence()),
            None => self.message.clone(),
        }
    }
}

impl BudgetFacts {
    /// How it stands, for people: what is needed is rounded up to a millionth of a dollar.
    pub fn sentence(&self) -> String {
        const MICRO: i64 = 1_000_000;
        let Self { account, limit, category, spent, held, .. } = self;
        let needed = match self.needed.unit {
            Unit::Usd => {
                Measure { amount: self.needed.amount.saturating_add(MICRO - 1) / MICRO * MICRO, ..self.needed }
            }
            Unit::Tokens | Unit::Requests => self.needed,
        };
        if self.remedy == Remedy::Ceiling {
            return format!("Account {account}, one request: {limit}; {needed} needed.");
        }
        let reset = self.reset.as_deref().map_or("it does not reset".to_owned(), |at| format!("it resets at {at}"));
        format!("Account {account}, limit {limit} ({category}): {spent} spent, {held} held, {needed} needed; {reset}.")
    }

    /// What was refused, and what makes room for it.
    pub fn advice(&self) -> String {
        let account = &self.account;
        match self.remedy {
            Remedy::Fund => {
                format!("this request does not fit its budget; add to it with `meter fund {account} USD`")
            }
            Remedy::Extend => format!(
                "this request does not fit its budget; `meter extend {account} --for 1h --by USD` raises it for a time"
            ),
            Remedy::Config => {
                "this request does not fit its limit; raise it in the config, and `meter reload` puts that into force"
                    .to_owned()
            }
            Remedy::Ceiling => "this request is larger than one request may be; lower its output ceiling, or raise \
                `max_cost_usd` or `max_output_tokens` in the config"
                .to_owned(),
        }
    }
}

/// What makes room where a limit refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// The limit is the account's budget.
    Fund,
    /// Another one in dollars.
    Extend,
    /// One in tokens or requests.
    Config,
    /// What one request may be.
    Ceiling,
}

/// Which limit refused, and how it stands. The three measures are in the limit's unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BudgetFacts {
    pub account: String,
    /// For example `total $0.5`.
    pub limit: String,
    pub category: &'static str,
    pub spent: Measure,
    pub held: Measure,
    pub needed: Measure,
    /// When the window resets, RFC 3339; `None` for a total.
    pub reset: Option<String>,
    pub remedy: Remedy,
}

impl BudgetFacts {
    /// What the facts are called in JSON, `spent_usd` or `spent_tokens`, with their values.
    pub fn fields(&self) -> [(String, String); 3] {
        [("spent", self.spent), ("held", self.held), ("needed", self.needed)]
            .map(|(name, measure)| (format!("{name}_{}", measure.unit.as_str()), measure.bare()))
    }
}

impl Serialize for BudgetFacts {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut map = s.serialize_map(Some(7))?;
        map.serialize_entry("account", &self.account)?;
        map.serialize_entry("limit", &self.limit)?;
        map.serialize_entry("category", self.category)?;
        for (name, value) in self.fields() {
            map.serialize_entry(&name, &value)?;
        }
        map.serialize_entry("reset", &self.reset)?;
        map.end()
    }
}
