//! Trust: the certificate authorities that sign for metered hosts, and how agents come to trust them.

pub mod authority;
pub mod bundle;
pub mod env;

pub use authority::{Authority, TrustError};
