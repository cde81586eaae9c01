//! The README names what is metered: whatever is added to a table is added there too.

use meter_agent::usage::{DIALECTS, paid::APIS, providers::PROVIDERS};

#[test]
fn every_provider_dialect_and_paid_api_is_listed() {
    let readme = include_str!("../../README.md");
    let providers = PROVIDERS.iter().map(|provider| provider.id);
    let dialects = DIALECTS.iter().map(|dialect| dialect.name()).filter(|name| !APIS.iter().any(|api| api.id == *name));
    let apis = APIS.iter().map(|api| api.id);
    let missing: Vec<&str> =
        providers.chain(dialects).chain(apis).filter(|id| !readme.contains(&format!("`{id}`"))).collect();
    assert!(missing.is_empty(), "not in README.md: {missing:?}");
}
