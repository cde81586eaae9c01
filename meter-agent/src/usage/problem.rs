//! What is told to an agent whose request is not served; each dialect puts it into its provider's own shape.

use serde::{Serialize, Serializer, ser::SerializeMap};

use crate::measure::Measure;

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
    /// For example: `Account research, limit total $0.5 (any): $0.4 spent, $0 held, $0.2 needed; it does not reset.`
    pub fn sentence(&self) -> String {
        let reset = self.reset.as_deref().map_or("it does not reset".to_owned(), |at| format!("it resets at {at}"));
        format!(
            "Account {}, limit {} ({}): {} spent, {} held, {} needed; {reset}.",
            self.account, self.limit, self.category, self.spent, self.held, self.needed
        )
    }
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
