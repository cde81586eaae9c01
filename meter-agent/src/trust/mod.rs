//! Trust: the certificate authorities that sign for metered hosts, and how agents come to trust them.

pub mod authority;
pub mod bundle;
mod ca;
pub mod env;
mod scope;

pub use authority::{Authority, TrustError};
