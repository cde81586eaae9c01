//! The keys about money: `[[price]]`, `[[api]]`, `unknown_model` and `plan`.
//!
//! Prices are read from the text of the number, never through a float.

use toml::de::{DeTable, DeValue};

use super::{
    Config,
    mistake::suggestion,
    read::{Reader, Value},
};
use crate::{
    clock::Timestamp,
    money::Pico,
    pricing::{PlanMode, PriceOverride, Settings, TokenRates, UnknownModel},
    usage::{
        hosts::{HostEntry, HostTable, Speaks},
        paid::{Api, OwnCall},
        providers::PROVIDERS,
    },
};

const PRICE_KEYS: [&str; 15] = [
    "provider",
    "model",
    "input_mtok",
    "output_mtok",
    "cache_read_mtok",
    "cache_write_mtok",
    "cache_write_1h_mtok",
    "input_audio_mtok",
    "output_audio_mtok",
    "output_image_mtok",
    "request",
    "per_unit",
    "from",
    "until",
    "max_output_tokens",
];
const API_KEYS: [&str; 7] = ["host", "path", "category", "price_usd", "unit", "pointer", "max_units"];
const UNKNOWN_MODELS: [(&str, UnknownModel); 2] =
    [("dearest", UnknownModel::Dearest), ("refuse", UnknownModel::Refuse)];
const PLANS: [(&str, PlanMode); 2] = [("free", PlanMode::Free), ("count", PlanMode::Count)];

/// Units of a call that states none; a call that states its own is held for so many unless the config knows better.
const UNITS_MAX: u64 = 1;

impl<'i> Reader<'i> {
    pub(super) fn prices(&mut self, table: &DeTable<'i>) -> Settings {
        let unknown_model = table.get("unknown_model").and_then(|v| self.word("unknown_model", v, &UNKNOWN_MODELS));
        let plan = table.get("plan").and_then(|v| self.word("plan", v, &PLANS));
        let overrides = table.get("price").map(|v| self.list("price", v, Self::price)).unwrap_or_default();
        Settings {
            overrides,
            unknown_model: unknown_model.unwrap_or_default(),
            plan: plan.unwrap_or_default(),
            apis: Vec::new(),
        }
    }

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

    fn price(&mut self, entry: &Value<'i>, table: &DeTable<'i>) -> Option<PriceOverride> {
        self.known_keys(table, &PRICE_KEYS, " in `[[price]]`");
        let provider = match table.get("provider") {
            Some(value) => Some(self.seller(value)?),
            None => None,
        };
        let Some(model) = table.get("model") else {
            self.mistake(&entry.span(), "this `[[price]]` has no `model`; add it, or \"*\" for all".to_owned());
            return None;
        };
        let model = self.string("model", model)?.to_owned();
        let mut amount = |key: &str| table.get(key).map(|v| self.amount(key, v));
        let (input, output) = (amount("input_mtok"), amount("output_mtok"));
        let rates = [
            "cache_read_mtok",
            "cache_write_mtok",
            "cache_write_1h_mtok",
            "input_audio_mtok",
            "output_audio_mtok",
            "output_image_mtok",
        ]
        .map(|key| amount(key).flatten());
        let request = amount("request").flatten();
        if input.is_some() != output.is_some() {
            let text =
                "this `[[price]]` has only one of `input_mtok` and `output_mtok`; add the other, if only as \"0\"";
            self.mistake(&entry.span(), text.to_owned());
            return None;
        }
        if input.is_none() && request.is_none() && !table.contains_key("per_unit") {
            let text = "this `[[price]]` has no price; add `input_mtok` and `output_mtok`, `request` or `per_unit`";
            self.mistake(&entry.span(), text.to_owned());
            return None;
        }
        let [cache_read, cache_write, cache_write_1h, input_audio, output_audio, output_image] = rates;
        let tokens = TokenRates {
            input: input.flatten().unwrap_or_default(),
            output: output.flatten().unwrap_or_default(),
            cache_read,
            cache_write,
            cache_write_1h,
            input_audio,
            output_audio,
            output_image,
        };
        let mut price = PriceOverride { provider, model, ..PriceOverride::default() };
        // A price per unit alone leaves the tokens to the lists; one per request is all that the request costs.
        price.card.tokens = (input.is_some() || request.is_some()).then_some(tokens);
        price.card.request = request.unwrap_or_default();
        price.card.maximum_output = table.get("max_output_tokens").and_then(|v| self.count("max_output_tokens", v));
        if let Some(units) = table.get("per_unit") {
            price.card.per_unit = self.per_unit(units)?;
        }
        price.from = table.get("from").and_then(|v| self.day("from", v));
        price.until = table.get("until").and_then(|v| self.day("until", v));
        Some(price)
    }

