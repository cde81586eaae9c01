//! What is enforced for an account, and its names in the kernel's record, the ledger and the CLI.

use std::str::FromStr;

use meter_common::state as word;
use serde::{Deserialize, Serialize};

/// The state of one account. `open`, `draining` and `stopped` follow the money; `revoked` and `closed` are set
/// and lifted by people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    Open,
    /// Nothing new is admitted; what was admitted finishes.
    Draining,
    /// Its packets drop too.
    Stopped,
    Revoked,
    Closed,
}

impl State {
    pub const ALL: [Self; 5] = [Self::Open, Self::Draining, Self::Stopped, Self::Revoked, Self::Closed];

    /// The word that the kernel reads.
    pub const fn word(self) -> u32 {
        match self {
            Self::Open => word::OPEN,
            Self::Draining => word::DRAINING,
            Self::Stopped => word::STOPPED,
            Self::Revoked => word::REVOKED,
            Self::Closed => word::CLOSED,
        }
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Draining => "draining",
            Self::Stopped => "stopped",
            Self::Revoked => "revoked",
            Self::Closed => "closed",
        }
    }

    /// Whether money put it there, so that money takes it out again.
    pub const fn follows_money(self) -> bool {
        match self {
            Self::Open | Self::Draining | Self::Stopped => true,
            Self::Revoked | Self::Closed => false,
        }
    }
}

/// How a task ended, as whoever closed it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskStatus {
    Success,
    Failed,
    Abandoned,
}

impl TaskStatus {
    pub const ALL: [Self; 3] = [Self::Success, Self::Failed, Self::Abandoned];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failed => "failed",
            Self::Abandoned => "abandoned",
        }
    }

    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == name)
    }
}

/// A text that names no state.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a state of an account")]
pub struct UnknownState(String);

impl FromStr for State {
    type Err = UnknownState;

    fn from_str(text: &str) -> Result<Self, UnknownState> {
        Self::ALL.into_iter().find(|s| s.as_str() == text).ok_or_else(|| UnknownState(text.to_owned()))
    }
}
