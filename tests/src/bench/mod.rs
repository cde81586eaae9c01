//! What the meter adds, measured beside other proxies in one run: see `src/bin/bench.rs`.
//!
//! Load and upstream share one core, the proxy under test has another to itself (on a host with one core they share
//! it, and the numbers say little). All traffic is HTTP/1.1 over TLS on both legs.

pub mod admission;
pub mod exchange;
pub mod kernel;
pub mod ledger;
pub mod plain;
pub mod process;
pub mod proxies;
pub mod reader;
pub mod rows;
pub mod stream;
pub mod table;
pub mod wrk;
