//! The README names what is metered: whatever is added to a table is added there too.

use std::path::Path;

use meter_agent::{
    config::{Config, keys},
    usage::{DIALECTS, paid::APIS, providers::PROVIDERS},
};

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

/// Every config that the README shows.
fn examples() -> Vec<&'static str> {
    let readme = include_str!("../../README.md");
    readme.split("```toml\n").skip(1).map(|rest| rest.split_once("```").expect("its end").0).collect()
}

#[test]
fn every_config_is_one() {
    assert!(examples().len() >= 2);
    for example in examples() {
        Config::parse(example, Path::new("README.md")).unwrap_or_else(|error| panic!("{error}\n{example}"));
    }
}

#[test]
fn the_longest_config_has_every_key() {
    let example = examples().into_iter().max_by_key(|example| example.len()).expect("an example");
    let has = |key: &str| {
        let keyed = |line: &str| line.starts_with(&format!("{key} = ")) || line.starts_with(&format!("[[{key}]]"));
        let table = format!("[{key}");
        example.lines().any(|line| keyed(line) || line.starts_with(&table) || line.contains(&format!(".{key}]")))
    };
    let missing: Vec<&str> = keys().filter(|key| !has(key)).collect();
    assert!(missing.is_empty(), "not in the config of README.md: {missing:?}");
}
