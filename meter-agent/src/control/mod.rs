//! The API on a unix socket: what the command line asks the daemon for.
//!
//! Whoever can open the socket is an operator (its mode decides), except from inside an account's cgroup: an agent
//! can look, and open tasks below its own account, and nothing else.

pub mod client;
pub mod in_force;
pub mod peer;
mod people;
pub mod price_files;
pub mod refusals;
pub mod registry;
pub mod reload;
pub mod report;
pub mod server;
pub mod service;
pub mod wire;
