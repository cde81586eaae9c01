//! `[[api]]`: any other HTTP API that costs money, by its calls.

use toml::de::DeTable;

use super::{Config, read::Reader, values::Value};
use crate::usage::{
    hosts::{HostEntry, HostTable, Speaks},
    paid::{Api, OwnCall},
};

const API_KEYS: [&str; 7] = ["host", "path", "category", "price_usd", "unit", "pointer", "max_units"];
/// Units of a call that states none; a call that states its own is held for so many unless the config knows better.
const UNITS_MAX: u64 = 1;

impl<'i> Reader<'i> {
    /// One host's calls are one API, and its host is metered.
    pub(super) fn apis(&mut self, value: &Value<'i>, config: &mut Config) {
        let mut hosts: Vec<(String, String, Vec<OwnCall>)> = Vec::new();
        for (host, category, call, at) in self.list("api", value, Self::api) {
            match hosts.iter_mut().find(|(name, ..)| *name == host) {
                Some((_, other, _)) if *other != category => {
                    self.mistake(&at, format!("the host `{host}` is in category `{other}` already; use one for all"));
                }
                Some((_, _, calls)) if calls.iter().any(|c| c.path == call.path) => {
                    self.mistake(&at, format!("`{host}` has this `path` twice; keep one of the two"));
                }
                Some((_, _, calls)) => calls.push(call),
                None if config.hosts.iter().any(|other| other.name == host) => {
                    self.mistake(&at, format!("the host `{host}` is a `[[host]]` too; keep one of the two"));
                }
                None => hosts.push((host, category, vec![call])),
            }
        }
        for (host, category, calls) in hosts {
            let api = Api::of_config(&host, &category, &calls);
            config.prices.apis.push(api);
            config.hosts.push(HostEntry { name: host, speaks: Speaks::Api(api), free: false });
        }
    }

    fn api(
        &mut self,
        entry: &Value<'i>,
        table: &DeTable<'i>,
    ) -> Option<(String, String, OwnCall, std::ops::Range<usize>)> {
        self.known_keys(table, &API_KEYS, " in `[[api]]`");
        for key in ["host", "category", "price_usd"] {
            if !table.contains_key(key) {
                self.mistake(&entry.span(), format!("this `[[api]]` has no `{key}`; add it"));
            }
        }
        let text = |reader: &mut Self, key: &str| table.get(key).and_then(|v| reader.string(key, v)).map(str::to_owned);
        let path = text(self, "path").unwrap_or_else(|| "*".to_owned());
        let unit = text(self, "unit").unwrap_or_else(|| "requests".to_owned());
        let pointer = text(self, "pointer");
        if let (Some(pointer), Some(value)) = (&pointer, table.get("pointer"))
            && !pointer.starts_with('/')
        {
            let text = "`pointer` is not a JSON pointer; write it like \"/usage/credits\"";
            self.mistake(&value.span(), text.to_owned());
        }
        let most = table.get("max_units").and_then(|v| self.count("max_units", v)).unwrap_or(UNITS_MAX);
        let price = table.get("price_usd").and_then(|v| self.amount("price_usd", v));
        let category = table.get("category").and_then(|v| self.category(v));
        let host = text(self, "host")?.to_ascii_lowercase();
        let at = table.get("host")?.span();
        let call = OwnCall { path, unit, price: price?, pointer, most };
        // Only the host's name is looked at here; its API is made once all of its calls are known.
        if let Err(error) = HostTable::new(&[HostEntry::new(host.as_str(), "openai")]) {
            self.mistake(&at, error.to_string().replace("[[host]]", "[[api]]"));
            return None;
        }
        Some((host, category?, call, at))
    }

    /// The name of a category.
    pub(super) fn category(&mut self, value: &Value<'i>) -> Option<String> {
        let word = self.string("category", value)?;
        if is_category(word) {
            return Some(word.to_owned());
        }
        let text = format!("`{word}` is not a category; use lower-case letters, digits and `-`, like \"web-search\"");
        self.mistake(&value.span(), text);
        None
    }
}

fn is_category(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::{config::Config, usage::hosts::HostTable};

    fn config(text: &str) -> Config {
        Config::parse(text, Path::new("m.toml")).unwrap()
    }

    #[test]
    fn an_api_is_a_host_with_calls_of_its_own() {
        let got = config(
            r#"
            [[api]]
            host = "Weather.example.com"
            path = "/v1/forecast*"
            category = "weather"
            price_usd = "0.002"
            [[api]]
            host = "weather.example.com"
            path = "/v1/history"
            category = "weather"
            price_usd = "0.0001"
            unit = "credits"
            pointer = "/usage/credits"
            max_units = 50
            "#,
        );
        let api = got.prices.apis[0];
        assert_eq!((api.id, api.category, api.calls.len()), ("weather.example.com", "weather", 2));
        let found = HostTable::new(&got.hosts).unwrap().find("weather.example.com", 443).unwrap();
        assert_eq!((found.provider_id, found.category, found.added), ("weather.example.com", "weather", Some(0)));
    }
}
