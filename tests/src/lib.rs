//! What the tests stand on: the provider simulator, and the harness that runs `meter` against the real kernel; and the bench.
//!
//! Neither knows how `meter` works inside: they see its command line, its JSON and the network.

#![expect(
    clippy::disallowed_methods,
    reason = "the bans are the product's: a test measures time itself, and the simulator's tasks end with its process"
)]

pub mod bench;
pub mod client;
pub mod harness;
pub mod recorded;
pub mod simulator;
