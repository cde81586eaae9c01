//! meter: network-layer spend metering for AI agents.
//!
//! The folders are layers; `ARCHITECTURE.md` says what each owns and what must never be.

pub mod accounts;
pub mod cashier;
pub mod cli;
pub mod clock;
pub mod coding;
pub mod config;
pub mod control;
pub mod daemon;
pub mod duration;
pub mod events;
pub mod exchange;
pub mod ids;
pub mod kernel;
pub mod labels;
pub mod ledger;
pub mod measure;
pub mod money;
pub mod pricing;
pub mod proxy;
pub mod replay;
pub mod tasks;
pub mod trust;
pub mod usage;
pub mod users;