    /// `{ images = "0.04" }`.
    fn per_unit(&mut self, value: &Value<'i>) -> Option<std::collections::BTreeMap<String, Pico>> {
        let Some(table) = value.get_ref().as_table() else {
            self.mistake(&value.span(), "`per_unit` is not a table; write it like { images = \"0.04\" }".to_owned());
            return None;
        };
        let units =
            table.iter().filter_map(|(name, v)| Some((name.get_ref().to_string(), self.amount("per_unit", v)?)));
        Some(units.collect())
    }

    /// A provider by its id, as in the ledger or in the catalogue.
    fn seller(&mut self, value: &Value<'i>) -> Option<String> {
        let word = self.string("provider", value)?;
        let catalogue = genai_prices::Calculator::bundled().providers().map(genai_prices::ProviderInfo::id);
        let mut known: Vec<&str> = PROVIDERS.iter().flat_map(|p| [p.id, p.price_provider]).chain(catalogue).collect();
        known.sort_unstable();
        known.dedup();
        if known.contains(&word) {
            return Some(word.to_owned());
        }
        self.mistake(&value.span(), format!("there is no provider `{word}`; {}", suggestion(word, &known)));
        None
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
        let category = text(self, "category").filter(|word| self.is_category(word, table));
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

    fn is_category(&mut self, word: &str, table: &DeTable<'i>) -> bool {
        let fits = !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if let (false, Some(value)) = (fits, table.get("category")) {
            let text =
                format!("`{word}` is not a category; use lower-case letters, digits and `-`, like \"web-search\"");
            self.mistake(&value.span(), text);
        }
        fits
    }

    /// Every `[[key]]` that can be read.
    fn list<T>(
        &mut self,
        key: &str,
        value: &Value<'i>,
        read: fn(&mut Self, &Value<'i>, &DeTable<'i>) -> Option<T>,
    ) -> Vec<T> {
        let Some(entries) = value.get_ref().as_array() else {
            let text = format!("`{key}` is not a list; write each one below a line `[[{key}]]`");
            self.mistake(&value.span(), text);
            return Vec::new();
        };
        let mut all = Vec::with_capacity(entries.len());
        for entry in entries {
            match entry.get_ref().as_table() {
                Some(table) => all.extend(read(self, entry, table)),
                None => self.mistake(&entry.span(), format!("not a table; write its keys below a line `[[{key}]]`")),
            }
        }
        all
    }

    fn word<T: Copy>(&mut self, key: &str, value: &Value<'i>, known: &[(&str, T)]) -> Option<T> {
        let word = self.string(key, value)?;
        let found = known.iter().find(|(name, _)| *name == word).map(|(_, meaning)| *meaning);
        if found.is_none() {
            let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
            self.mistake(&value.span(), format!("`{key}` can't be `{word}`; {}", suggestion(word, &names)));
        }
        found
    }

    fn count(&mut self, key: &str, value: &Value<'i>) -> Option<u64> {
        let number = value.get_ref().as_integer().and_then(|n| u64::from_str_radix(n.as_str(), n.radix()).ok());
        let number = number.filter(|n| *n > 0);
        if number.is_none() {
            self.mistake(&value.span(), format!("`{key}` is not a count; write a whole number above 0"));
        }
        number
    }

    /// The start of a day, in UTC.
    fn day(&mut self, key: &str, value: &Value<'i>) -> Option<Timestamp> {
        let text = match value.get_ref() {
            DeValue::String(text) => text.to_string(),
            DeValue::Datetime(date) => date.to_string(),
            DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) | DeValue::Array(_) | DeValue::Table(_) => {
                String::new()
            }
        };
        let day = Timestamp::of_day(&text);
        if day.is_none() {
            self.mistake(&value.span(), format!("`{key}` is not a day; write it like \"2026-11-21\""));
        }
        day
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::ConfigError;

    fn config(text: &str) -> Config {
        Config::parse(text, Path::new("m.toml")).unwrap()
    }

    fn mistakes(text: &str) -> Vec<String> {
        let Err(ConfigError::Mistakes(all)) = Config::parse(text, Path::new("m.toml")) else { panic!("no mistakes") };
        all.0.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn prices_are_read_to_the_last_decimal() {
        let got = config(
            r#"
            unknown_model = "refuse"
            plan = "count"
            [[price]]
            provider = "vertex"
            model = "gemini-*"
            input_mtok = "0.123456789012"
            output_mtok = 10
            cache_read_mtok = "0"
            per_unit = { images = "0.04" }
            from = "2026-01-01"
            until = 2026-02-01
            [[price]]
            model = "*"
            request = "0.005"
            "#,
        );
        let prices = got.prices;
        assert_eq!((prices.unknown_model, prices.plan), (UnknownModel::Refuse, PlanMode::Count));
        let first = &prices.overrides[0];
        assert_eq!(first.card.tokens.unwrap().input, Pico::new(123_456_789_012));
        assert_eq!(first.card.tokens.unwrap().cache_read, Some(Pico::ZERO));
        assert_eq!(first.card.per_unit["images"].to_string(), "0.04");
        assert_eq!(first.from.unwrap().rfc3339().get(..10), Some("2026-01-01"));
        assert_eq!(first.until.unwrap().rfc3339().get(..10), Some("2026-02-01"));
        assert_eq!(prices.overrides[1].card.request.to_string(), "0.005");
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

    #[test]
    fn a_local_host_is_named_by_its_provider_and_free() {
        let got = config(
            "[[host]]\nname = \"gpu.example:8000\"\nprovider = \"vllm\"\n[[host]]\nname = \"b.example\"\ndialect = \"openai\"\nprice = \"free\"\n",
        );
        let table = HostTable::new(&got.hosts).unwrap();
        let vllm = table.find("gpu.example", 8000).unwrap();
        assert_eq!((vllm.provider_id, vllm.price_provider), ("vllm", crate::usage::hosts::LOCAL));
        assert_eq!(table.find("b.example", 443).unwrap().price_provider, crate::usage::hosts::LOCAL);
    }

    #[test]
    fn every_mistake_about_money_names_its_fix() {
        for (text, why) in [
            ("plan = \"fre\"", "`plan` can't be `fre`; did you mean `free`?"),
            ("unknown_model = 1", "write it as a string"),
            ("[[price]]\nrequest = 1", "has no `model`"),
            ("[[price]]\nmodel = \"a\"", "has no price"),
            ("[[price]]\nmodel = \"a\"\ninput_mtok = 1", "only one of"),
            ("[[price]]\nmodel = \"a\"\nrequest = -1", "not an amount"),
            ("[[price]]\nmodel = \"a\"\nrequest = 1\nprovider = \"opnai\"", "did you mean `openai`?"),
            ("[[price]]\nmodel = \"a\"\nrequest = 1\nfrom = \"soon\"", "`from` is not a day"),
            ("[[price]]\nmodel = \"a\"\nrequest = 1\nfee = 1", "there is no key `fee`"),
            ("[[api]]\nhost = \"a.example\"\ncategory = \"x\"", "has no `price_usd`"),
            ("[[api]]\nhost = \"a.example\"\ncategory = \"X Y\"\nprice_usd = 1", "not a category"),
            ("[[api]]\nhost = \"a b\"\ncategory = \"x\"\nprice_usd = 1", "[[api]] `a b`"),
            ("[[api]]\nhost = \"a.example\"\ncategory = \"x\"\nprice_usd = 1\npointer = \"u\"", "not a JSON pointer"),
            ("[[host]]\nname = \"a.example\"\ndialect = \"openai\"\nprovider = \"vllm\"", "keep one of the two"),
            ("[[host]]\nname = \"a.example\"\nprovider = \"vlm\"", "did you mean `vllm`?"),
            ("[[host]]\nname = \"a.example\"\nprovider = \"vllm\"\nprice = \"0\"", "can only be \"free\""),
        ] {
            let found = mistakes(text);
            assert!(found.iter().any(|m| m.contains(why)), "{text}: {found:?}");
        }
    }
}
