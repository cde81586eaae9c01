//! What is worth telling people beside the exchanges: what they did themselves, and what is unusual.
//!
//! Only values; the cashier raises them, and the ledger keeps them.

use serde::{Deserialize, Serialize};

use crate::{accounts::AccountId, clock::Timestamp};

/// Something that happened to an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub time: Timestamp,
    pub account: AccountId,
    pub kind: EventKind,
    /// Who did it, where somebody did.
    pub actor_uid: Option<u32>,
    /// One sentence with the numbers.
    pub text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// Somebody shut an account, or the whole host.
    Revoked,
    Restored,
    Funded,
    Extended,
    TaskOpened,
    TaskClosed,
    ConfigReloaded,
    /// A limit came to a stage, or to a further point that is to be told.
    Stage,
    /// A request was let through that a limit would have refused.
    WouldRefuse,
    /// A request went on beyond its account's limit.
    Overage,
    /// A provider charged more than was set aside.
    Overrun,
    /// A limit is spent faster than planned.
    Pace,
    /// The same request came again and again.
    Repeat,
    /// A day's spend is far above that of the days before.
    Baseline,
}

impl EventKind {
    pub const ALL: [Self; 14] = [
        Self::Revoked,
        Self::Restored,
        Self::Funded,
        Self::Extended,
        Self::TaskOpened,
        Self::TaskClosed,
        Self::ConfigReloaded,
        Self::Stage,
        Self::WouldRefuse,
        Self::Overage,
        Self::Overrun,
        Self::Pace,
        Self::Repeat,
        Self::Baseline,
    ];

    /// Its name in the ledger's file and in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Revoked => "revoked",
            Self::Restored => "restored",
            Self::Funded => "funded",
            Self::Extended => "extended",
            Self::TaskOpened => "task_opened",
            Self::TaskClosed => "task_closed",
            Self::ConfigReloaded => "config_reloaded",
            Self::Stage => "stage",
            Self::WouldRefuse => "would_refuse",
            Self::Overage => "overage",
            Self::Overrun => "overrun",
            Self::Pace => "pace",
            Self::Repeat => "repeat",
            Self::Baseline => "baseline",
        }
    }

    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_has_one_name_in_the_file_and_in_json() {
        for kind in EventKind::ALL {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
            assert_eq!(EventKind::named(kind.as_str()), Some(kind));
        }
    }
}
