//! What is told to an agent whose request is not served; each dialect puts it into its provider's own shape.

use serde::Serialize;

use crate::money::Pico;

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
    fn sentence(&self) -> String {
        let reset = self.reset.as_deref().map_or("it does not reset".to_owned(), |at| format!("it resets at {at}"));
        format!(
            "Account {}, limit {} ({}): ${} spent, ${} held, ${} needed; {reset}.",
            self.account, self.limit, self.category, self.spent_usd, self.held_usd, self.needed_usd
        )
    }
}

/// Which limit refused, and how it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BudgetFacts {
    pub account: String,
    /// For example `total $0.5`.
    pub limit: String,
    pub category: &'static str,
    pub spent_usd: Pico,
    pub held_usd: Pico,
    pub needed_usd: Pico,
    /// When the window resets, RFC 3339; `None` for a total.
    pub reset: Option<String>,
}
